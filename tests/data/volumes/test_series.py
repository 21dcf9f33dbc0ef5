import base64
import logging
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)
from scans import body, compress, save_series, series_affine, slices_of

from liverseg.data.volumes.finding import find_volumes
from liverseg.data.volumes.geometry import millilitres, slicing_of, spacing_of
from liverseg.data.volumes.series import Series, find_series, read_series


def read(folder: Path):
    (series,), _ = find_series(folder)
    return read_series(series)


def expected() -> np.ndarray:
    """The body's axial slices as they are seen."""
    return body()[::-1, ::-1].transpose(2, 1, 0)


def test_a_series_is_one_volume_wherever_its_numbers_and_names_begin(tmp_path: Path) -> None:
    slices = slices_of(body())
    save_series(tmp_path / "up", slices, name="{:03}")  # no ending
    save_series(tmp_path / "down", slices, InstanceNumber=lambda k: 99 - k, name="x{:03}.ima")
    save_series(tmp_path / "back", slices[::-1], origin=(20, -30, 17), step=(0, 0, -2.5))
    for name in ("up", "down", "back"):
        found = read(tmp_path / name)
        assert found.voxels.dtype == np.int16
        assert found.modality == "CT"
        slicing = slicing_of(found)
        assert (slicing.plane, slicing.spacing) == ("axial", (2.5, 0.75, 0.5))
        np.testing.assert_array_equal(slicing.cut(found.voxels), expected())


def test_voxels_lie_where_nifti_would_have_them(tmp_path: Path) -> None:
    save_series(tmp_path, slices_of(body()))
    found = read(tmp_path)
    for place in ((0, 0, 0), (6, 5, 4), (2, 3, 1)):
        where = series_affine() @ [*place, 1]
        voxel = np.round(np.linalg.inv(found.affine) @ where).astype(int)[:3]
        assert found.voxels[tuple(voxel)] == body()[place]


def test_highdicom_reads_the_same_numbers_in_the_same_places(tmp_path: Path) -> None:
    paths = save_series(tmp_path, slices_of(body()), RescaleSlope=lambda k: k + 1)
    theirs = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])
    ours = read(tmp_path)
    lps = np.diag([-1, -1, 1, 1]) @ ours.affine
    for index in np.ndindex(theirs.spatial_shape):
        voxel = np.linalg.inv(lps) @ theirs.affine @ [*index, 1]
        assert ours.voxels[tuple(np.round(voxel).astype(int)[:3])] == theirs.array[index]


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    save_series(
        tmp_path, slices_of(body()), RescaleSlope=lambda k: 0.5 + k, RescaleIntercept=lambda k: -k
    )
    found = read(tmp_path)
    assert found.voxels.dtype == np.float32
    cut = slicing_of(found).cut(found.voxels)
    for k in range(5):
        np.testing.assert_allclose(cut[k], expected()[k] * (0.5 + k) - k)


@pytest.mark.parametrize(
    ("right", "down", "step", "plane"),
    [
        ((0, 1, 0), (0, 0, -1), (-2.5, 0, 0), "sagittal"),
        ((1, 0, 0), (0, 0, -1), (0, 2.5, 0), "coronal"),
        ((-1, 0, 0), (0, -1, 0), (0, 0, 2.5), "axial"),  # stored upside down
    ],
)
def test_other_directions_are_turned_as_one_looks_at_them(
    right, down, step, plane, tmp_path: Path
) -> None:
    slices = slices_of(body())
    save_series(tmp_path, slices, right=right, down=down, step=step)
    found = read(tmp_path)
    slicing = slicing_of(found)
    assert slicing.plane == plane
    cut = slicing.cut(found.voxels)
    if plane == "axial":
        np.testing.assert_array_equal(cut, slices[:, ::-1, ::-1])
    elif plane == "sagittal":  # from the patient's left to the right
        np.testing.assert_array_equal(cut, slices[::1] if step[0] < 0 else slices[::-1])
    else:  # from back to front
        np.testing.assert_array_equal(cut, slices[::-1])


def remove(folder: Path) -> None:
    (folder / "IMG002.dcm").unlink()


def double(folder: Path) -> None:
    (folder / "copy").write_bytes((folder / "IMG002.dcm").read_bytes())


def change(folder: Path, name: str = "IMG002.dcm", **tags: object) -> None:
    dataset = pydicom.dcmread(folder / name)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(folder / name)


def jitter(folder: Path) -> None:
    change(folder, ImagePositionPatient=[20, -30, 12.3])


def scout(folder: Path) -> None:
    change(folder, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def sizes(folder: Path) -> None:
    change(folder, Rows=3, PixelData=bytes(3 * 7 * 2))


def two_phases(folder: Path) -> None:
    uid = pydicom.dcmread(folder / "IMG000.dcm").SeriesInstanceUID
    save_series(folder, slices_of(body()), name="second{}.dcm", SeriesInstanceUID=uid)


def no_position(folder: Path) -> None:
    change(folder, ImagePositionPatient=None)


def no_spacing(folder: Path) -> None:
    change(folder, PixelSpacing=None)


def cut_short(folder: Path) -> None:
    path = folder / "IMG002.dcm"
    path.write_bytes(path.read_bytes()[:-20])


def colour(folder: Path) -> None:
    change(
        folder,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=bytes(6 * 7 * 6),
    )


def odd_slope(folder: Path) -> None:
    change(folder, RescaleSlope="0")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (remove, r"lacks slices: IMG001\.dcm and IMG003\.dcm are 5 mm apart, others 2\.5"),
        (double, r"holds 1 slice at the place of another, such as (IMG002\.dcm|copy) and"),
        (jitter, r"not regularly spaced: IMG002\.dcm lies 0\.3 mm off"),
        (scout, r"several directions or spacings \(a scout\?\): IMG002\.dcm differs.*take it out"),
        (sizes, r"several sizes \(3 x 7 in IMG002\.dcm\)"),
        (two_phases, r"holds 5 slices at the place of another.*phases"),
        (no_position, r"IMG002\.dcm has no ImagePositionPatient"),
        (no_spacing, r"IMG002\.dcm has no PixelSpacing"),
        (cut_short, r"IMG002\.dcm cannot be (decoded|read as DICOM)"),
        (colour, r"IMG002\.dcm cannot be decoded \(it holds colours\)"),
        (odd_slope, r"IMG002\.dcm has a RescaleSlope of 0"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_is_no_regular_stack_is_refused_in_a_sentence(
    harm, sentence: str, tmp_path: Path
) -> None:
    save_series(tmp_path, slices_of(body()))
    harm(tmp_path)
    with pytest.raises(ValueError, match=sentence) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slice_that_is_off_by_a_rounding_is_taken(tmp_path: Path) -> None:
    save_series(tmp_path, slices_of(body()))
    change(tmp_path, ImagePositionPatient=[20, -30, 12.02])
    assert slicing_of(read(tmp_path)).spacing[0] == pytest.approx(2.5)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    step = (0, 2.5 * np.sin(np.radians(12)), 2.5 * np.cos(np.radians(12)))
    save_series(tmp_path, slices_of(body()), step=step)
    with pytest.raises(ValueError, match=r"tilted by 12\.0 degrees.*dcm2niix"):
        read(tmp_path)


def test_a_tree_holds_its_series_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    for name, number in (("a/x", 2), ("a/y", 3), ("b", 2)):
        save_series(tmp_path / name, slices_of(body()), SeriesNumber=number)
    save_series(tmp_path / "b", slices_of(body())[:1], name="s", ImageType=["A", "B", "LOCALIZER"])
    (tmp_path / "b" / "report.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"\0\0")
    (tmp_path / "empty").write_bytes(b"")
    save_series(tmp_path / "disk" / "x", slices_of(body()))
    directory = pydicom.dcmread(tmp_path / "disk" / "x" / "IMG000.dcm")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(directory, keyword)
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.SOPClassUID = MediaStorageDirectoryStorage
    directory.save_as(tmp_path / "disk" / "DICOMDIR")
    found = find_volumes([tmp_path / "a", tmp_path / "b", tmp_path / "disk"])
    assert len(found) == 4
    assert all(isinstance(one, Series) for one in found)
    assert len(find_volumes(tmp_path / "b")) == 1  # the localizer is none
    (on_disk,) = find_volumes(tmp_path / "disk" / "DICOMDIR")
    np.testing.assert_array_equal(
        read_series(on_disk).voxels, read_series(find_volumes(tmp_path / "a" / "x")[0]).voxels
    )


@pytest.mark.parametrize(
    "syntax",
    [
        *("RLELossless", "JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless"),
        *("JPEG2000Lossless", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"),
    ],
)
def test_compressed_series_are_read(syntax: str, tmp_path: Path) -> None:
    for path in save_series(tmp_path, slices_of(body())):
        compress(path, syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID != ImplicitVRLittleEndian
    np.testing.assert_array_equal(slicing_of(found := read(tmp_path)).cut(found.voxels), expected())


def test_a_compression_that_nothing_reads_is_named(tmp_path: Path, monkeypatch) -> None:
    from pydicom.pixels.decoders import RLELosslessDecoder

    for path in save_series(tmp_path, slices_of(body())):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    monkeypatch.setattr(RLELosslessDecoder, "_available", {})
    with pytest.raises(ValueError, match=r"IMG000\.dcm is compressed.*RLE Lossless.*volumes"):
        read(tmp_path)


def test_a_compression_that_nobody_has_a_decoder_for_is_named(tmp_path: Path) -> None:
    (path,) = save_series(tmp_path, slices_of(body())[:1])
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([bytes(80)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"IMG000\.dcm is compressed in a way .*MPEG2.*uncompres"):
        read(tmp_path)


def test_odd_tags_that_slices_do_not_need_are_no_obstacle(tmp_path: Path) -> None:
    save_series(tmp_path, slices_of(body()))
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"120000", b"0     ").replace(b"20260101", b"2026.1.1"))
    assert read(tmp_path).voxels.shape == (7, 6, 5)


def test_an_enhanced_file_is_the_series_that_it_was_made_of(tmp_path: Path) -> None:
    paths = save_series(
        tmp_path / "single", slices_of(body()), RescaleIntercept=lambda k: -k, RescaleType="HU"
    )
    legacy = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in paths],
        generate_uid(),
        1,
        generate_uid(),
        1,
    )
    (tmp_path / "many").mkdir()
    legacy.save_as(tmp_path / "many" / "all.dcm")
    one, many = read(tmp_path / "single"), read(tmp_path / "many")
    np.testing.assert_array_equal(one.voxels, many.voxels)
    np.testing.assert_allclose(one.affine, many.affine)


# The second slice of body(), lossless, by imagecodecs 2026.3.6 (OpenJPH 0.26).
HIGH_THROUGHPUT = base64.b64decode(
    "/0//UQApQAAAAAAHAAAABgAAAAAAAAAAAAAABwAAAAYAAAAAAAAAAAABjwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAEUAAf+TwAAl"
    "+gAHdAAAAMAAEsAAEoANAYd0AOkAB3QAwAATQAASAPf9AIJ0APwA4wCgABOAmZnASb61AP/Z"
)


@pytest.mark.parametrize("syntax", ["HTJ2KLossless", "HTJ2KLosslessRPCL", "HTJ2K"])
def test_high_throughput_jpeg_2000_is_read(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = save_series(tmp_path, slices_of(body()))
    dataset = pydicom.dcmread(paths[1])
    dataset.PixelData = encapsulate([HIGH_THROUGHPUT])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    dataset.save_as(paths[1])
    np.testing.assert_array_equal(slicing_of(found := read(tmp_path)).cut(found.voxels), expected())
    monkeypatch.setattr("PIL.features.version", lambda name: "2.4.0")
    with pytest.raises(ValueError, match=r"IMG001\.dcm is compressed in a way .*pip install"):
        read(tmp_path)


def test_a_single_slice_is_a_volume(tmp_path: Path) -> None:
    save_series(tmp_path, slices_of(body())[:1])
    found = read(tmp_path)
    assert found.voxels.shape == (7, 6, 1)
    assert slicing_of(found).plane == "axial"


@pytest.mark.parametrize(
    ("tags", "thickness"),
    [
        ({}, 2.5),
        ({"SpacingBetweenSlices": 3.0}, 3.0),
        ({"SpacingBetweenSlices": -3.0}, 3.0),  # as some scanners have it
        ({"SpacingBetweenSlices": 0, "SliceThickness": "5"}, 5.0),
        ({"SliceThickness": None}, None),
        ({"SliceThickness": ""}, None),
        ({"SliceThickness": 0}, None),
    ],
)
def test_a_single_slice_is_as_thick_as_it_says(
    tags: dict[str, Any], thickness: float | None, tmp_path: Path, caplog
) -> None:
    save_series(tmp_path, slices_of(body())[:1], **tags)
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path)
    assert spacing_of(found.affine) == pytest.approx([0.5, 0.75, thickness or 1.0])
    assert ("millilitres are not told" in caplog.text) == (thickness is None)
    size = millilitres(found)
    assert size == pytest.approx(0.5 * 0.75 * thickness / 1000) if thickness else np.isnan(size)


def test_a_frame_alone_is_as_thick_as_its_measures_say(tmp_path: Path) -> None:
    paths = save_series(tmp_path / "single", slices_of(body())[:1], SliceThickness=4)
    legacy = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in paths], generate_uid(), 1, generate_uid(), 1
    )
    (group,) = legacy.SharedFunctionalGroupsSequence
    del group.PixelMeasuresSequence[0].SpacingBetweenSlices  # which highdicom makes up
    (tmp_path / "many").mkdir()
    legacy.save_as(tmp_path / "many" / "all.dcm")
    assert spacing_of(read(tmp_path / "many").affine)[2] == pytest.approx(4)


def test_a_folder_without_a_volume_is_refused(tmp_path: Path, caplog) -> None:
    (tmp_path / "a.txt").write_text("x")
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="holds no volume"):
        find_volumes(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist; name a volume"):
        find_volumes(tmp_path / "b")
