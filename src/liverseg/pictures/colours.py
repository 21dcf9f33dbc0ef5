"""The colours of classes and of outcomes, told apart also by eyes without red or green receptors.

Distances are CIEDE2000 (Sharma et al. 2005), also as seen by dichromats, simulated by Machado et
al. 2009, "A physiologically-based model for simulation of color vision deficiency",
https://doi.org/10.1109/TVCG.2009.113, at severity 1. The tests measure them.
"""

import colorsys

from liverseg.labels import IGNORED

Colour = tuple[int, int, int]

# Found by a search that made the smallest distance of any two of them, or of one and black, as
# large as it could; the most distant come first.
CLASS_COLOURS: tuple[Colour, ...] = (
    (255, 248, 0),
    (130, 174, 255),
    (77, 146, 120),
    (0, 0, 255),
    (216, 255, 240),
    (142, 60, 0),
    (48, 150, 165),
    (139, 187, 180),
    (85, 196, 138),
    (0, 107, 136),
    (180, 107, 1),
    (52, 102, 79),
    (2, 0, 46),
    (119, 240, 254),
    (245, 146, 0),
    (0, 37, 133),
    (101, 109, 255),
    (253, 255, 186),
    (88, 17, 0),
    (74, 47, 66),
)
HATCHING: tuple[Colour, Colour] = ((190, 190, 190), (80, 80, 80))  # stripes of ignored pixels

# Apart from one another and from dark grey by 30 in CIELAB and more.
OUTCOME_COLOURS: dict[str, Colour] = {
    "right": (235, 235, 235),  # true positive
    "missed": (60, 150, 255),  # false negative: background is predicted
    "false": (255, 140, 0),  # false positive: the truth is background
    "wrong class": (150, 0, 150),  # both: another foreground class is predicted
}


def class_colour(index: int) -> Colour:
    """Return the colour of a class as red, green, blue in 0 ... 255; black for background.

    More classes than :data:`CLASS_COLOURS` are not all easy to tell apart.
    """
    if index == 0:
        return (0, 0, 0)
    if index == IGNORED:
        return HATCHING[1]
    if index <= len(CLASS_COLOURS):
        return CLASS_COLOURS[index - 1]
    hue = index * 0.381966 % 1  # the golden angle keeps neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
