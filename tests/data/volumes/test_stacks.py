import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from scans import body, organs, save, save_series, series_affine, slices_of

from liverseg.data.volumes import ClassMap, find_cases, read_label, read_source, slicing_of

MR = {1: 63, 2: 126, 3: 189}
ORGANS = {"liver": 63, "right_kidney": 126, "left_kidney": 189, "spleen": 252}


def save_pngs(folder: Path, labels: np.ndarray, names: Callable[[int], str], **values: Any) -> None:
    """Write labels (K, rows, columns) with the values of CHAOS."""
    folder.mkdir(parents=True, exist_ok=True)
    table = np.array([0, *values.get("of", MR).values()], np.uint8)
    for place, label in enumerate(labels):
        Image.fromarray(table[label]).save(folder / names(place))


def save_chaos(root: Path) -> None:
    """A CT and both sequences of an MR as CHAOS has them: files count from the head down."""
    down = {"step": (0, 0, -2.5), "origin": (20.0, -30.0, 17.0)}
    stored, labels = slices_of(body())[::-1], slices_of(organs())[::-1]
    save_series(root / "CT" / "1" / "DICOM_anon", stored, name="i{:04},0000b.dcm", **down)
    of = {1: 255, 2: 0, 3: 0}
    save_pngs(root / "CT" / "1" / "Ground", labels, lambda k: f"liver_GT_{k:03}.png", of=of)
    dual = root / "MR" / "2" / "T1DUAL"
    same = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3", "Modality": "MR"}
    for phase, first in (("InPhase", 2), ("OutPhase", 1)):
        made = save_series(dual / "DICOM_anon" / phase, stored, **down, **same)
        for place, path in enumerate(made):
            path.rename(path.with_name(f"IMG-0004-{2 * place + first:05}.dcm"))
    save_pngs(dual / "Ground", labels, lambda k: f"IMG-0004-{2 * k + 2:05}.png")
    spir = root / "MR" / "2" / "T2SPIR"
    uids = {"SeriesInstanceUID": lambda k: generate_uid(), "Modality": "MR"}  # one each
    save_series(spir / "DICOM_anon", stored, name="IMG-0002-{:05}.dcm", **down, **uids)
    save_pngs(spir / "Ground", labels, lambda k: f"IMG-0002-{k:05}.png")


def label_of(case: Any, classes: ClassMap) -> np.ndarray:
    volume = read_source(case.source)
    label, others = read_label(case.label, volume, classes, 0.01, None)
    assert others == []
    cut: np.ndarray = slicing_of(volume, "axial").cut(label)
    return cut


def expected(label: np.ndarray) -> np.ndarray:
    return label[::-1, ::-1].transpose(2, 1, 0)


def test_chaos_is_read_as_it_lies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_chaos(tmp_path)
    (ct,) = find_cases(tmp_path / "CT", tmp_path / "CT")
    assert (ct.name, ct.patient, ct.fault) == ("1", "1", "")
    for classes in (ClassMap(None), ClassMap({"liver": 255}), ClassMap({"liver": 1})):
        np.testing.assert_array_equal(label_of(ct, classes), expected(organs() == 1))
    cases = find_cases(tmp_path / "MR", tmp_path / "MR")
    assert [(one.name, one.patient, one.fault) for one in cases] == [
        ("2_T1DUAL_InPhase", "2", ""),
        ("2_T1DUAL_OutPhase", "2", ""),
        ("2_T2SPIR", "2", ""),
    ]
    for case in cases:
        np.testing.assert_array_equal(label_of(case, ClassMap(ORGANS)), expected(organs()))
    assert caplog.text == ""
    both = find_cases(tmp_path, tmp_path)
    assert [case.patient for case in both] == ["1", "2", "2", "2"]
    assert not any(case.fault for case in both)
    (one,) = find_cases(tmp_path / "CT" / "1" / "DICOM_anon", tmp_path / "CT" / "1" / "Ground")
    assert (one.name, one.patient) == ("1", "1")
    pattern = str(tmp_path / "MR" / "*" / "T1DUAL" / "DICOM_anon" / "InPhase")
    (one,) = find_cases(pattern, str(tmp_path / "MR" / "*" / "T1DUAL" / "Ground"))
    np.testing.assert_array_equal(label_of(one, ClassMap(ORGANS)), expected(organs()))


def test_an_order_that_fits_worse_than_its_reverse_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = np.zeros((5, 6, 7), np.int16)
    labels = np.zeros((5, 6, 7), np.uint8)
    for place in range(5):  # dark where there is no label
        stored[place, :, : place + 1] = 100 + np.arange(6)[:, None]
        labels[4 - place, :, : place + 1] = 1
    save_series(tmp_path / "1" / "DICOM_anon", stored)
    save_pngs(tmp_path / "1" / "Ground", labels, lambda k: f"{k}.png")
    (case,) = find_cases(tmp_path, tmp_path)
    with caplog.at_level(logging.WARNING):
        label_of(case, ClassMap({"liver": 63}))
    assert "if its files belonged to the slices of" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "liver_GT_002.png").unlink(), "holds 4 PNG files, and .* 5 slic"),
        (
            lambda folder: Image.new("L", (6, 6)).save(folder / "liver_GT_002.png"),
            r"liver_GT_002\.png is 6 x 6 \(height x width\), and its slice is 6 x 7",
        ),
        (
            lambda folder: Image.new("RGB", (7, 6)).save(folder / "liver_GT_002.png"),
            r"liver_GT_002\.png holds colours",
        ),
        (
            lambda folder: (folder / "liver_GT_002.png").write_bytes(b"\x89PNG"),
            r"liver_GT_002\.png cannot be read",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(
    spoil: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    save_chaos(tmp_path)
    spoil(tmp_path / "CT" / "1" / "Ground")
    (case,) = find_cases(tmp_path / "CT", tmp_path / "CT")
    with pytest.raises(ValueError, match=sentence):
        label_of(case, ClassMap(None))


def test_pngs_are_no_label_of_a_nifti_volume(tmp_path: Path) -> None:
    save(tmp_path / "1.nii", body(), series_affine())
    save_pngs(tmp_path / "1" / "Ground", slices_of(organs()), lambda k: f"{k}.png")
    (case,) = find_cases(tmp_path / "1.nii", tmp_path / "1")
    with pytest.raises(ValueError, match="belong to DICOM series of a file per slice"):
        label_of(case, ClassMap(None))
