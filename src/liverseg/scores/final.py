"""What the end of a run says beside the scores: intervals, and what the means do not show."""

import math
from collections.abc import Sequence

from liverseg.scores.averages import Addends, Table, addends, split_scores, values_of
from liverseg.scores.catalogue import CATALOGUE, computed, keys_of, score_of
from liverseg.scores.intervals import Interval, ratio_interval
from liverseg.scores.metrics import SegmentationScores

MISSED, FALSE_ALARMS = "missed", "false_alarms"
INFINITE = "_infinite"
_ENDS = ("_low", "_high")
_COUNTS = (MISSED, FALSE_ALARMS, "images", "patients")


def final_numbers(scores: SegmentationScores) -> dict[str, float]:
    """Return numbers of images and patients, what was missed, and an interval for each score.

    ``patients``, where every image has one, and ``images``: how many there are; ``images/NAME``:
    in how many a class is true. ``missed``: structures of images that are there and of which no
    pixel is found; ``false_alarms``: those that are predicted and not there.
    ``hd95_infinite``, and so on: how many values are not in a mean because they are infinite.
    ``dice_low`` and
    ``dice_high``: the ends of the 95 % interval of ``dice`` over patients, or over images where
    there are no patients, see :func:`liverseg.scores.intervals.ratio_interval`.

    Args:
        scores: Scores over the split, computed.
    """
    return _numbers(scores.table(), scores.class_names, scores.chosen)


def table_numbers(
    table: Table, class_names: Sequence[str], chosen: Sequence[str]
) -> dict[str, float]:
    """Return the scores of a table and what :func:`final_numbers` says beside them.

    Args:
        table: What was counted, of one split or of the folds of a cross-validation.
        class_names: The names of the classes.
        chosen: The words of the scores that were computed besides those that cost nothing.
    """
    scores = split_scores(table, computed(chosen), class_names)
    means = {key: float(value) for key, value in scores.items()}
    return means | _numbers(table, class_names, chosen)


def _numbers(table: Table, names: Sequence[str], chosen: Sequence[str]) -> dict[str, float]:
    true_positive, false_positive, false_negative = table.counts.unbind(dim=2)
    is_true = true_positive + false_negative > 0
    is_predicted = true_positive + false_positive > 0
    of_classes = {
        MISSED: is_true & (true_positive == 0),
        FALSE_ALARMS: is_predicted & ~is_true,
        "images": is_true,
    }
    numbers: dict[str, float] = {}
    for word, found in of_classes.items():
        counts = found.sum(dim=0).tolist()
        numbers[word] = float(len(table.indices) if word == "images" else sum(counts))
        if len(names) > 1:
            numbers |= {f"{word}/{name}": float(n) for name, n in zip(names, counts, strict=True)}
    if table.has_cases:
        numbers["patients"] = float(len(table.units().unique()))
    for key in keys_of(computed(chosen), has_cases=table.has_cases):
        numbers |= _infinite(table, key, names)
        parts = addends(table, key, by_unit=True)
        numbers |= _ends(key, "", parts)
        for place, name in enumerate(names if len(names) > 1 else ()):
            numbers |= _ends(key, f"/{name}", Addends(*(part[:, [place]] for part in parts)))
    return numbers


def _infinite(table: Table, key: str, names: Sequence[str]) -> dict[str, float]:
    """Count the infinite values of a score that has such, in all and of each of several classes."""
    found = score_of(key)
    if found is None or math.isfinite(found[0].most):
        return {}
    counts = values_of(table, *found).isinf().sum(dim=0).tolist()
    numbers = {key + INFINITE: float(sum(counts))}
    for name, count in zip(names, counts, strict=True):
        if len(names) > 1:
            numbers[f"{key}{INFINITE}/{name}"] = float(count)
    return numbers


def _ends(key: str, end: str, parts: Addends) -> dict[str, float]:
    found = score_of(key)
    assert found is not None
    interval: Interval | None = ratio_interval(
        *(part.numpy() for part in parts), least=0.0, most=found[0].most
    )
    if interval is None:
        return {}
    return dict(zip(ends_of(key + end), (interval.low, interval.high), strict=True))


def ends_of(key: str) -> tuple[str, str]:
    """Return the keys of the ends of a score's interval.

    >>> ends_of("test/dice/liver")
    ('test/dice_low/liver', 'test/dice_high/liver')
    """
    split, slash, rest = key.partition("/") if key.startswith(("val/", "test/")) else ("", "", key)
    name, of, class_name = rest.partition("/")
    low, high = (f"{split}{slash}{name}{end}{of}{class_name}" for end in _ENDS)
    return low, high


def is_score(name: str) -> bool:
    """Tell whether a final number is a score, not a count or the end of an interval.

    Args:
        name: Such as ``val/dice``, ``val/dice_low``, or what a user's own callback has added.
    """
    word = name.split("/")[1] if "/" in name else name
    ends = {key + end for key in keys_of(list(CATALOGUE)) for end in (*_ENDS, INFINITE)}
    return word not in _COUNTS and word not in ends
