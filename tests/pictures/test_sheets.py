import torch

from liverseg.pictures.colours import class_colour
from liverseg.pictures.lettering import GAP, Lettering
from liverseg.pictures.sheets import Tile, draw_sheet


def tile(height: int, width: int) -> Tile:
    return Tile("name", torch.zeros(1, height, width))


def test_a_row_is_as_high_as_its_highest_image() -> None:
    line = Lettering(0.75).line
    sheet = draw_sheet([tile(32, 64), tile(16, 64), tile(64, 64)], num_columns=2)
    assert sheet.size == (2 * 192 + GAP, (line + 96) + GAP + (line + 192))  # 64 wide becomes 192
    assert sheet.getpixel((0, line + 95)) == (0, 0, 0)
    assert sheet.getpixel((192 + GAP, line + 48)) == (255, 255, 255)  # the flat one has ended
    below = 2 * line + 96 + GAP
    assert sheet.crop((0, below, 192, below + 192)).getcolors() == [(192 * 192, (0, 0, 0))]


def test_a_sheet_is_no_wider_than_its_images() -> None:
    sheet = draw_sheet([tile(64, 64)], num_columns=6)
    assert sheet.width == 192


def test_a_thin_structure_is_whole_on_a_sheet() -> None:
    image, mask = torch.zeros(1, 960, 960), torch.zeros(960, 960, dtype=torch.uint8)
    mask[500:502] = 1  # of five rows that become one
    sheet = draw_sheet([Tile("name", image, mask)])
    line = Lettering(0.75).line
    row = sheet.crop((0, line + 100, 192, line + 101))
    assert row.getcolors() == [(192, class_colour(1))]
