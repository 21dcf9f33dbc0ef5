"""What the values of a mask mean, and what its classes are called."""

from collections.abc import Sequence

IGNORED = 255  # value of a mask pixel that counts nowhere, in losses and in scores


def scored_names(
    num_classes: int, class_names: Sequence[str] | None, *, background: bool = True
) -> list[str]:
    """Return one name for each class that is scored; they are the last ones of all classes.

    Args:
        num_classes: 1 for foreground against background, N for the classes 0 ... N - 1.
        class_names: The names; None calls the classes class_1, class_2, ..., by their index.
        background: Whether class 0 is background, which is not scored.

    Raises:
        ValueError: If there are more or fewer names, or two are equal, or if background is to be
            scored and has no logit of its own.
    """
    if not background and num_classes == 1:
        raise ValueError(
            "data.background=false scores every class, and data.num_classes=1 has one beside "
            "background; set data.num_classes to the number of classes in the masks, such as 11"
        )
    first = int(background)
    count = max(num_classes, 2) - first
    names = list(class_names or (f"class_{index}" for index in range(first, first + count)))
    if len(names) != count or len(set(names)) != count:
        which = "foreground class" if background else "class"
        typed = ",".join(map(str, names))
        raise ValueError(
            f"data.class_names=[{typed}] must hold {count} different names, one for each {which} "
            f"of data.num_classes={num_classes}, or be null"
        )
    return names


def first_scored(num_classes: int, class_names: Sequence[str]) -> int:
    """Return the index of the first scored class: 1, or 0 where background is scored too."""
    return max(num_classes, 2) - len(class_names)
