"""All rules, one after the other, and the tables that stand beside what they find."""

from typing import Any

from liverseg.inspection.files import look_at_files
from liverseg.inspection.findings import Finding, in_order
from liverseg.inspection.leaks import look_for_leaks
from liverseg.inspection.masks import images_that_hold, look_at_masks, share_of_class
from liverseg.inspection.oddities import look_for_oddities
from liverseg.inspection.reading import Survey

LOOKED_FOR = {  # with what is tolerated
    "Files": "splits that are missing or empty, files without a partner or with one name, files "
    "that cannot be read, masks of another size than their image, other formats and sizes than "
    "most, images of one value, colours that are read in grey",
    "Values of masks": "values that are not declared, soft edges, compression with loss",
    "Classes": "classes that no mask holds, or none of a split; a share of pixels that differs "
    "fivefold between splits of 10 images and more",
    "Masks": "empty and full masks; specks (components below 0.002 % of the image, 4 pixels at "
    "least); masks at the border; inverted masks",
    "Leaks": "a patient in two splits; the same image twice, equal or nearly (correlation 0.985 of "
    "the whole and 0.95 of what is finer than 2 % of the side), in two splits also flipped or "
    "turned by quarters; one image with two masks, one mask for several images; slices in two "
    "splits that are neighbours by number and in looks",
    "Places": "masks that would fit better elsewhere, by 3 % of the side and more, as their edges "
    "and what they hold say; masks of a patient in reverse order; slices of a patient that run "
    "against those of the others (from 8 patients of 4 slices on)",
    "Brightness": "val and test against train, by the mean distance of nine percentiles, which may "
    "be larger where patients are few",
}


def inspect(survey: Survey) -> list[Finding]:
    """Return what is found in a folder, errors first."""
    rules = (look_at_files, look_for_leaks, look_at_masks, look_for_oddities)
    return in_order(finding for rule in rules for finding in rule(survey))


def tables(survey: Survey) -> dict[str, Any]:
    """Return what each split holds, as plain values."""
    found = {}
    for name, split in survey.splits.items():
        whole = split.whole
        cases = {one.case for one in split.measured} - {None}
        found[name] = {
            "pairs": len(split.pairs),
            "read": len(whole),
            "patients": len(cases),
            "empty_masks": sum(1 for one in whole if not one.foreground(survey.first)),
            "masks_at_the_border": sum(1 for one in whole if one.ring > 0),
            "masks_with_specks": sum(1 for one in whole if one.num_specks),
            "classes": {
                class_name: {
                    "images": images_that_hold(whole, index),
                    "share": share_of_class(whole, index),
                }
                for index, class_name in survey.class_names.items()
            },
            "intensities": split.intensities.statistics(),
        }
    return found
