import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import tensor

from liverseg.labels import IGNORED
from liverseg.scores.boundaries import edge_of, surface_scores
from liverseg.scores.metrics import SegmentationScores

Mask = NDArray[np.bool_]
SPACINGS = [None, (0.5, 2.0), (0.7, 0.7)]


def disc(centre: tuple[float, float], radius: float) -> Mask:
    rows, columns = np.mgrid[:128, :96]
    return np.asarray((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2)


def odd_masks() -> Iterator[tuple[str, Mask, Mask]]:
    """Yield couples of masks that are not empty: noise, blobs, single pixels, borders, all."""
    random = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.9):
        yield f"noise {share}", random.random((31, 23)) < share, random.random((31, 23)) < share
    single, other = np.zeros((2, 17, 40), bool)
    single[3, 38], other[16, 0] = True, True
    yield "single pixels", single, other
    yield "a pixel of all", single, np.ones_like(single)
    border = np.ones((20, 20), bool)
    border[1:-1, 1:-1] = False
    corner = np.zeros((20, 20), bool)
    corner[:5, 15:] = True
    yield "border and corner", border, corner
    yield "all and border", np.ones_like(border), border
    yield "a row", single[:1] | True, np.ones((1, 40), bool)
    yield "discs", disc((60, 40), 20), disc((63, 43), 18)


COUPLES = {name: couple for name, *couple in odd_masks()}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", COUPLES)
def test_distances_are_those_of_every_pixel_to_every_other(name: str, spacing: object) -> None:
    prediction, truth = COUPLES[name]
    scale = np.array(spacing or (1, 1))
    points = [np.argwhere(edge_by_hand(mask)) * scale for mask in (prediction, truth)]
    distances = cdist(*points)
    there, back = distances.min(axis=1), distances.min(axis=0)
    both = np.concatenate([there, back])
    found = surface_scores(prediction, truth, spacing=spacing, tolerance=2.5)
    assert found == pytest.approx(
        {
            "hd": both.max(),
            "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
            "assd": both.mean(),
            "nsd": (both <= 2.5).mean(),
        },
        abs=1e-9,
    )


def edge_by_hand(mask: Mask) -> Mask:
    """The pixels of which a neighbour above, below, left or right is outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


# MONAI calls a function of its own in a way that it deprecates:
# https://github.com/Project-MONAI/MONAI/blob/1.6.1/monai/metrics/utils.py
OF_MONAI = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")


@OF_MONAI
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [name for name in COUPLES if name != "a row"])
def test_monai_finds_the_same(name: str, spacing: tuple[float, float] | None) -> None:
    prediction, truth = COUPLES[name]
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    rest = {"include_background": True, "spacing": spacing}
    theirs = {
        "hd": compute_hausdorff_distance(*masks, **rest).item(),
        "hd95": compute_hausdorff_distance(*masks, percentile=95, **rest).item(),
        "assd": compute_average_surface_distance(*masks, symmetric=True, **rest).item(),
        "nsd": compute_surface_dice(*masks, class_thresholds=[2.6], **rest).item(),
    }
    found = surface_scores(prediction, truth, spacing=spacing, tolerance=2.6)
    assert found == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("shift", "spacing", "expected"),
    [
        (3, (1, 1), {"hd95": 3.0, "assd": 1.7895, "nsd": 0.4643}),
        (3, (0.5, 2), {"hd95": 4.472, "assd": 1.900, "nsd": 0.589}),
    ],
)
def test_discs_that_lie_apart_score_as_noted(
    shift: int, spacing: tuple[float, float], expected: dict[str, float]
) -> None:
    found = surface_scores(
        disc((60, 45 + shift), 20), disc((60, 45), 20), spacing=spacing, tolerance=2
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_one_far_pixel_is_the_largest_distance_and_not_the_95_percent() -> None:
    truth = disc((60, 30), 20)
    prediction = truth.copy()
    prediction[60, 95] = True
    found = surface_scores(prediction, truth, tolerance=1)
    assert (found["hd"], found["hd95"]) == (95 - 50, 0)


def test_what_is_missed_is_infinitely_far_and_nothing_is_not_defined() -> None:
    empty, full = np.zeros((2, 5, 5), bool)
    full[2, 2] = True
    for couple in ((empty, full), (full, empty)):
        found = surface_scores(*couple, tolerance=1)
        assert found == {"hd": math.inf, "hd95": math.inf, "assd": math.inf, "nsd": 0}
    assert all(map(math.isnan, surface_scores(empty, empty, tolerance=1).values()))


@pytest.mark.parametrize("name", COUPLES)
def test_truth_and_prediction_may_change_places(name: str) -> None:
    prediction, truth = COUPLES[name]
    assert surface_scores(prediction, truth, tolerance=1.5) == pytest.approx(
        surface_scores(truth, prediction, tolerance=1.5), abs=1e-12
    )


@pytest.mark.parametrize("name", COUPLES)
@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_distances_grow_with_the_spacing(name: str, factor: float) -> None:
    pixels = surface_scores(*COUPLES[name], spacing=(0.7, 1.3), tolerance=1.4)
    scaled = surface_scores(
        *COUPLES[name], spacing=(0.7 * factor, 1.3 * factor), tolerance=1.4 * factor
    )
    for word in ("hd", "hd95", "assd"):
        assert scaled[word] == pytest.approx(pixels[word] * factor)
    assert scaled["nsd"] == pixels["nsd"]


@OF_MONAI
def test_volumes_have_edges_towards_all_six_neighbours() -> None:
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    assert edge_of(cube).sum() == 27 - 1
    moved = np.roll(cube, 1, axis=0)
    found = surface_scores(moved, cube, spacing=(5.0, 1.0, 1.0), tolerance=0)
    assert (found["hd"], found["hd95"]) == (5.0, 5.0)
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (moved, cube)]
    theirs = compute_average_surface_distance(
        *masks, include_background=True, symmetric=True, spacing=(5.0, 1.0, 1.0)
    )
    assert found["assd"] == pytest.approx(theirs.item(), abs=1e-6)


def test_a_spacing_that_was_stored_as_float32_is_within_its_own_length() -> None:
    cube = np.zeros((6, 6, 6), bool)
    cube[1:4, 1:4, 1:4] = True
    spacing = (float(np.float32(1.2)), 3.0, 3.0)  # 1.2000000477, as of NIfTI
    moved = np.roll(cube, 1, axis=0)
    assert surface_scores(moved, cube, spacing=spacing, tolerance=1.2)["nsd"] == 1
    assert surface_scores(moved, cube, spacing=spacing, tolerance=1.19)["nsd"] < 1


def odd_volumes() -> Iterator[tuple[str, Mask, Mask]]:
    random = np.random.default_rng(1)
    for share in (0.01, 0.5, 0.95):
        shape = (9, 13, 11)
        yield f"noise {share}", random.random(shape) < share, random.random(shape) < share
    planes, rows, columns = np.mgrid[:20, :24, :22]
    balls = [
        (planes - place) ** 2 + (rows - 12) ** 2 + (columns - 10) ** 2 <= size**2
        for place, size in ((8, 6), (11, 7))
    ]
    yield "balls", *balls
    single, other = np.zeros((2, 6, 5, 30), bool)
    single[5, 4, 29] = other[0, 0, 0] = True
    yield "single voxels", single, other
    yield "a voxel of all", single, np.ones_like(single)


VOLUMES = {name: couple for name, *couple in odd_volumes()}


@OF_MONAI
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.8, 5.0), (2.5, 0.5, 0.75)])
@pytest.mark.parametrize("name", VOLUMES)
def test_monai_finds_the_same_in_volumes(name: str, spacing: tuple[float, ...]) -> None:
    prediction, truth = VOLUMES[name]
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    rest = {"include_background": True, "spacing": spacing}
    theirs = {
        "hd": compute_hausdorff_distance(*masks, **rest).item(),
        "hd95": compute_hausdorff_distance(*masks, percentile=95, **rest).item(),
        "assd": compute_average_surface_distance(*masks, symmetric=True, **rest).item(),
        "nsd": compute_surface_dice(*masks, class_thresholds=[2.6], **rest).item(),
    }
    found = surface_scores(prediction, truth, spacing=spacing, tolerance=2.6)
    assert found == pytest.approx(theirs, rel=1e-6, abs=1e-6)


# In the scores of a split


def counted(prediction: torch.Tensor, mask: torch.Tensor, **settings: object) -> SegmentationScores:
    scores = SegmentationScores(3, ["a", "b"], chosen=("hd95", "nsd"), **settings)
    for place in range(len(mask)):
        scores.update(
            prediction[place : place + 1], mask[place : place + 1], tensor([place]), tensor([-1])
        )
    return scores


def test_a_mean_distance_is_that_of_structures_that_are_there_and_found() -> None:
    mask, prediction = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    mask[0, 2, 2], prediction[0, 2, 5] = 1, 1  # 3 pixels apart
    mask[1, 4, 4] = 1  # missed
    mask[2, 0, 0] = prediction[2, 0, 0] = 1  # found; b is nowhere
    scores = {name: float(value) for name, value in counted(prediction, mask).compute().items()}
    assert scores["hd95"] == scores["hd95/a"] == (3 + 0) / 2
    assert scores["nsd"] == scores["nsd/a"] == pytest.approx((0 + 0 + 1) / 3)
    assert "hd95/b" not in scores


def test_where_nothing_is_found_there_is_no_mean_distance() -> None:
    mask, prediction = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    mask[0, 2, 2] = 1
    scores = counted(prediction, mask).compute()
    assert "hd95" not in scores
    assert float(scores["nsd"]) == 0


def test_ignored_pixels_belong_to_no_edge() -> None:
    mask, prediction = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    mask[0, 1:4, 1:4] = prediction[0, 1:4, 1:4] = 1
    prediction[0, 6:, 6:] = 1
    mask[0, 6:, 6:] = IGNORED
    scores = counted(prediction, mask).compute()
    assert (float(scores["hd95/a"]), float(scores["nsd/a"])) == (0, 1)


def test_each_image_is_measured_by_its_own_spacing() -> None:
    mask, prediction = torch.zeros(2, 2, 8, 8, dtype=torch.uint8)
    mask[:, 2, 2], prediction[:, 2, 5] = 1, 1  # 3 pixels apart
    scores = SegmentationScores(1, chosen=("hd95",))
    scores.spacings = [(1.0, 0.5), (1.0, 2.0)]
    scores.update(prediction, mask, tensor([1, 0]), tensor([-1, -1]))
    assert scores.table().values.flatten().tolist() == [1.5, 6.0]


def test_parts_of_two_processes_are_put_together() -> None:
    generator = torch.Generator().manual_seed(0)
    mask, prediction = torch.randint(3, (2, 7, 9, 7), generator=generator)
    whole, first, second = (SegmentationScores(3, chosen=("assd", "nsd")) for _ in range(3))
    everyone = torch.full((7,), -1)
    whole.update(prediction, mask, torch.arange(7), everyone)
    for part, places in ((first, [0, 2, 4, 6]), (second, [1, 3, 5, 0])):  # one of them twice
        part.update(prediction[places], mask[places], tensor(places), everyone[places])
    first.merge_state(second)
    assert {k: v.item() for k, v in first.compute().items()} == {
        k: v.item() for k, v in whole.compute().items()
    }
    for one, other in zip(first.table()[:4], whole.table()[:4], strict=True):
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


@pytest.mark.parametrize("num_classes", [1, 2, 11])
def test_batches_and_order_change_no_digit(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    mask, prediction = torch.randint(max(num_classes, 2), (2, 6, 9, 7), generator=generator)
    mask[:, 3] = IGNORED
    found = []
    for batches in ([[0, 1, 2, 3, 4, 5]], [[5], [3, 4], [2], [0, 1], [5]]):
        scores = SegmentationScores(
            num_classes, chosen=("hd", "assd", "hd95", "nsd"), spacing=(0.7, 1.9)
        )
        for batch in batches:
            scores.update(
                prediction[batch], mask[batch], tensor(batch), torch.full((len(batch),), -1)
            )
        found.append({name: value.item() for name, value in scores.compute().items()})
    assert found[0] == found[1]
    assert {"hd", "hd95", "assd", "nsd"} <= found[0].keys()
