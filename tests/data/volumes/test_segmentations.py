import logging
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from scans import body, organs, save_series, slices_of

from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.dicom import read_header
from liverseg.data.volumes.finding import find_cases
from liverseg.data.volumes.segmentations import read_segmentation, write_segmentation
from liverseg.data.volumes.series import find_series, read_series


def segment(folder: Path, label: np.ndarray, kind: str = "BINARY", **options: object) -> Path:
    """Write a label (axes R A S) as a DICOM SEG of the series in a folder, by highdicom."""
    sources = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    slices = slices_of(label)
    numbers = sorted(set(np.unique(label).tolist()) - {0})
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"organ {number}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number in numbers
    ]
    pixels = slices if kind == "LABELMAP" else np.stack([slices == n for n in numbers], axis=-1)
    if kind == "FRACTIONAL":
        pixels = pixels * 0.6
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="nobody",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    path = folder.parent / "seg.dcm"
    made.save_as(path)
    return path


def read(folder: Path, path: Path, classes: dict | None = None, tolerance: float = 0.005):
    (series,), _ = find_series(folder)
    volume = read_series(series)
    header = read_header(path)
    assert header is not None
    return volume, header, read_segmentation(header, volume, ClassMap(classes), tolerance)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("omit", [True, False])
def test_segments_come_back_where_they_were(kind: str, omit: bool, tmp_path: Path) -> None:
    save_series(tmp_path / "ct", slices_of(body()))
    path = segment(tmp_path / "ct", organs(), kind, omit_empty_frames=omit)
    _, header, (label, others) = read(tmp_path / "ct", path)
    wanted = slices_of(organs()).transpose(2, 1, 0)
    np.testing.assert_array_equal(label, wanted)
    assert others == []
    (series,), _ = find_series(tmp_path / "ct")
    assert header.refers_to == (series.uid,)
    assert header.modality == "SEG"


def test_segments_become_classes_and_others_are_told(tmp_path: Path) -> None:
    save_series(tmp_path / "ct", slices_of(body()))
    path = segment(tmp_path / "ct", organs())
    _, _, (label, others) = read(tmp_path / "ct", path, {"liver": [1, 3]})
    wanted = np.isin(slices_of(organs()), (1, 3)).transpose(2, 1, 0)
    np.testing.assert_array_equal(label, wanted)
    assert others == [2]


def test_a_segmentation_of_another_place_is_refused(tmp_path: Path) -> None:
    save_series(tmp_path / "ct", slices_of(body()))
    path = segment(tmp_path / "ct", organs())
    save_series(tmp_path / "other", slices_of(body()), origin=(20.2, -30, 7))
    with pytest.raises(ValueError, match=r"seg\.dcm lies 0\.2 mm off the voxels of .*other"):
        read(tmp_path / "other", path)
    save_series(tmp_path / "far", slices_of(body()), origin=(220, -30, 7))
    with pytest.raises(ValueError, match=r"seg\.dcm lies outside of"):
        read(tmp_path / "far", path)


def test_overlapping_segments_of_two_classes_are_refused_and_of_one_are_not(tmp_path: Path) -> None:
    save_series(tmp_path / "ct", slices_of(body()))
    label = np.zeros_like(organs())
    label[2, 2, 1:3] = (1, 2)
    path = segment(tmp_path / "ct", label)
    dataset = pydicom.dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:  # all at one place
        group.PlanePositionSequence[0].ImagePositionPatient = [20, -30, 9.5]
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"two segments.*one class"):
        read(tmp_path / "ct", path)
    _, _, (label, _) = read(tmp_path / "ct", path, {"any": [1, 2]})
    assert label.max() == 1


def test_a_full_disk_is_not_blamed_on_headers_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    save_series(tmp_path / "ct", slices_of(body()))
    monkeypatch.setattr("highdicom.seg.Segmentation.save_as", full)
    volume = read_series(find_series(tmp_path / "ct")[0][0])
    label = np.ones(volume.voxels.shape, np.uint8)
    with pytest.raises(OSError, match="No space left"):
        write_segmentation(tmp_path / "a.dcm", label, volume, {1: "liver"})
    assert [one.name for one in tmp_path.iterdir()] == ["ct"]


def test_a_seg_is_known_by_its_content_among_the_series(tmp_path: Path) -> None:
    save_series(tmp_path / "anna" / "ct", slices_of(body()))
    segment(tmp_path / "anna" / "ct", organs()).rename(tmp_path / "anna" / "1-1.dcm")
    (case,) = find_cases(tmp_path, tmp_path)
    assert (case.name, getattr(case.label, "path", None)) == ("anna", tmp_path / "anna" / "1-1.dcm")


def test_a_seg_is_written_without_a_word_of_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_series(tmp_path / "ct", slices_of(body()))
    volume = read_series(find_series(tmp_path / "ct")[0][0])
    with caplog.at_level(logging.INFO):
        write_segmentation(
            tmp_path / "a.dcm", np.ones(volume.voxels.shape, np.uint8), volume, {1: "a"}
        )
    assert caplog.records == []
