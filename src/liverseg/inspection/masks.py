"""What masks hold: missing classes, empty and full masks, specks, masks turned inside out."""

from collections.abc import Container, Iterator, Sequence

import numpy as np

from liverseg.inspection.findings import File, Finding, number
from liverseg.inspection.measures import Measured
from liverseg.inspection.reading import Survey
from liverseg.labels import IGNORED

_SKEWED = 5.0  # times the share of a class in another split
_LEAST_IMAGES = 10  # of a split, to compare shares
_MOST_EMPTY = 0.8  # of a split's masks, to warn
_LEAST_SPECKS, _MORE_SPECKS = 8, 10.0  # of a mask, to name it: so many, and so many times the usual
_INSIDE, _OUTSIDE = 0.3, 0.75  # foreground along the border: usual at most, and inside out at least
_MOST_AGREE = 0.8  # mean sign of the contrast of all others, to hold one against it
_RARELY = 0.05  # of the masks touch the border, so that those that do are named
_FEWEST = 3  # masks of a split, to say what is usual inside it
_MANY = 20  # masks, to say what is usual


def look_at_masks(survey: Survey) -> Iterator[Finding]:
    """Yield what is wrong with what masks hold."""
    inverted = list(_inverted(survey))
    others = {id(one) for one in survey.whole} - {id(one) for one in inverted}  # by their ids
    yield from _missing_classes(survey)
    yield from _skewed_classes(survey, others)
    yield from _inside_out(survey, inverted, others)
    yield from _empty(survey)
    yield from _full(survey)
    yield from _specks(survey)
    yield from _at_the_border(survey, others)


def images_that_hold(whole: Sequence[Measured], index: int) -> int:
    """Return how many masks hold a class."""
    return sum(1 for one in whole if (one.counts or {}).get(index))


def share_of_class(whole: Sequence[Measured], index: int) -> float:
    """Return the share of a class in all pixels of some masks, ignored ones aside."""
    counts = [one.counts or {} for one in whole]
    total = sum(sum(one.values()) - one.get(IGNORED, 0) for one in counts)
    return sum(one.get(index, 0) for one in counts) / max(1, total)


def _missing_classes(survey: Survey) -> Iterator[Finding]:
    held = {
        name: {index for one in split.whole for index in one.counts or {}}
        for name, split in survey.splits.items()
        if split.whole
    }
    for index, name in survey.class_names.items():
        without = [split for split, found in held.items() if index not in found]
        if not without:
            continue
        if len(without) == len(held):
            yield Finding(
                "warning" if len(survey.class_names) > 1 else "error",
                "unused class",
                f"no mask holds a pixel of {name}, which is declared",
                1,
                "look at the masks, at data.num_classes and at data.mask_values",
            )
            continue
        for split in without:
            is_train = split == "train"
            yield Finding(
                "error" if is_train else "warning",
                "class missing from a split",
                f"no mask of {split} holds a pixel of {name}"
                + (", which the network cannot learn" if is_train else ", so it is not judged"),
                1,
                "divide the pairs anew, or look at the masks",
                [File(f"{split}/")],
            )


def _skewed_classes(survey: Survey, others: Container[int]) -> Iterator[Finding]:
    splits = {
        name: [one for one in split.whole if id(one) in others]
        for name, split in survey.splits.items()
    }
    train = splits.get("train", [])
    for name in ("val", "test"):
        there = splits.get(name, [])
        if min(len(train), len(there)) < _LEAST_IMAGES:
            continue
        for index, class_name in survey.class_names.items():
            shares = [share_of_class(whole, index) for whole in (train, there)]
            if min(shares) > 0 and max(shares) > _SKEWED * min(shares):
                yield Finding(
                    "warning",
                    "class balance",
                    f"{class_name} takes {shares[0]:.2%} of the pixels of train and "
                    f"{shares[1]:.2%} of those of {name}",
                    1,
                    "divide the pairs anew, or say so beside the scores",
                )


def _inverted(survey: Survey) -> Iterator[Measured]:
    """Yield masks that look like the inverse of what the others of their split, or of another, are.

    Full ones are none: an inverse holds its structure as a hole.
    """
    usual = [
        one.share(survey.first)
        for split in survey.splits.values()
        if len(split.whole) >= _FEWEST and np.median([one.ring for one in split.whole]) <= _INSIDE
        for one in split.whole
        if one.ring <= _INSIDE
    ]
    if survey.first == 0 or not usual:
        return
    most = 1.5 * max(usual) + 0.02
    for one in survey.whole:
        share = one.share(survey.first)
        if one.ring >= _OUTSIDE and 0.5 < share < 1 and 1 - share <= most:
            yield one


def _inside_out(
    survey: Survey, inverted: Sequence[Measured], others: Container[int]
) -> Iterator[Finding]:
    if not inverted:
        return
    contrasts = np.array([one.contrast for one in survey.whole if id(one) in others])
    contrasts = contrasts[np.isfinite(contrasts) & (contrasts != 0)]
    usual = float(np.sign(contrasts).mean()) if contrasts.size else 0.0
    # An organ is brighter than what is around it, or darker; where all others agree, this decides.
    # One that fills the image, and is as bright as the others, is no inverse.
    signs = {id(one): float(np.sign(np.nan_to_num(one.contrast))) * usual for one in inverted}
    agree = _MOST_AGREE if abs(usual) > _MOST_AGREE else 1.0
    certain = [one for one in inverted if signs[id(one)] < -agree]
    doubtful = [one for one in inverted if abs(signs[id(one)]) <= agree]
    for found in (certain, doubtful):
        if found:
            yield Finding(
                "error" if found is certain else "warning",
                "inverted mask",
                f"{number(len(found), 'mask')} {'is' if len(found) == 1 else 'are'} the inverse of "
                "what the others are like: foreground outside, background inside",
                len(found),
                "invert them",
                [
                    File(survey.shown(one.pair.mask), f"{one.share(survey.first):.0%} foreground")
                    for one in found
                ],
            )


def _empty(survey: Survey) -> Iterator[Finding]:
    for name, split in survey.splits.items():
        if survey.first == 0 or not split.whole:
            continue
        empty = [one for one in split.whole if not one.foreground(survey.first)]
        share = len(empty) / len(split.whole)
        if empty:
            yield Finding(
                "warning" if share > _MOST_EMPTY else "note",
                "empty masks",
                f"{len(empty):,} of {number(len(split.whole), 'mask')} of {name} hold no "
                f"foreground ({share:.0%})",
                len(empty),
                "an image without a class scores 1 where nothing is found: "
                "monitor=val/dice_pooled is the better choice where many are",
                [File(survey.shown(one.pair.mask)) for one in empty],
            )


def _full(survey: Survey) -> Iterator[Finding]:
    if survey.first == 0:
        return
    full = [one for one in survey.whole if one.share(survey.first) == 1]
    if full:
        yield Finding(
            "warning",
            "full masks",
            f"{number(len(full), 'mask')} {'holds' if len(full) == 1 else 'hold'} foreground alone",
            len(full),
            "look at them; an inverse of an empty mask is full",
            [File(survey.shown(one.pair.mask)) for one in full],
        )


def _specks(survey: Survey) -> Iterator[Finding]:
    whole = survey.whole
    counts = np.array([one.num_specks for one in whole])
    if not counts.any():
        return
    held = counts[[bool(one.foreground(survey.first)) for one in whole]]
    least = max(_LEAST_SPECKS, _MORE_SPECKS * float(np.median(held)) if held.size else 0)
    worst = [one for one in whole if one.num_specks > least]
    worst.sort(key=lambda one: -one.num_specks)
    some = int((counts > 0).sum())
    yield Finding(
        "warning" if worst else "note",
        "specks",
        f"{number(some, 'mask')} {'has' if some == 1 else 'have'} specks, components of a few "
        f"pixels beside larger ones"
        + (f"; {len(worst):,} {'has' if len(worst) == 1 else 'have'} very many" if worst else ""),
        some,
        "look at them; noise and compression leave specks, and distances between edges suffer",
        [
            File(survey.shown(one.pair.mask), number(one.num_specks, "speck"))
            for one in (worst or sorted(whole, key=lambda one: -one.num_specks)[:some])
        ],
    )


def _at_the_border(survey: Survey, others: Container[int]) -> Iterator[Finding]:
    whole = [one for one in survey.whole if one.foreground(survey.first) and id(one) in others]
    touching = [one for one in whole if one.ring > 0]
    if survey.first == 0 or not touching:
        return
    share = len(touching) / len(whole)
    yield Finding(
        "note",
        "masks at the border",
        f"{number(len(touching), 'mask')} of {len(whole):,} "
        f"{'touches' if len(touching) == 1 else 'touch'} the border of the image"
        + (", the others do not" if share < _RARELY and len(whole) >= _MANY else ""),
        len(touching),
        "nothing, if structures go on outside of the image; else the mask may be shifted, or the "
        "image cut",
        [
            File(survey.shown(one.pair.mask), f"{one.ring:.0%} of the border")
            for one in sorted(touching, key=lambda one: -one.ring)
        ],
    )
