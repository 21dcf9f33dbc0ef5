import csv
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scans import affine_of, body, organs, save, save_series, series_affine, slices_of, turned

from liverseg.data.images import read_image
from liverseg.data.pairs import find_pairs
from liverseg.data.volumes import Conversion, convert_volumes, read_conversion

DEFAULT: dict[str, Any] = {
    "window": "soft_tissue",
    "classes": None,
    "plane": None,
    "spacing": None,
    "empty_slices": 1.0,
    "tolerance": 0.005,
    "assume": None,
}


def convert(root: Path, folder: Path | None = None, **how: Any):
    return convert_volumes(
        root / "images", root / "labels", folder or root / "out", Conversion(**{**DEFAULT, **how})
    )


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "cases.csv").read_text().splitlines()))


def seen(voxels: np.ndarray) -> np.ndarray:
    """Axial slices of voxels R A S as they are looked at."""
    return voxels[::-1, ::-1].transpose(2, 1, 0)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two volumes and their labels; the second is stored along other axes."""
    save(tmp_path / "images" / "volume-1.nii", body())
    save(tmp_path / "labels" / "segmentation-1.nii.gz", organs())
    save(tmp_path / "images" / "volume-2.nii.gz", *turned(body(), affine_of(), "SPL"))
    save(tmp_path / "labels" / "segmentation-2.nii", *turned(organs(), affine_of(), "LAI"))
    return tmp_path


def test_volumes_become_pairs_and_a_table(two: Path) -> None:
    done = convert(two)
    assert (done.num_pairs, done.num_cases, done.num_patients, done.refused) == (10, 2, 2, {})
    names = [pair.name for pair in find_pairs(two / "out")]
    assert names == [f"volume-{n}_slice{k:03}" for n in (1, 2) for k in range(5)]
    scaled = np.clip((seen(body()).astype(float) + 150) * 255 / 400, 0, 255)
    for number in (1, 2):
        for k in range(5):
            stem = two / "out" / f"volume-{number}_slice{k:03}"
            np.testing.assert_allclose(pixels(Path(f"{stem}.png")), scaled[k], atol=0.51)
            np.testing.assert_array_equal(pixels(Path(f"{stem}_mask.png")), seen(organs())[k])
    table = rows(two / "out")
    assert [row["name"] for row in table] == names
    assert table[7] == {
        "name": "volume-2_slice002",
        "case": "volume-2",
        "slice": "2",
        "spacing": "0.75x0.5",
        "slice_spacing": "2.5",
        "orientation": "axial",
        "source": str(two / "images" / "volume-2.nii.gz"),
        "window": "soft_tissue (-150 to 250)",
    }


def test_a_dicom_series_goes_with_a_nifti_label_of_other_axes(tmp_path: Path) -> None:
    save_series(tmp_path / "images" / "anna", slices_of(body()))
    save(tmp_path / "labels" / "anna.nii", *turned(organs(), series_affine(), "IRP"))
    convert(tmp_path, window=None)
    for k in range(5):
        stem = tmp_path / "out" / f"anna_slice{k:03}"
        np.testing.assert_array_equal(pixels(Path(f"{stem}.png")), seen(body())[k] + 1024)
        np.testing.assert_array_equal(pixels(Path(f"{stem}_mask.png")), seen(organs())[k])
    image = read_image(tmp_path / "out" / "anna_slice000.png", 1, white_value=4095)
    assert float(image[0, 0, 0]) == pytest.approx((seen(body())[0, 0, 0] + 1024) / 4095)


def test_classes_a_share_of_empty_slices_and_a_spacing(two: Path) -> None:
    convert(two, classes={"all": [1, 2, 3]}, empty_slices=0.5, spacing=[0.25, 0.25])
    table = rows(two / "out")
    # slices 1, 2 and 3 hold something, and of 0 and 4 one is kept
    assert [row["slice"] for row in table if row["case"] == "volume-1"] == ["1", "2", "3", "4"]
    assert {row["spacing"] for row in table} == {"0.25x0.25"}
    mask = pixels(two / "out" / "volume-1_slice001_mask.png")
    whole = (seen(organs())[1] > 0).repeat(3, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(mask, whole * 255)
    assert convert(two, two / "none", empty_slices=0.0).num_pairs == 6


def test_one_bad_volume_stops_no_other_and_is_told(two: Path, caplog) -> None:
    save(two / "images" / "volume-0.nii", body())
    save(two / "labels" / "segmentation-0.nii", organs(), affine_of(origin=(0, 0, 0)))
    save(two / "images" / "volume-9.nii", body())
    (two / "labels" / "segmentation-9.nii").write_bytes(b"\0" * 400)
    save(two / "images" / "volume-5.nii", body())
    with caplog.at_level(logging.ERROR):
        done = convert(two)
    assert done.num_pairs == 10
    assert list(done.refused) == ["volume-0", "volume-5", "volume-9"]
    assert "away from" in done.refused["volume-0"]
    assert "has no label" in done.refused["volume-5"]
    assert "segmentation-9.nii" in done.refused["volume-9"]
    assert len(caplog.records) == 3


def test_the_same_call_goes_on_and_another_is_refused(two: Path, caplog) -> None:
    convert(two)
    before = {path: path.stat().st_mtime_ns for path in (two / "out").glob("*.png")}
    (two / "out" / "volume-2_slice003.png").unlink()
    save(two / "images" / "volume-3.nii", body())
    save(two / "labels" / "segmentation-3.nii", organs())
    with caplog.at_level(logging.INFO):
        assert convert(two).num_pairs == 15
    assert "volume-1: converted earlier" in caplog.text
    for path, time in before.items():
        assert (path.stat().st_mtime_ns == time) == path.name.startswith("volume-1")
    with pytest.raises(ValueError, match=r"was made with window=soft_tissue, but window=lung is"):
        convert(two, window="lung")


def test_a_volume_that_has_changed_is_converted_anew_and_keeps_its_split(two: Path) -> None:
    convert(two)
    table = two / "out" / "cases.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},split", *(f"{line},val" for line in lines[1:])]))
    save(two / "images" / "volume-1.nii", body()[..., :4])
    save(two / "labels" / "segmentation-1.nii.gz", organs()[..., :4])
    assert convert(two).num_pairs == 9
    assert {row["split"] for row in rows(two / "out")} == {"val"}
    assert len(find_pairs(two / "out")) == 9


def test_a_volume_of_another_place_takes_no_name_that_is_taken(two: Path) -> None:
    convert(two)
    before = {path: path.read_bytes() for path in (two / "out").glob("*.png")}
    other = two / "other"
    save(other / "images" / "volume-1.nii", body()[::-1])
    save(other / "labels" / "segmentation-1.nii", organs())
    done = convert(other, two / "out")
    assert "by the name volume-1, which" in done.refused["volume-1"]
    assert {path: path.read_bytes() for path in (two / "out").glob("*.png")} == before
    (two / "images" / "volume-1.nii").rename(two / "volume-1.nii")  # moved, that is
    assert convert(other, two / "out").refused == {}


def test_percentiles_are_told_in_the_table_and_mr_has_no_hounsfield_units(tmp_path: Path) -> None:
    save_series(tmp_path / "images" / "a", slices_of(body()), Modality="MR")
    save(tmp_path / "labels" / "a.nii", organs(), series_affine())
    assert "is MR, which has no Hounsfield units; set window=percentiles" in str(
        convert(tmp_path).refused
    )
    convert(tmp_path, tmp_path / "p", window="percentiles")
    assert rows(tmp_path / "p")[0]["window"].startswith("percentiles (-9")


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_a_kill_at_any_moment_leaves_no_half_pair_and_the_same_call_goes_on(
    steps: int, two: Path
) -> None:
    child = os.fork()
    if child == 0:
        counted = 0

        def replaced(source: Any, target: Any) -> None:
            nonlocal counted
            counted += 1
            os.rename(source, target)
            if counted > steps and not str(target).endswith("_mask.png"):
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replaced
        convert(two)
        os._exit(0)
    os.waitpid(child, 0)
    if list((two / "out").glob("*.png")):
        assert find_pairs(two / "out")
    assert convert(two).num_pairs == 10
    convert(two, two / "whole")
    for folder in (two / "out", two / "whole"):
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    for path in (two / "whole").glob("*.png"):
        assert path.read_bytes() == (two / "out" / path.name).read_bytes()
    assert rows(two / "out") == rows(two / "whole")


def test_a_class_that_no_label_holds_is_named(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    convert(two, classes={"liver": 1, "tumour": 7})
    assert "no label holds a voxel of tumour; look at the values in classes=" in caplog.text
    caplog.clear()
    convert(two, classes={"liver": 1, "tumour": 7})  # nothing is read again
    assert "no label holds" not in caplog.text


def test_how_pairs_were_made_is_read_with_the_planes_of_those_that_train(two: Path) -> None:
    save(two / "images" / "volume-2.nii.gz", body(), affine_of((0.5, 2.5, 0.75)))
    save(two / "labels" / "segmentation-2.nii", organs(), affine_of((0.5, 2.5, 0.75)))
    convert(two)
    assert read_conversion(two / "out") == {**DEFAULT, "planes": ["axial", "coronal"]}
    table = rows(two / "out")
    with (two / "out" / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*table[0], "split"])
        writer.writeheader()
        for row in table:
            split = "Train " if row["orientation"] == "axial" else ""  # left out
            writer.writerow({**row, "split": split})
    assert read_conversion(two / "out") == {**DEFAULT, "planes": ["axial"]}
    (two / "out").rename(two / "train")
    assert read_conversion(two) == {**DEFAULT, "planes": ["axial"]}
    (two / "train" / "cases.csv").unlink()
    assert read_conversion(two) == DEFAULT
