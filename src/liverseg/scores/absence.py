"""Classes that no mask of a split holds: told, because their scores look like a success."""

from collections.abc import Sequence

from liverseg.scores.metrics import SegmentationScores


def classes_without_truth(scores: SegmentationScores) -> list[str]:
    """Return the names of the classes that no mask holds, of those that are scored."""
    true_positive, _, false_negative = scores.table().counts.sum(dim=0).unbind(dim=1)
    is_absent = (true_positive + false_negative == 0).tolist()
    return [name for name, one in zip(scores.class_names, is_absent, strict=True) if one]


def sentence_of_absence(split: str, names: Sequence[str]) -> str:
    """Say that no mask of a split holds some classes, and what that means.

    >>> sentence_of_absence("train", ["liver"])
    'no mask of train holds a pixel of liver, which the network cannot learn; look at the masks'
    """
    what = f"no mask of {split} holds a pixel of {', '.join(names)}"
    if split == "train":
        return f"{what}, which the network cannot learn; look at the masks"
    return (
        f"{what}: a Dice of 1 means that nothing was found where nothing is, not that it was found "
        "well; look at the masks"
    )
