import os
import re
from pathlib import Path

import pytest
from PIL import Image

from liverseg.prediction.sources import find_images, output_names


def save(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (6, 4), 100).save(path)
    return path


def test_a_folder_gives_its_images_of_every_format_without_masks_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    images = ["a.png", "b.JPG", "c.bmp", "d.tif"]
    for name in (*images, "a_mask.png", ".hidden.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_images(tmp_path)] == images
    assert "left out, as no images by their names: notes.txt" in caplog.text


def test_a_file_a_pattern_and_a_list_are_taken(tmp_path: Path) -> None:
    a, b, c = (save(tmp_path / name) for name in ("a.png", "b.tif", "c.tif"))
    save(tmp_path / "c_mask.tif")
    assert find_images(str(b)) == [b]
    assert find_images(f"{tmp_path}/*.tif") == [b, c]
    assert find_images([str(a), f"{tmp_path}/?.png", str(c)]) == [a, c]  # a once


def test_a_pattern_leaves_out_masks_that_lie_beside_images_unless_it_names_them(
    tmp_path: Path,
) -> None:
    image, mask = (tmp_path / "set" / kind / "a.png" for kind in ("images", "masks"))
    other = tmp_path / "other" / "masks" / "b.png"  # a folder of that name, and no images beside it
    for file in (image, mask, other):
        file.parent.mkdir(parents=True)
        save(file)
    assert find_images(f"{tmp_path}/**/*.png") == [other, image]
    assert find_images(f"{tmp_path}/*/masks/*.png") == [other, mask]


def test_a_folder_whose_name_is_a_pattern_is_that_folder(tmp_path: Path) -> None:
    image = save(tmp_path / "set[1]" / "a.png")
    assert find_images(str(image.parent)) == [image]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("none", "source={}/none does not exist; name an image or a folder"),
        (
            "scan.mha",
            "source={}/scan.mha is no image that can be read; name an image or a folder (volumes "
            "are read as NIfTI, .nii or .nii.gz, or as DICOM: convert others)",
        ),
        (
            "scans",
            "source={}/scans holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name an "
            "image or a folder of them (volumes are read as NIfTI, .nii or .nii.gz, or as DICOM: "
            "convert others)",
        ),
        ("pipe", "source={}/pipe is no regular file; name an image or a folder"),
        (
            "empty",
            "source={}/empty holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name an "
            "image or a folder of them",
        ),
        (
            "*.tif",
            "source={}/*.tif holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name an "
            "image or a folder of them",
        ),
        (
            "nested",
            "source={0}/nested holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name a "
            "folder in it, such as {0}/nested/a, or all: 'source={0}/nested/**/*.png'",
        ),
        (
            "photographs",
            "source={0}/photographs holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); "
            "name a folder in it, such as {0}/photographs/images, or all: "
            "'source={0}/photographs/**/*.jpg'",
        ),
        (
            "labelled",
            "source={0}/labelled holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name a "
            "folder in it, such as {0}/labelled/images",
        ),
        (
            "drive",
            "source={0}/drive holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp ...); name a "
            "folder in it, such as {0}/drive/original",
        ),
    ],
)
def test_a_source_without_an_image_is_named(source: str, sentence: str, tmp_path: Path) -> None:
    for name in ("scan.mha", "scans/a.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "drive" / "docs").mkdir(parents=True)
    (tmp_path / "nested" / "a").mkdir(parents=True)
    for name in (
        "photographs/images/a.jpg",
        "labelled/images/a.jpg",
        "labelled/labels/a_id.png",
        "drive/1st_manual/a_1.png",
        "drive/original/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        save(tmp_path / name)
    save(tmp_path / "nested" / "a" / "b.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        find_images(f"{tmp_path}/{source}")
    assert str(caught.value) == sentence.format(tmp_path)
    assert len(find_images(f"{tmp_path}/nested/**/*.png")) == 1


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^source=\[\] names nothing; name an image or a folder$"):
        find_images([])


def test_files_of_images_with_one_name_keep_their_endings(tmp_path: Path) -> None:
    images = [Path("x") / name for name in ("a.PNG", "a.jpg", "a.png", "b.png")]
    assert output_names(images, tmp_path, ["_prediction.png"]) == ["a.PNG", "a.jpg", "a.png", "b"]


def test_two_images_that_would_write_one_file_are_refused(tmp_path: Path) -> None:
    images = [Path("x/a.png"), Path("y/a.png")]
    sentence = (
        "x/a.png and y/a.png would both be written as a.png_prediction.png; predict them into "
        "different folders (output_dir=...)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        output_names(images, tmp_path, ["_prediction.png"])
