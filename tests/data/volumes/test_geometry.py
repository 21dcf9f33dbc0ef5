from pathlib import Path

import numpy as np
import pytest
from scans import ORIENTATIONS, SHAPE, affine_of, body, organs, turned

from liverseg.data.volumes.geometry import Volume, check_affine, fitted, slicing_of

HERE = Path("a.nii")


def volume(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(HERE, voxels, affine)


def rotated(degrees: float, axis: int = 0) -> np.ndarray:
    """The usual affine, turned about an axis of the world."""
    angle = np.radians(degrees)
    one, other = [place for place in range(3) if place != axis]
    turn = np.eye(4)
    turn[[one, other], [one, other]] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    return turn @ affine_of()


def test_there_are_48_ways_to_store_a_volume() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_however_a_volume_is_stored_its_slices_are_the_same_and_come_back_exactly(
    codes: str,
) -> None:
    voxels, affine = turned(body(), affine_of(), codes)
    label, _ = turned(organs(), affine_of(), codes)
    slicing = slicing_of(volume(voxels, affine))
    assert slicing.plane == "axial"
    assert slicing.spacing == (2.5, 0.75, 0.5)
    wanted = slicing_of(volume(body(), affine_of()))
    np.testing.assert_array_equal(slicing.cut(voxels), wanted.cut(body()))
    np.testing.assert_array_equal(slicing.cut(label), wanted.cut(organs()))
    np.testing.assert_array_equal(slicing.join(slicing.cut(label)), label)


def test_the_patients_right_is_left_in_a_picture_and_the_front_is_above() -> None:
    voxels = np.zeros(SHAPE, np.int16)
    voxels[-1, -1, 0] = 1  # right, front, lowest
    cut = slicing_of(volume(voxels, affine_of())).cut(voxels)
    assert cut.shape == (5, 6, 7)
    assert cut[0, 0, 0] == 1


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((0.5, 0.5, 2.5), "axial"),
        ((4.0, 0.5, 0.5), "sagittal"),
        ((0.5, 3.0, 0.5), "coronal"),
        ((1.0, 1.0, 1.0), "axial"),
        ((0.9, 0.9, 0.7), "axial"),  # thin slices
    ],
)
def test_slices_are_cut_along_the_largest_spacing(spacing: tuple, plane: str) -> None:
    assert slicing_of(volume(body(), affine_of(spacing))).plane == plane
    assert slicing_of(volume(body(), affine_of(spacing)), "axial").plane == "axial"


@pytest.mark.parametrize(
    ("plane", "place"),
    [("coronal", (-1, 0, 0)), ("sagittal", (0, 0, 0))],
)
def test_in_upright_planes_the_head_is_above(plane: str, place: tuple[int, int, int]) -> None:
    voxels = np.zeros(SHAPE, np.int16)
    voxels[{"coronal": (-1, 0, -1), "sagittal": (0, -1, -1)}[plane]] = 1  # right or front, top
    slices = slicing_of(volume(voxels, affine_of()), plane).cut(voxels)
    assert slices[0, 0, 0] == 1


@pytest.mark.parametrize(("degrees", "plane"), [(44, "axial"), (46, "coronal")])
def test_an_oblique_volume_is_cut_along_its_own_axes(degrees: float, plane: str) -> None:
    affine = rotated(degrees)
    slicing = slicing_of(volume(body(), affine))
    assert slicing.plane == plane  # what its thick slices are nearest to
    assert slicing.axes[0] == 2
    np.testing.assert_array_equal(slicing.join(slicing.cut(body())), body())


def test_a_label_is_put_in_order_by_its_affine_and_near_45_degrees_by_that_of_the_volume() -> None:
    for degrees in (0, 30, 44.9999999, 45.0000001, 90):
        image = volume(body(), rotated(degrees))
        for codes in ("LPS", "SAR", "IRP"):
            label, affine = turned(organs(), rotated(degrees), codes)
            affine = affine + 1e-7
            np.testing.assert_array_equal(fitted(label, affine, HERE, image, 0.005), organs())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (1e-7, None),
        (1e-2, "away from"),
        (100.0, r"a\.nii lies up to 100 mm away from a\.nii \(origins \(80, 30, 7\)"),
        (1.0, r"convert\.py \(and no other command\) takes it with tolerance=\.\.\. \(mm\)$"),
    ],
)
def test_a_label_that_lies_elsewhere_is_refused(change: float, sentence: str | None) -> None:
    affine = affine_of()
    affine[0, 3] += change
    image = volume(body(), affine_of())
    if sentence is None:
        assert fitted(organs(), affine, HERE, image, 0.005) is not None
        return
    with pytest.raises(ValueError, match=sentence):
        fitted(organs(), affine, HERE, image, 0.005)
    np.testing.assert_array_equal(fitted(organs(), affine, HERE, image, 200.0), organs())


def test_a_label_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 7 x 6 x 4 voxels \(RAS\), but a.nii 7 x 6 x 5"):
        fitted(organs()[..., :4], affine_of(), HERE, volume(body(), affine_of()), 0.005)


def test_a_tilted_gantry_and_a_spacing_of_nothing_are_refused() -> None:
    tilted = affine_of()
    tilted[1, 2] = 2.5 * np.tan(np.radians(12))
    with pytest.raises(ValueError, match=r"12\.0 degrees off a right angle.*dcm2niix"):
        check_affine(HERE, tilted)
    for bad in (0.0, np.nan, np.inf):
        affine = affine_of()
        affine[0, 0] = bad
        with pytest.raises(ValueError, match="which cannot be"):
            check_affine(HERE, affine)
