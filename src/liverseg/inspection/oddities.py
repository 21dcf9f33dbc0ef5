"""Masks that belong elsewhere, slices in another order, and splits of another brightness."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from liverseg.data import far_apart, read_image, slice_number
from liverseg.inspection.alignment import (
    Floats,
    Numbers,
    better_place,
    edge_fit,
    shrink_image,
    shrink_mask,
)
from liverseg.inspection.findings import File, Finding, number
from liverseg.inspection.measures import Measured, grey_of
from liverseg.inspection.reading import Survey
from liverseg.labels import IGNORED

# Measured on 554 slices of CT and on the same with masks moved by 8 % of the side and more.
_USUAL_FIT = 1.5  # of half of the masks at least, or edges say nothing
_POOR_FIT = 1.2  # below which a mask is tried elsewhere
_GAIN, _FARTHEST = 2.5, 0.03  # that another place must bring, and how far away it must be
_MORE_INSIDE = 0.1  # share of a mask that must be as bright as usual there, and is not here
_LEAST_AREA = 100  # pixels of a mask at that size; smaller ones fit anywhere
_MOST_TRIED = 300

_LEAST_SLICES = 4  # of a patient, to speak of an order
_LEAST_PATIENTS = 8  # to say which order is usual
_MOST_SLICES = 20_000  # that say what is usual
_FOLDS, _RIDGE = 10, 10.0
_AGREE, _USUALLY = 0.6, 0.9  # correlation of half of the patients, and share of those above zero
_REVERSED = -0.35  # correlation of a patient whose slices run the other way
_REVERSED_GAIN = 1.0  # in fit, if the masks of a patient were in reverse order
_FIRST_LEVELS = 0.75  # deviations of the fit below the usual, for a patient that is tried so


def look_for_oddities(survey: Survey) -> Iterator[Finding]:
    """Yield what differs from what is usual in a folder."""
    reversed_masks = list(_masks_in_reverse(survey))
    yield from (finding for finding, _ in reversed_masks)
    told = {id(one) for _, members in reversed_masks for one in members}
    yield from _shifted(survey, told)
    yield from _slice_order(survey, told)
    yield from _drift(survey)


def _shifted(survey: Survey, told: set[int]) -> Iterator[Finding]:
    """Tell of masks that would fit better elsewhere: their edges, and what is inside."""
    fits = np.array([one.fit for one in survey.whole])
    if not np.isfinite(fits).any() or float(np.nanmedian(fits)) < _USUAL_FIT:
        return
    tried = sorted(
        (one for one in survey.whole if one.fit < _POOR_FIT and id(one) not in told),
        key=lambda one: one.fit,
    )[:_MOST_TRIED]
    usual = _usual_inside(survey.whole)
    found = []
    for one in tried:
        grey, mask = _small(survey, one)
        place = better_place(grey, mask, usual)
        if place is None or int(((mask > 0) & (mask != IGNORED)).sum()) < _LEAST_AREA:
            continue
        gain, (down, right), more_inside = place
        if gain >= _GAIN and more_inside >= _MORE_INSIDE and np.hypot(down, right) >= _FARTHEST:
            height, width = one.size
            side = max(height, width)
            found.append((gain, one, round(down * side), round(right * side)))
    found.sort(key=lambda entry: -entry[0])
    if found:
        yield Finding(
            "warning",
            "shifted mask",
            f"{number(len(found), 'mask')} would fit better elsewhere in "
            f"{'its image' if len(found) == 1 else 'their images'}",
            len(found),
            "look at them: shifted against the image, or the mask of another one",
            [
                File(survey.shown(one.pair.mask), f"better {_direction(down, right)}")
                for _, one, down, right in found
            ],
        )


def _usual_inside(whole: Sequence[Measured]) -> dict[int, tuple[float, float]]:
    """Return brightness inside of each class, and how far it varies within and between images."""
    medians, deviations = defaultdict(list), defaultdict(list)
    for one in whole:
        for index, (median, deviation) in (one.inside or {}).items():
            medians[index].append(median)
            deviations[index].append(deviation)
    usual = {}
    for index, values in medians.items():
        middle = float(np.median(values))
        between = 1.4826 * float(np.median(np.abs(np.array(values) - middle)))
        within = float(np.median(deviations[index]))
        usual[index] = (middle, max(1.0, float(np.hypot(between, within))))
    return usual


def _masks_in_reverse(survey: Survey) -> Iterator[tuple[Finding, list[Measured]]]:
    """Tell of patients whose masks fit their images better in reverse order."""
    fits = np.array([one.fit for one in survey.whole])
    fits = fits[np.isfinite(fits)]
    if fits.size == 0 or float(np.median(fits)) < _USUAL_FIT:
        return
    low = float(np.median(fits)) - _FIRST_LEVELS * float(fits.std())
    found = []
    for case, members in _stacks(survey).items():
        known = [one.fit for one in members if np.isfinite(one.fit)]
        if not known or float(np.mean(known)) > low or len({one.size for one in members}) > 1:
            continue
        small = [_small(survey, one) for one in members]
        couples = list(zip(small, reversed(small), strict=True))
        gains = [
            edge_fit(image, other_mask) - edge_fit(image, mask)
            for (image, mask), (_, other_mask) in couples
        ]
        gains = [gain for gain in gains if np.isfinite(gain)]
        if len(gains) >= _LEAST_SLICES - 1 and float(np.mean(gains)) >= _REVERSED_GAIN:
            found.append((case, members))
    if found:
        yield (
            Finding(
                "error",
                "masks in reverse order",
                f"the masks of {number(len(found), 'patient')} fit the images better in reverse "
                "order",
                len(found),
                "renumber images or masks: one of the two was written from the other end",
                [
                    File(survey.shown(members[0].pair.mask), f"patient {case}")
                    for case, members in found
                ],
            ),
            [one for _, members in found for one in members],
        )


def _slice_order(survey: Survey, told: set[int]) -> Iterator[Finding]:
    """Tell of patients whose slices run the other way than those of most.

    Of other patients it is learnt, by ridge regression, how what is seen changes from the first
    slice to the last; the order of a patient's slices is held against that.
    """
    stacks = {
        case: [one for one in members if one.look is not None]
        for case, members in _stacks(survey).items()
    }
    stacks = {
        case: members
        for case, members in stacks.items()
        if len(members) >= _LEAST_SLICES and id(members[0]) not in told
    }
    if len(stacks) < _LEAST_PATIENTS:
        return
    agreement = _agreement(stacks)
    values = np.array(list(agreement.values()))
    if float(np.median(values)) < _AGREE or float((values > 0).mean()) < _USUALLY:
        return
    found = sorted((value, case) for case, value in agreement.items() if value <= _REVERSED)
    if found:
        yield Finding(
            "warning",
            "slice order",
            f"the order of slices of {number(len(found), 'patient')} runs against that of the "
            f"other {len(values) - len(found):,}",
            len(found),
            "look at the first and the last slice; renumber them if they are flipped, which "
            "neighbouring slices as channels and volumes need",
            [
                File(
                    survey.shown(stacks[case][0].pair.image),
                    f"patient {case}",
                    other=survey.shown(stacks[case][-1].pair.image),
                )
                for _, case in found
            ],
        )


def _agreement(stacks: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return by patient the correlation of the order of its slices with that which is expected."""
    names = sorted(stacks)
    changes, orders, folds = [], [], []
    total = 0
    for place, case in enumerate(names):
        looks = np.stack([one.look for one in stacks[case] if one.look is not None]) / 255.0
        order = np.array([slice_number(one.pair) for one in stacks[case]], np.float64)
        order -= order.mean()
        changes.append((looks - looks.mean(axis=0)).astype(np.float32))
        orders.append(order / max(1e-9, float(np.abs(order).max())))
        folds.append(place % _FOLDS)
        total += len(looks)
    size = changes[0].shape[1]
    products = np.zeros((_FOLDS, size, size))
    sums = np.zeros((_FOLDS, size))
    used = 0
    for change, order, fold in zip(changes, orders, folds, strict=True):
        if used < _MOST_SLICES:
            products[fold] += change.T @ change
            sums[fold] += change.T @ order
            used += len(change)
    agreement = {}
    weights = [
        np.linalg.solve(
            products.sum(axis=0) - products[fold] + _RIDGE * np.eye(size),
            sums.sum(axis=0) - sums[fold],
        )
        for fold in range(_FOLDS)
    ]
    for case, change, order, fold in zip(names, changes, orders, folds, strict=True):
        agreement[case] = _correlation(change @ weights[fold], order)
    return agreement


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the correlation of two rows of numbers, 0 where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 1e-9 else 0.0


def _stacks(survey: Survey) -> dict[str, list[Measured]]:
    """Return the slices of each patient of several, by number."""
    stacks: dict[str, list[Measured]] = defaultdict(list)
    for one in survey.whole:
        if one.case is not None and slice_number(one.pair) is not None:
            stacks[one.case].append(one)
    return {
        case: sorted(members, key=lambda one: (slice_number(one.pair), one.split))
        for case, members in sorted(stacks.items())
        if len(members) >= _LEAST_SLICES
    }


def _drift(survey: Survey) -> Iterator[Finding]:
    """Tell of splits whose images are brighter or darker than those of train."""
    if "train" not in survey.splits:
        return
    reference = survey.splits["train"].intensities.statistics()
    for name in ("val", "test"):
        if name not in survey.splits:
            continue
        split = survey.splits[name]
        patients = {one.case or id(one) for one in split.whole}  # whose slices are alike
        found = split.intensities.statistics()
        words = far_apart(found, reference, num_independent=len(patients))
        if words:
            yield Finding(
                "warning",
                "intensities drift",
                f"images of {name} differ in brightness from those of train: {words}",
                1,
                "look whether they were saved with another window or scaling",
                [File(f"{name}/")],
            )


def _small(survey: Survey, one: Measured) -> tuple[Floats, Numbers]:
    """Read a pair once more, at the size at which edges are compared."""
    recipe = survey.recipe
    image = read_image(one.pair.image, recipe.channels, recipe.white_value)
    mask = recipe.reader.read(one.pair.mask).numpy()
    background = np.where((mask >= recipe.first) | (mask == IGNORED), mask, 0)
    return shrink_image(grey_of(image)), shrink_mask(background if recipe.first else mask)


def _direction(down: int, right: int) -> str:
    """Return such as 12 px further down and 3 px further left."""
    parts = [
        f"{abs(pixels)} px further {words[pixels < 0]}"
        for pixels, words in ((down, ("down", "up")), (right, ("right", "left")))
        if pixels
    ]
    return " and ".join(parts)
