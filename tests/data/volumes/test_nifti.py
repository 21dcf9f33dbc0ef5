import gzip
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scans import SHAPE, affine_of, body, organs, save

from liverseg.data.volumes.nifti import read_nifti, read_nifti_label, rescaled


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_a_volume_keeps_its_numbers_and_their_kind(name: str, tmp_path: Path) -> None:
    found = read_nifti(save(tmp_path / name, body()))
    assert found.voxels.dtype == np.int16
    np.testing.assert_array_equal(found.voxels, body())
    np.testing.assert_array_equal(found.affine, affine_of())


def test_a_slope_is_applied_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    image = nib.Nifti1Image((body() + 1024).astype(np.int16), affine_of())
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "a.nii")
    found = read_nifti(tmp_path / "a.nii")
    assert found.voxels.dtype == np.int16
    np.testing.assert_array_equal(found.voxels, body())
    np.testing.assert_allclose(rescaled(body(), 0.5, 0.25), body() * 0.5 + 0.25)
    wide = rescaled(np.array([65535], np.uint16), 3.0, -1.0)
    assert (wide.dtype, wide[0]) == (np.int32, 3 * 65535 - 1)


def test_two_transforms_that_disagree_are_told_with_both(tmp_path: Path, caplog) -> None:
    image = nib.Nifti1Image(body(), affine_of())
    image.set_sform(affine_of(), 1)
    image.set_qform(np.diag([-0.5, 0.75, 2.5, 1.0]), 1)
    nib.save(image, tmp_path / "a.nii")
    with caplog.at_level(logging.WARNING):
        found = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(found.affine, affine_of())
    assert "the sform (RAS, origin (-20, 30, 7)), which is taken, and the qform (LAS" in caplog.text


def test_the_qform_counts_where_there_is_no_sform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body(), None)
    image.set_qform(np.diag([-0.5, 0.75, 2.5, 1.0]), 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine[0, 0], -0.5)


def test_a_file_that_does_not_say_how_it_lies_needs_a_word(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body(), None)
    image.header.set_zooms((0.5, 0.75, 2.5))
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii does not say how it lies.*assume=LAS"):
        read_nifti(tmp_path / "a.nii")
    found = read_nifti(tmp_path / "a.nii", assume="LPS")
    np.testing.assert_array_equal(np.diag(found.affine), [-0.5, -0.75, 2.5, 1])


def test_one_volume_in_four_axes_is_one_and_three_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "one.nii", body()[..., None])
    assert read_nifti(tmp_path / "one.nii").voxels.shape == SHAPE
    save(tmp_path / "three.nii", np.stack([body()] * 3, axis=-1))
    with pytest.raises(ValueError, match=r"three\.nii holds 7 x 6 x 5 x 3 voxels, several volumes"):
        read_nifti(tmp_path / "three.nii")
    save(tmp_path / "flat.nii", body()[..., 0])
    assert read_nifti(tmp_path / "flat.nii").voxels.shape == (7, 6, 1)


@pytest.mark.parametrize(
    ("value", "told"),
    [(1.5, "1.5"), (np.nan, "nan"), (-1, "-1"), (70000, "70000"), (np.inf, "inf")],
)
def test_a_label_value_that_is_none_is_named(value: float, told: str, tmp_path: Path) -> None:
    label = organs().astype(np.float64)
    label[0, 0, 0] = value
    save(tmp_path / "a.nii", label)
    with pytest.raises(ValueError, match=rf"a\.nii is a label map that holds {told}; labels are"):
        read_nifti_label(tmp_path / "a.nii")


def test_labels_that_a_scaling_or_a_float_has_moved_by_a_hair_are_whole(tmp_path: Path) -> None:
    for dtype in (np.float64, np.float32, np.uint8, np.int16):
        save(
            tmp_path / "a.nii.gz",
            (organs() * 0.99999).astype(dtype) if dtype is np.float64 else organs().astype(dtype),
        )
        label, _ = read_nifti_label(tmp_path / "a.nii.gz")
        assert label.dtype == np.uint16
        np.testing.assert_array_equal(label, organs())
    image = nib.Nifti1Image((organs() * 2).astype(np.uint8), affine_of())
    image.header.set_slope_inter(0.4999999, 0)
    nib.save(image, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_nifti_label(tmp_path / "b.nii")[0], organs())


def test_an_image_with_voxels_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    voxels = body().astype(np.float32)
    voxels[0, 0, :2] = np.nan
    save(tmp_path / "a.nii", voxels)
    with pytest.raises(ValueError, match=r"a\.nii holds 2 voxels that are no numbers"):
        read_nifti(tmp_path / "a.nii")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def bomb(path: Path) -> None:
    is_plain = path.suffix == ".nii"
    content = bytearray(path.read_bytes() if is_plain else gzip.decompress(path.read_bytes()))
    content[40:56] = np.array([3] + [32000] * 3 + [1] * 4, np.int16).tobytes()
    path.write_bytes(bytes(content) if is_plain else gzip.compress(bytes(content)))


def plain_as_gz(path: Path) -> None:
    path.write_bytes(b"\x5c\x01\0\0" + bytes(600))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("harm", [cut, bomb, plain_as_gz, empty], ids=lambda one: one.__name__)
def test_a_damaged_file_is_refused_with_its_path(name: str, harm, tmp_path: Path) -> None:
    path = save(
        tmp_path / name, np.random.default_rng(0).integers(-999, 999, (9, 9, 9)).astype(np.int16)
    )
    harm(path)
    with pytest.raises(ValueError, match=rf"{name}.*restore it"):
        read_nifti(path)


def test_a_gzip_whose_bytes_are_not_those_of_its_checksum_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 60, (9, 9, 9)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    whole = path.read_bytes()
    for place in range(len(whole) // 4, len(whole) - 50, 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"a\.nii\.gz cannot be read as NIfTI .*; restore it"):
            read_nifti(path)


def test_a_gzip_that_is_named_nii_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", body()).rename(tmp_path / "b.nii")
    with pytest.raises(ValueError, match=r"b\.nii.*restore it"):
        read_nifti(path)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("micron", 1e3), ("unknown", 1)])
def test_a_header_in_other_units_is_read_in_millimetres(
    unit: str, scale: float, tmp_path: Path
) -> None:
    affine = affine_of()
    affine[:3] *= scale
    image = nib.Nifti1Image(body(), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine, affine_of(), rtol=1e-6)


def save_spacing(path: Path, image: nib.Nifti1Image, *spacing: float) -> Path:
    """Save an image with numbers for a spacing that nibabel would not write."""
    plain = path.with_name("plain.nii")
    nib.save(image, plain)
    content = bytearray(plain.read_bytes())
    header = np.frombuffer(content, image.header.structarr.dtype, 1)
    header["pixdim"][0, 1 : 1 + len(spacing)] = spacing
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", [1, 0])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_spacing_of_0_is_refused_where_no_sform_holds_another(
    kind: type, code: int, order: str, name: str, tmp_path: Path, capfd, caplog
) -> None:
    image = kind(organs(), None, kind.header_class(endianness=order))
    image.set_qform(affine_of(), code)
    image.set_sform(None, 0)
    path = save_spacing(tmp_path / name, image, 0.5, 0, 2.5)
    for read in (read_nifti, read_nifti_label):
        with pytest.raises(ValueError, match=r"has voxels of .* mm, which cannot be") as caught:
            read(path, None if code else "RAS")
        sentence = f"{path} has voxels of 0.5 x 0 x 2.5 mm, which cannot be; correct its header"
        assert str(caught.value) == sentence
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


def test_a_spacing_of_0_is_nothing_to_a_file_whose_sform_holds_it(
    tmp_path: Path, capfd, caplog
) -> None:
    image = nib.Nifti1Image(body(), affine_of())
    path = save_spacing(tmp_path / "a.nii", image, 0, 0, 0)
    np.testing.assert_array_equal(read_nifti(path).affine, affine_of())
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


def test_the_third_spacing_of_two_axes_may_be_0(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body()[..., 0], None)
    image.set_qform(affine_of(), 1)
    image.set_sform(None, 0)
    found = read_nifti(save_spacing(tmp_path / "a.nii", image, 0.5, 0.75, 0))
    np.testing.assert_allclose(found.affine[:3, :3], np.diag([0.5, 0.75, 1]))
    assert not found.has_thickness
    with pytest.raises(ValueError, match=r"b\.nii has voxels of 0\.5 x 0 x 1 mm, which cannot be"):
        read_nifti(save_spacing(tmp_path / "b.nii", image, 0.5, 0, 0))


def test_what_nibabel_alone_mends_it_still_says(tmp_path: Path, caplog) -> None:
    path = save(tmp_path / "a.nii", body())
    content = bytearray(path.read_bytes())
    content[252:254] = (77).to_bytes(2, "little")  # qform_code
    path.write_bytes(content)
    read_nifti(path)
    assert "qform_code 77 not valid" in caplog.text


def test_metres_that_would_be_a_room_are_millimetres(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body(), affine_of())
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine, affine_of())


@pytest.mark.parametrize(("name", "other"), [("a.nii", "a.nii.gz"), ("a.nii.gz", "a.nii")])
def test_a_name_that_belies_its_content_is_told_with_the_right_one(
    name: str, other: str, tmp_path: Path
) -> None:
    save(tmp_path / other, body()).rename(tmp_path / name)
    with pytest.raises(
        ValueError, match=rf"compressed, other than its name .* to {other}, or rest"
    ):
        read_nifti(tmp_path / name)


def test_values_that_float32_does_not_hold_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", body() * 1e300)
    with pytest.raises(ValueError, match=r"a\.nii holds values from -1e\+302 to .*; restore it"):
        read_nifti(tmp_path / "a.nii")
