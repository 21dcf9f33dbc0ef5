"""Which scores there are: the one place that names them.

Tables, dashboard, files, the words that ``monitor`` takes and the charts of a run read it here. A
key is the score's word and how it is averaged: ``dice``, ``dice_pooled``, ``dice_case``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ECE = "ece"  # expected calibration error, of probabilities: evaluate.py computes it
AVERAGES = {"": "per image", "_pooled": "pooled", "_case": "per case"}


@dataclass(frozen=True)
class Score:
    """What a word stands for.

    Attributes:
        word: As it stands in keys, files and settings.
        title: As it stands in texts and charts.
        definition: Of a class, from counts of pixels or from the edges of truth and prediction.
        is_better: Which of two values is the better one.
        averages: How it is averaged, of :data:`AVERAGES`.
        most: The largest value it can have; the smallest is 0.
        is_chosen: Whether it costs time, so that it is computed where ``scores`` names it.
        is_length: Whether its unit is that of the spacing: pixels, or mm.
        forgets: Whether a structure that is missed leaves its mean, which is then told beside it.
    """

    word: str
    title: str
    definition: str
    is_better: Literal["larger", "smaller"] = "larger"
    averages: tuple[str, ...] = ("", "_pooled", "_case")
    most: float = 1.0
    is_chosen: bool = False
    is_length: bool = False
    forgets: bool = False


_LENGTH = {
    "is_better": "smaller",
    "averages": ("",),
    "most": float("inf"),
    "is_chosen": True,
    "is_length": True,
    "forgets": True,
}
CATALOGUE = {
    score.word: score
    for score in (
        Score("dice", "Dice", "2TP / (2TP + FP + FN)"),
        Score("iou", "IoU", "TP / (TP + FP + FN)"),
        Score("precision", "precision", "TP / (TP + FP)"),
        Score("recall", "recall", "TP / (TP + FN)"),
        Score(
            "rvd",
            "relative volume difference",
            "|FP - FN| / (TP + FN), of the patients that have the class",
            is_better="smaller",
            averages=("_case",),
            most=float("inf"),
        ),
        Score("hd", "Hausdorff distance", "largest distance from edge to edge", **_LENGTH),  # type: ignore[arg-type]  # one dictionary for three
        Score(
            "hd95",
            "Hausdorff distance, 95 %",
            "larger of both 95th percentiles of the distances from edge to edge",
            **_LENGTH,  # type: ignore[arg-type]  # likewise
        ),
        Score(
            "assd",
            "average surface distance",
            "mean distance of all pixels of both edges to the other edge",
            **_LENGTH,  # type: ignore[arg-type]  # likewise
        ),
        Score(
            "nsd",
            "surface Dice",
            "share of both edges within the tolerance of the other",
            averages=("",),
            is_chosen=True,
        ),
    )
}
ALWAYS = tuple(word for word, score in CATALOGUE.items() if not score.is_chosen)
CHOSEN = tuple(word for word, score in CATALOGUE.items() if score.is_chosen)
METRIC_CONVENTION = (
    "foreground classes; dice, iou, precision, recall: per image and class, both empty = 1, one of "
    "them empty = 0, mean over images, then classes; _pooled: counts of the whole split, mean over "
    "classes that occur; _case: counts per case, mean over cases, then classes; distances: pixel "
    "edges by 4 (or 6) neighbours, the border is outside, both empty not counted, one empty "
    "infinite and not in the mean (nsd 0)"
)


def keys_of(words: Sequence[str] = ALWAYS, *, has_cases: bool = True) -> tuple[str, ...]:
    """Return the keys of scores in their order: per image, pooled, per case.

    >>> keys_of(["dice", "hd95"])
    ('dice', 'hd95', 'dice_pooled', 'dice_case')
    """
    return tuple(
        word + average
        for average in AVERAGES
        for word, score in CATALOGUE.items()
        if word in words and average in score.averages and (has_cases or average != "_case")
    )


def computed(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the words that are computed where some are chosen: these, and those that cost nothing.

    >>> computed(["nsd", "dice"])
    ('dice', 'iou', 'precision', 'recall', 'rvd', 'nsd')
    """
    return tuple(word for word in CATALOGUE if word in ALWAYS or word in chosen)


def score_of(key: str) -> tuple[Score, str] | None:
    """Return the score and the average that a key names, also one of a class; None for others.

    >>> score, average = score_of("hd95/liver")
    >>> score.title, average
    ('Hausdorff distance, 95 %', '')
    """
    name = key.partition("/")[0]
    for average in ("_pooled", "_case", ""):
        word = name.removesuffix(average) if average else name
        if name.endswith(average) and word in CATALOGUE and average in CATALOGUE[word].averages:
            return CATALOGUE[word], average
    return None


def title_of(key: str) -> str:
    """Return what a key is called in texts and charts.

    >>> title_of("dice_case"), title_of("hd95")
    ('Dice, per case', 'Hausdorff distance, 95 %')
    """
    found = score_of(key)
    assert found is not None, key
    score, average = found
    return f"{score.title}, {AVERAGES[average]}" if average else score.title


SCORES = keys_of()  # the keys of what is always computed
