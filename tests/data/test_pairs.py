import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, tensor
from torchvision.transforms import v2

from liverseg.data.images import read_image, resize_image, stored_size
from liverseg.data.masks import MAX_CLASSES, MaskReader
from liverseg.data.pairs import Pair, case_of, find_pairs, is_mask, list_below
from liverseg.data.samples import PairDataset
from liverseg.data.transforms import Augment, Normalize
from liverseg.labels import IGNORED

PLAIN = Normalize(mean=0.0, std=1.0, channels=1)


def exactly(text: object) -> str:
    return f"^{re.escape(str(text))}$"


def save(path: Path, rows: list, mode: str = "L", **options: object) -> Path:
    picture = Image.new(mode, (len(rows[0]), len(rows)))
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + 759 * [255])
    picture.putdata([value for row in rows for value in row])
    picture.save(path, **options)
    return path


def save_pair(folder: Path, name: str, rows: list | None = None, **options: object) -> None:
    folder.mkdir(exist_ok=True)
    save(folder / f"{name}.png", rows or [[0, 51], [102, 255]], **options)
    save(folder / f"{name}_mask.png", [[int(value > 60) for value in row] for row in rows or [[0]]])


# Finding pairs


@pytest.mark.parametrize("image", ["NFC", "NFD"])
@pytest.mark.parametrize("mask", ["NFC", "NFD"])
def test_a_name_in_both_forms_of_unicode_is_one_name(image, mask, tmp_path):
    """An accent is a part of its letter, or a sign of its own, as file systems of macOS have it."""
    save_pair(tmp_path, "a", [[0]])
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}_1"
    for old, form in (("a", image), ("a_mask", mask)):
        new = unicodedata.normalize(form, old.replace("a", name, 1))
        (tmp_path / f"{old}.png").rename(tmp_path / f"{new}.png")
    (pair,) = find_pairs(tmp_path, case_pattern="^(.+)_")
    assert pair.mask.is_file()
    assert unicodedata.normalize("NFC", str(pair.case)) == name[:-2]


def test_pairs_are_found_by_name_and_ordered_by_it(tmp_path):
    for name in ("b", "a_10", "a_9", "mask", "B"):
        save_pair(tmp_path, name, [[0]])
    save_pair(tmp_path, "c", [[0]])
    (tmp_path / "c.png").rename(tmp_path / "c.PNG")
    assert find_pairs(tmp_path) == [
        Pair(name, tmp_path / file, tmp_path / f"{name}_mask.png")
        for name, file in [
            *(("B", "B.png"), ("a_10", "a_10.png"), ("a_9", "a_9.png")),
            *(("b", "b.png"), ("c", "c.PNG"), ("mask", "mask.png")),
        ]
    ]


def test_the_fixture_holds_six_four_and_three_pairs(pair_root):
    found = {split: find_pairs(pair_root / split) for split in ("train", "val", "test")}
    assert [len(pairs) for pairs in found.values()] == [6, 4, 3]
    assert found["val"][0].name == "patient004_slice00"
    assert stored_size(found["val"][0].mask) == (32, 32)


def test_strays_are_ignored(tmp_path):
    save_pair(tmp_path, "a", [[0]])
    for stray in ("notes.txt", "._a.png", "._a_mask.png", "b.svg", "b_mask.svg", "png"):
        (tmp_path / stray).write_text("stray")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        (["a_mask.png"], "a.png has no partner a_mask.png"),
        (["a.png"], "a_mask.png has no partner a.png"),
        (["b.png", "a_mask.png"], "a.png has no partner a_mask.png (and 1 more such files)"),
        (
            ["a.png", "b_mask.png", "c.png"],
            "a_mask.png has no partner a.png (and 2 more such files)",
        ),
    ],
)
def test_a_lone_file_is_named_with_the_partner_it_lacks(tmp_path, removed, sentence):
    for name in "abc":
        save_pair(tmp_path, name, [[0]])
    for file in removed:
        (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=exactly(f"{tmp_path}: {sentence}; add or remove it")):
        find_pairs(tmp_path)


def test_an_image_and_a_mask_of_other_sizes_are_refused(tmp_path):
    save_pair(tmp_path, "a", [[0]])
    save(tmp_path / "a.png", [[0, 0, 0], [0, 0, 0]])
    sentence = (
        f"{tmp_path / 'a_mask.png'} is 1 x 1 (height x width) but its image is 2 x 3; "
        "both must have the same size"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        find_pairs(tmp_path)


def test_a_mask_drawn_on_a_photograph_as_the_sensor_saw_it_is_told(tmp_path):
    save_pair(tmp_path, "a", [[0, 0, 0], [0, 0, 0]])
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    Image.new("L", (3, 2)).save(tmp_path / "a.png", exif=exif)
    sentence = (
        f"{tmp_path / 'a_mask.png'} is 2 x 3 (height x width) but its image is 3 x 2; both must "
        "have the same size; one of them is turned, as a photograph is by what its camera noted "
        "(EXIF)"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        find_pairs(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    sentence = f"data folder {tmp_path / 'train'} does not exist; set data.root"
    with pytest.raises(FileNotFoundError, match=exactly(sentence)):
        find_pairs(tmp_path / "train")


@pytest.mark.parametrize(
    ("files", "census", "remedy"),
    [
        ([], "nothing", "set data.root to the folder above train/ and val/"),
        (
            ["a.svg", "c.txt", "b.SVG"],
            "2 x .svg, 1 x .txt",
            "images are PNG, JPEG, TIFF, BMP, WebP, GIF, PPM or NPY: convert others",
        ),
    ],
)
def test_a_folder_without_pairs_is_refused_with_what_it_holds(tmp_path, files, census, remedy):
    for file in files:
        (tmp_path / file).touch()
    sentence = f"{tmp_path} holds no pair NAME.png + NAME_mask.png (found {census}); {remedy}"
    with pytest.raises(ValueError, match=exactly(sentence)):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("split", "below", "remedy"),
    [
        ("test", (), "put pairs into it, or remove it"),
        ("test", ("images", "masks"), "put pairs into it, or remove it"),
        ("val", (), "put pairs into it"),
        ("train", (), "put pairs into it"),
    ],
)
def test_an_empty_split_beside_one_with_files_needs_pairs(tmp_path, split, below, remedy):
    other = "val" if split == "train" else "train"
    touch(tmp_path / other, ["a.png", "a_mask.png"])
    for folder in (tmp_path / split, *(tmp_path / split / name for name in below)):
        folder.mkdir()
    (tmp_path / split / ".DS_Store").touch()
    with pytest.raises(ValueError, match=f"{re.escape(remedy)}$"):
        find_pairs(tmp_path / split)


def touch(folder, files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


@pytest.mark.parametrize(
    ("files", "remedy"),
    [
        (
            ["images/a.png", "images/b.png", "labels/a.png", "labels/b.png"],
            "images/ and labels/ hold like names, so rename labels/ to masks/",
        ),
        (
            ["aachen/a.png", "aachen/a_mask.png", "ulm/a.png", "ulm/a_mask.png"],
            "files in folders such as aachen/ are found by a cases.csv that names them and their "
            "split; python split.py writes one, which divides them anew",
        ),
        (
            ["aachen/a.png", "bochum/b.png", "ulm/c.png"],
            "files in folders such as aachen/ are found by a cases.csv that names them and their "
            "split; python split.py writes one, which divides them anew",
        ),
    ],
)
def test_a_folder_of_folders_is_refused_with_what_helps(tmp_path, files, remedy):
    touch(tmp_path, files)
    with pytest.raises(ValueError, match=f"{re.escape(remedy)}$"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("images", "masks", "remedy"),
    [
        (
            "imgs/{}.png",
            "labels/{}.png",
            "call the folder of images images/ and that of masks masks/",
        ),
        (
            *("in/{}.jpg", "truth/{}_seg.png"),
            "call the folder of images images/ and that of masks masks/, and set "
            "data.mask_suffix=_seg",
        ),
        (
            *("left/a/{}_left.png", "fine/a/{}_fine_ids.png"),
            "call the folder of images images/ and that of masks masks/, and give image and mask "
            "one name, without _fine_ids and _left",
        ),
        (
            *("train/image/{}.png", "train/label/{}.png"),
            "call the folder of images train/images/ and that of masks train/masks/",
        ),
        ("a/{}_sat.jpg", "a/{}_mask.png", "take _sat out of the names of images"),
        ("train/{}.png", "val/{}.png", "add or remove it"),
        ("a/{}.png", "b/1{}.png", "add or remove it"),
    ],
)
def test_images_and_masks_that_lie_or_are_called_otherwise_are_told_with_what_helps(
    tmp_path, images, masks, remedy
):
    touch(tmp_path, [kind.format(name) for kind in (images, masks) for name in (2, 10, 30)])
    with pytest.raises(ValueError, match=f"{re.escape(remedy)}$") as caught:
        list_below(tmp_path)
    assert "(and 5 more such files); " in str(caught.value)


def test_splits_of_images_and_masks_are_told_with_a_place_for_each(tmp_path):
    folders = ("train", "trainannot", "val", "valannot")
    touch(tmp_path, [f"{folder}/{folder[:3]}{name}.png" for folder in folders for name in "ab"])
    sentence = "of images images/train/ and that of masks masks/train/"
    with pytest.raises(ValueError, match=f"{re.escape(sentence)}$"):
        list_below(tmp_path)


def test_an_end_that_the_images_have_is_told(tmp_path):
    touch(tmp_path, ["2_sat.jpg", "2_mask.png", "10_sat.jpg", "10_mask.png"])
    sentence = (
        f"{tmp_path}: 10_mask.png has no partner 10.png (and 3 more such files); take _sat out of "
        "the names of images"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        find_pairs(tmp_path)


@pytest.mark.parametrize(("image", "mask"), [((4, 6, 5), (6, 5)), ((6, 5), (1, 6, 5))])
def test_an_array_whose_channels_are_first_is_told_as_such(tmp_path, image, mask):
    np.save(tmp_path / "a.npy", np.zeros(image, np.uint8))
    np.save(tmp_path / "a_mask.npy", np.zeros(mask, np.uint8))
    file = tmp_path / ("a.npy" if len(image) == 3 else "a_mask.npy")
    sentence = (
        f"{file} has its channels first; save it with its channels last, as np.moveaxis(array, 0, "
        "-1) has them"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        find_pairs(tmp_path)


def test_a_gif_of_one_frame_is_an_image_or_a_mask(tmp_path):
    save(tmp_path / "a.gif", [[0, 7, 255]])
    save(tmp_path / "a_mask.gif", [[0, 255, 255]])
    (pair,) = find_pairs(tmp_path)
    assert read_image(pair.image, 1).tolist() == [[[0, 7, 255]]]
    assert MaskReader(num_classes=1).read(pair.mask).tolist() == [[0, 1, 1]]


def test_the_folder_above_the_splits_is_recognised_by_its_census(pair_root):
    with pytest.raises(ValueError, match=re.escape("(found 3 x folder); set data.root")):
        find_pairs(pair_root)


@pytest.mark.parametrize(
    ("name", "expected"), [("a_mask.png", True), ("a.png", False), ("a_mask_1.png", False)]
)
def test_a_mask_is_known_by_the_end_of_its_name(name, expected):
    assert is_mask(Path(name)) is expected


def damaged(path: Path, fault: str) -> Path:
    noise = torch.randint(256, (64, 64), generator=torch.Generator().manual_seed(0))
    whole = save(path, noise.tolist()).read_bytes()
    start = whole.index(b"IDAT")
    path.write_bytes(
        {
            "text": b"not an image",
            "empty": b"",
            "header": whole[:20],
            "half": whole[: len(whole) // 2],
            "garbled": whole[: start + 4] + b"\xff" * 99 + whole[start + 103 :],
        }[fault]
    )
    return path


@pytest.mark.parametrize("fault", ["text", "empty", "header"])
@pytest.mark.parametrize("kind", ["", "_mask"])
def test_a_file_that_is_no_image_is_named_when_pairs_are_found(tmp_path, fault, kind):
    save_pair(tmp_path, "a", [[0]])
    file = damaged(tmp_path / f"a{kind}.png", fault)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} cannot be read as an image \("):
        find_pairs(tmp_path)


@pytest.mark.parametrize("fault", ["half", "garbled"])
@pytest.mark.parametrize("read", [lambda file: read_image(file, 1), MaskReader(num_classes=1).read])
def test_a_broken_image_is_named_when_it_is_decoded(tmp_path, fault, read):
    file = damaged(tmp_path / "a.png", fault)
    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(file))} cannot be read as an image \(.+\); "
        r"restore it, or remove it and its partner$",
    ):
        read(file)


# Reading images


@pytest.mark.parametrize(
    ("mode", "pixels", "grey", "colour"),
    [
        ("L", [0, 7, 255], [0, 7, 255], [[0, 7, 255]] * 3),
        ("1", [0, 1, 1], [0, 255, 255], [[0, 255, 255]] * 3),
        ("LA", [(9, 0), (8, 128), (7, 255)], [9, 8, 7], [[9, 8, 7]] * 3),
        # 0.299 R + 0.587 G + 0.114 B: 76.2, 149.7 and 59.8 + 58.7 + 5.7 = 124.2
        (
            *("RGB", [(255, 0, 0), (0, 255, 0), (200, 100, 50)], [76, 150, 124]),
            [[255, 0, 200], [0, 255, 100], [0, 0, 50]],
        ),
        (
            *("RGBA", [(255, 0, 0, 0), (0, 255, 0, 9), (200, 100, 50, 255)], [76, 150, 124]),
            [[255, 0, 200], [0, 255, 100], [0, 0, 50]],
        ),
        ("P", [0, 1, 2], [0, 76, 150], [[0, 255, 0], [0, 0, 255], [0, 0, 0]]),
    ],
)
def test_eight_bit_images_become_grey_or_colour(tmp_path, mode, pixels, grey, colour):
    file = save(tmp_path / "a.png", [pixels], mode)
    one, three = read_image(file, 1), read_image(file, 3)
    assert one.dtype == three.dtype == torch.uint8
    assert one.tolist() == [[grey]]
    assert three.tolist() == [[band] for band in colour]


def test_grey_is_the_luminance_of_the_colours_whatever_the_file_stores(tmp_path):
    file = save(tmp_path / "a.tif", [[(100, 255, 128)]], "YCbCr")
    assert read_image(file, 3).flatten().tolist() == [100, 56, 255]  # 100 + 1.772 * 127 > 255
    assert read_image(file, 1).item() == 92  # 0.299 * 100 + 0.587 * 56 + 0.114 * 255


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_grey_becomes_a_fraction_of_65535(tmp_path, channels):
    file = save(tmp_path / "a.png", [[0, 13107, 65535]], "I;16")
    image = read_image(file, channels)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    torch.testing.assert_close(image, tensor([[[0, 0.2, 1]]]).repeat(channels, 1, 1))


def test_numbers_beyond_sixteen_bits_are_refused(tmp_path):
    file = save(tmp_path / "a.tif", [[-5, 65535, 70000]], "I")
    sentence = (
        f"{file} holds numbers from -5 to 70000, and black and white are 0 and 65535; save what is "
        "to be seen of them (a window) as 8 or 16 bits"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        read_image(file, 1)
    sentence = f"{file} is a mask with numbers from -5 to 70000; class values lie in 0 ... 65535"
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1).read(file)


def test_no_channel_is_refused(tmp_path):
    with pytest.raises(ValueError, match=exactly("data.channels=0 must be at least 1")):
        read_image(save(tmp_path / "a.png", [[0]]), 0)


def test_an_image_is_resized_bilinear_and_antialiased():
    image = tensor([[[0, 0, 96, 96, 192, 192, 0, 0]]], dtype=torch.uint8)
    assert resize_image(image, None) is image
    assert torch.allclose(resize_image(image, (1, 8)), image / 255)
    # weights 9, 11, 13, 15, 15, 13, 11, 9 of 96: (28 * 96 + 28 * 192) / 96
    assert resize_image(image, (1, 1)).item() == pytest.approx(84 / 255)
    assert resize_image(tensor([[[0.0, 1.0]]]), (1, 4)).tolist() == [[[0, 0.25, 0.75, 1]]]


# Reading masks


@pytest.mark.parametrize(
    ("settings", "mode", "pixels", "expected"),
    [
        ({"num_classes": 1}, "L", [0, 1, 1], [0, 1, 1]),
        ({"num_classes": 1}, "L", [0, 255, 255], [0, 1, 1]),
        ({"num_classes": 2}, "L", [0, 255, 0], [0, 1, 0]),
        ({"num_classes": 1}, "1", [0, 1, 0], [0, 1, 0]),
        ({"num_classes": 4}, "L", [3, 1, 2], [3, 1, 2]),
        ({"num_classes": 3}, "P", [2, 1, 0], [2, 1, 0]),
        ({"num_classes": 1}, "RGB", [(0, 0, 0), (255, 255, 255)], [0, 1]),
        ({"num_classes": 1}, "RGBA", [(0, 0, 0, 255), (1, 1, 1, 255)], [0, 1]),
        ({"num_classes": 3}, "LA", [(2, 255), (1, 255)], [2, 1]),
        # soft edges
        ({"num_classes": 1, "mask_threshold": 128}, "L", [0, 127, 128, 255], [0, 0, 1, 1]),
        ({"num_classes": 2, "mask_threshold": 1}, "I;16", [0, 1, 65535], [0, 1, 1]),
        (
            {"num_classes": 1, "mask_threshold": 100, "ignore_index": 7},
            *("L", [6, 7, 100], [0, IGNORED, 1]),
        ),
        # ignored pixels
        ({"num_classes": 1, "ignore_index": 7}, "L", [0, 255, 7], [0, 1, IGNORED]),
        ({"num_classes": 1, "ignore_index": 255}, "L", [0, 1, 1], [0, 1, 1]),
        ({"num_classes": 1, "ignore_index": 255}, "L", [0, 255, 0], [0, IGNORED, 0]),
        ({"num_classes": 1, "ignore_index": 255}, "L", [0, 1, 255], [0, 1, IGNORED]),
        ({"num_classes": 1, "ignore_index": 255}, "1", [0, 1], [0, 1]),
        ({"num_classes": 11, "ignore_index": 11}, "L", [10, 11, 0], [10, IGNORED, 0]),
        ({"num_classes": 3, "ignore_index": 255}, "P", [2, 255, 0], [2, IGNORED, 0]),
        ({"num_classes": 3, "ignore_index": [3, 255]}, "L", [2, 255, 3], [2, IGNORED, IGNORED]),
        ({"num_classes": 1, "ignore_index": [7, 255]}, "L", [1, 255, 7], [1, IGNORED, IGNORED]),
        (
            {"num_classes": 2, "mask_values": [7, 8], "ignore_index": [0, 1]},
            *("L", [8, 0, 1, 7], [1, IGNORED, IGNORED, 0]),
        ),
        # declared values
        ({"num_classes": 1, "mask_values": [0, [1, 2]]}, "L", [0, 1, 2], [0, 1, 1]),
        ({"num_classes": 2, "mask_values": [[0, 2], 1]}, "L", [0, 1, 2], [0, 1, 0]),
        ({"num_classes": 3, "mask_values": (50, 0, 255)}, "L", [0, 50, 255], [1, 0, 2]),
        ({"num_classes": 3, "mask_values": [0, 256, 65535]}, "I;16", [65535, 256, 0], [2, 1, 0]),
        ({"num_classes": MAX_CLASSES}, "L", [MAX_CLASSES - 1, 0], [MAX_CLASSES - 1, 0]),
    ],
)
def test_mask_values_become_class_indices(tmp_path, settings, mode, pixels, expected):
    mask = MaskReader(**settings).read(save(tmp_path / "a_mask.png", [pixels], mode))
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [expected]


REMEDY = (
    "declare them in data.mask_values or data.ignore_index, set data.num_classes=N for several "
    "classes (in train.py with data=pairs), or data.mask_threshold: 1 where all above 0 are one "
    "structure, as in masks of instances, 128 for soft edges"
)
REMEDY_OF_CLASSES = (
    "declare them in data.mask_values, a value or a list of them for each class, raise "
    "data.num_classes, or set data.ignore_index{} where they are to count nowhere"
)


@pytest.mark.parametrize(
    ("settings", "pixels", "sentence"),
    [
        (
            {"num_classes": 1},
            [255, 0, 1],
            "holds 0, 1, 255; declared are 0, 1, 255 (1 and 255 not in one file)",
        ),
        ({"num_classes": 1}, [0, 2, 1], "holds undeclared values (2); declared are 0, 1, 255"),
        (
            {"num_classes": 1},
            [0, 2, 3, 4, 5, 6, 7, 8, 255],
            "holds undeclared values (2, 3, 4, 5, 6, 7, ... (7 values)); declared are 0, 1, 255",
        ),
        (
            {"num_classes": 3, "ignore_index": 7},
            [3, 7],
            "holds undeclared values (3); declared are 0, 1, 2, 7",
        ),
        (
            {"num_classes": 8, "ignore_index": 255},
            [254],
            "holds undeclared values (254); declared are 0, 1, 2, 3, 4, 5, ... (9 values)",
        ),
        ({"num_classes": 3}, [4, 3, 0], "holds undeclared values (3, 4); declared are 0, 1, 2"),
        (
            {"num_classes": 1, "mask_values": [9, [2, 1]]},
            [255, 1],
            "holds undeclared values (255); declared are 1, 2, 9",
        ),
        ({"num_classes": 2}, [0, 1, 256], "holds undeclared values (256); declared are 0, 1, 255"),
    ],
)
def test_an_undeclared_value_is_named_with_its_file_and_remedy(
    tmp_path, settings, pixels, sentence
):
    file = save(tmp_path / "a_mask.png", [pixels], "I;16" if 256 in pixels else "L")
    alone = f"={pixels[0]}" if len(pixels) < 3 else ", a value or a list of them,"
    remedy = REMEDY if settings["num_classes"] < 3 else REMEDY_OF_CLASSES.format(alone)
    with pytest.raises(ValueError, match=exactly(f"{file} {sentence}; {remedy}")):
        MaskReader(**settings).read(file)


@pytest.mark.parametrize(
    ("mode", "pixels", "fault"),
    [
        ("RGB", [(0, 0, 0), (1, 1, 0)], "a coloured mask (RGB)"),
        ("RGBA", [(0, 0, 0, 255), (1, 0, 1, 255)], "a coloured mask (RGBA)"),
        ("RGBA", [(0, 0, 0, 255), (1, 1, 1, 254)], "a mask with transparent pixels"),
        ("LA", [(0, 255), (1, 0)], "a mask with transparent pixels"),
    ],
)
def test_a_coloured_or_transparent_mask_is_refused(tmp_path, mode, pixels, fault):
    file = save(tmp_path / "a_mask.png", [pixels], mode)
    sentence = f"{file} is {fault}; save it with one channel that holds class values"
    if "coloured" in fault:
        sentence += ", or declare its colours in data.mask_colors"
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=2).read(file)


THRESHOLD = (
    "data.mask_threshold=9 is for foreground against background; "
    "leave it null where data.num_classes > 2 or data.mask_values is set"
)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_classes": 0}, "data.num_classes=0 must lie in 1 ... 254"),
        ({"num_classes": 255}, "data.num_classes=255 must lie in 1 ... 254"),
        ({"num_classes": 3, "mask_threshold": 9}, THRESHOLD),
        ({"num_classes": 1, "mask_threshold": 9, "mask_values": [0, 1]}, THRESHOLD),
        (
            {"num_classes": 1, "mask_threshold": 0},
            "data.mask_threshold=0 must lie in 1 ... 65535",
        ),
        (
            {"num_classes": 1, "mask_threshold": 65536},
            "data.mask_threshold=65536 must lie in 1 ... 65535",
        ),
        (
            {"num_classes": 1, "mask_values": [0]},
            "data.mask_values=[0] must name 2 values, one (or a list) per class, background first",
        ),
        (
            {"num_classes": 3, "mask_values": [0, [1, 2]]},
            "data.mask_values=[0, [1, 2]] must name 3 values, one (or a list) per class, "
            "background first",
        ),
        *(
            (
                {"num_classes": 1, "mask_values": values},
                f"data.mask_values={values} must be distinct numbers in 0 ... 65535",
            )
            for values in ([0, 0], [0, [1, 0]], [-1, 0], [0, 65536])
        ),
        *(
            (
                {"num_classes": num_classes, "ignore_index": value},
                f"data.ignore_index={value} is the value of a class too; choose another, "
                "or set data.mask_values",
            )
            for num_classes, value in [(1, 0), (1, 1), (11, 10)]
        ),
        *(
            (
                {"num_classes": 1, "ignore_index": value},
                f"data.ignore_index={value} must lie in 0 ... 65535",
            )
            for value in (-1, 65536)
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(**settings)


@pytest.mark.parametrize("threshold", [1, 65535])
def test_the_outermost_thresholds_are_accepted(tmp_path, threshold):
    file = save(tmp_path / "a_mask.png", [[0, 65534, 65535]], "I;16")
    mask = MaskReader(num_classes=1, mask_threshold=threshold).read(file)
    assert mask.tolist() == [[0, int(threshold == 1), 1]]


# Cases


@pytest.mark.parametrize(
    ("name", "pattern", "case"),
    [
        ("patient001_slice02", r"^(.+)_slice\d+$", "patient001"),
        ("a_slice_1", r"^(.+)_slice\d+$", None),
        ("volume-12_7", r"volume-(\d+)", "12"),
        ("patient001_slice02", "", None),
    ],
)
def test_the_case_is_the_first_group_of_the_pattern(name, pattern, case):
    assert case_of(name, pattern) == case


# The dataset


def dataset_of(folder: Path, **settings: object) -> PairDataset:
    defaults = {"channels": 1, "mask_reader": MaskReader(num_classes=1), "normalize": PLAIN}
    pairs = find_pairs(folder, case_pattern=settings.pop("case_pattern", ""))
    return PairDataset(pairs, **{**defaults, **settings})


def test_a_sample_is_a_normalised_image_and_its_mask(tmp_path):
    save_pair(tmp_path, "a", [[0, 51], [102, 255], [0, 255]])
    dataset = dataset_of(tmp_path, normalize=Normalize(mean=0.5, std=0.25, channels=1))
    sample = dataset[0]
    assert len(dataset) == 1
    assert {type(sample["image"]), type(sample["mask"])} == {Tensor}
    assert (sample["image"].dtype, sample["mask"].dtype) == (torch.float32, torch.uint8)
    expected = tensor([[[-2, -1.2], [-0.4, 2], [-2, 2]]])  # (value / 255 - 0.5) / 0.25
    torch.testing.assert_close(sample["image"], expected)
    assert sample["mask"].tolist() == [[0, 0], [1, 1], [0, 1]]
    assert sample["index"] == 0
    assert dataset.sizes() == [(3, 2)]


def test_colour_images_have_three_channels(pair_root):
    normalize = Normalize(mean=(0, 0, 0), std=(1, 1, 1), channels=3)
    sample = dataset_of(pair_root / "val", channels=3, normalize=normalize)[3]
    assert sample["image"].shape == (3, 32, 32)
    assert sample["image"].is_contiguous()
    assert sample["index"] == 3


def test_cached_and_decoded_samples_are_equal(pair_root):
    augment = Augment({"noise": v2.GaussianNoise(sigma=0.5), "flip": v2.RandomHorizontalFlip()})
    cached, decoded = (
        dataset_of(pair_root / "train", augment=augment, cache_megabytes=megabytes)
        for megabytes in (1, 0)
    )
    assert (cached.is_cached, decoded.is_cached) == (True, False)
    for key in [(index, epoch) for epoch in (0, 1, 0) for index in range(6)]:
        torch.testing.assert_close(cached[key], decoded[key], rtol=0, atol=0)


def test_what_a_caller_does_to_a_sample_leaves_the_cache_alone(pair_root):
    dataset = dataset_of(pair_root / "val", cache_megabytes=1)
    image, mask = dataset[0]["image"].clone(), dataset[0]["mask"].clone()
    sample = dataset[0]
    sample["image"].zero_()
    sample["mask"].fill_(9)
    assert dataset[0]["image"].equal(image)
    assert dataset[0]["mask"].equal(mask)


@pytest.mark.parametrize(
    ("settings", "bytes_of_a_pair"),
    [
        ({}, 2 * 32 * 32),
        ({"channels": 3}, 4 * 32 * 32),
        ({"image_size": (16, 8)}, 4 * 16 * 8 + 32 * 32),  # resized, it is of float32
        ({"image_size": (16, 8), "resize_masks": True}, 4 * 16 * 8 + 32 * 16),  # twice the size
        ({"image_size": (20, 24), "resize_masks": True}, 4 * 20 * 24 + 32 * 32),
        ({"resize_masks": True}, 2 * 32 * 32),
    ],
)
def test_pairs_are_kept_in_memory_only_if_all_fit(pair_root, settings, bytes_of_a_pair):
    limit = 4 * bytes_of_a_pair / 2**20
    for megabytes, expected in [(limit, True), (limit - 2**-20, False)]:
        dataset = dataset_of(pair_root / "val", cache_megabytes=megabytes, **settings)
        assert dataset.is_cached is expected


def test_training_resizes_the_mask_as_well_and_scoring_the_image_alone(tmp_path):
    save_pair(tmp_path, "a", [[0, 0, 255, 255]] * 2)
    train = dataset_of(tmp_path, image_size=(1, 2), resize_masks=True)
    assert train[0]["image"].shape == (1, 1, 2)
    assert train[0]["mask"].tolist() == [[0, 1]]
    assert train.sizes() == [(1, 2)]
    val = dataset_of(tmp_path, image_size=(1, 2))
    assert val[0]["image"].shape == (1, 1, 2)
    assert val[0]["mask"].tolist() == [[0, 0, 1, 1]] * 2
    assert val.sizes() == [(2, 4)]


def test_an_enlarged_mask_repeats_its_values(tmp_path):
    save_pair(tmp_path, "a", [[0, 255, 255], [0, 0, 255]])
    mask = dataset_of(tmp_path, image_size=(6, 9), resize_masks=True)[0]["mask"]
    assert mask.tolist() == [[0] * 3 + [1] * 6] * 3 + [[0] * 6 + [1] * 3] * 3


def test_a_pixel_of_a_smaller_mask_is_of_a_class_as_often_as_the_class_covers_it(tmp_path):
    """Columns of 1.5 old ones: the second covers half of one of class 0 and one of class 2."""
    save_pair(tmp_path, "a")
    save(tmp_path / "a.png", [[0] * 3] * 3)
    save(tmp_path / "a_mask.png", [[0, 0, 2]] * 3)
    reader = MaskReader(num_classes=3)
    train = dataset_of(tmp_path, mask_reader=reader, image_size=(2, 2), resize_masks=True)
    drawn = torch.stack([train[0, epoch]["mask"] for epoch in range(400)])
    assert drawn[:, :, 0].unique().tolist() == [0]
    assert drawn[:, :, 1].unique().tolist() == [0, 2]
    share = (drawn[:, :, 1] == 2).double().mean(dim=0)  # standard deviation 0.024
    assert torch.allclose(share, torch.tensor(2 / 3).double(), atol=0.08)
    assert train[0, 7]["mask"].equal(train[0, 7]["mask"])
    assert train[0]["mask"].shape == (2, 2)
    assert dataset_of(tmp_path, mask_reader=reader, resize_masks=True)[0]["mask"].shape == (3, 3)


def test_of_a_large_mask_no_more_is_kept_than_drawing_needs(tmp_path):
    """Of 12 columns for 2 new ones, 4: those at 1.5, 4.5, 7.5 and 10.5."""
    save_pair(tmp_path, "a")
    save(tmp_path / "a.png", [[0] * 12] * 2)
    save(tmp_path / "a_mask.png", [[0, 1, 2, 0, 2, 0, 0, 1, 0, 0, 2, 0]] * 2)
    reader = MaskReader(num_classes=3)
    settings = {"mask_reader": reader, "image_size": (1, 2), "resize_masks": True}
    for megabytes in (0, 1):
        train = dataset_of(tmp_path, cache_megabytes=megabytes, **settings)
        drawn = {tuple(train[0, epoch]["mask"][0].tolist()) for epoch in range(200)}
        assert drawn == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_a_mask_of_the_right_size_stays_as_it_is(tmp_path):
    save_pair(tmp_path, "a", [[0, 255, 255], [0, 0, 255]])
    state = torch.random.get_rng_state()
    train = dataset_of(tmp_path, image_size=(2, 3), resize_masks=True)
    assert all(train[0, epoch]["mask"].tolist() == [[0, 1, 1], [0, 0, 1]] for epoch in range(20))
    assert torch.random.get_rng_state().equal(state)


def test_augmentation_depends_on_seed_epoch_and_index_alone(pair_root):
    augment = Augment({"noise": v2.GaussianNoise(mean=0.0, sigma=0.1)})

    def image(seed: int, epoch: int, index: int) -> Tensor:
        for name in ("0", "1"):  # twice the same pair
            for kind in ("", "_mask"):
                file = pair_root / "val" / f"patient004_slice00{kind}.png"
                (pair_root / f"{name}{kind}.png").write_bytes(file.read_bytes())
        dataset = dataset_of(pair_root, augment=augment, seed=seed)
        torch.manual_seed(torch.seed())  # whatever happened before
        return dataset[index, epoch]["image"]

    keys = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)]
    images = [image(*key) for key in keys]
    assert all(one.equal(image(*key)) for one, key in zip(images, keys, strict=True))
    assert len({str(one.tolist()) for one in images}) == len(keys)


def test_an_index_alone_means_the_first_epoch(pair_root):
    dataset = dataset_of(pair_root / "val", augment=Augment({"noise": v2.GaussianNoise()}))
    assert dataset[2]["image"].equal(dataset[2, 0]["image"])
    assert not dataset[2]["image"].equal(dataset[2, 1]["image"])


def test_augmentation_leaves_the_global_generator_alone(pair_root):
    dataset = dataset_of(pair_root / "val", augment=Augment({"noise": v2.GaussianNoise()}))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert not dataset[0]["image"].equal(dataset[1]["image"])
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("pattern", "cases", "numbers"),
    [
        (r"^(.+)_slice", ["patient004"] * 2 + ["patient005"] * 2, [0, 0, 1, 1]),
        (r"^(patient004)", ["patient004"] * 2 + [None] * 2, [-1] * 4),
        ("", [None] * 4, [-1] * 4),
    ],
)
def test_cases_are_numbered_unless_a_name_carries_none(pair_root, pattern, cases, numbers):
    dataset = dataset_of(pair_root / "val", case_pattern=pattern)
    assert dataset.cases == cases
    assert [dataset[index]["case"] for index in range(4)] == numbers


def test_a_faulty_mask_is_named_when_it_is_read(pair_root):
    file = save(pair_root / "val" / "patient005_slice02_mask.png", [[7] * 32] * 32)
    sentence = f"{file} holds undeclared values (7); declared are 0"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        dataset_of(pair_root / "val", cache_megabytes=1)
    with pytest.raises(ValueError, match=re.escape(str(file))):
        dataset_of(pair_root / "val")[2]
