"""What the values of a mask mean, and what its classes are called."""

from collections.abc import Sequence

IGNORED = 255  # value of a mask pixel that counts nowhere, in losses and in scores


def foreground_names(num_classes: int, class_names: Sequence[str] | None) -> list[str]:
    """Return one name for each foreground class.

    Raises:
        ValueError: If there are more or fewer names, or two are equal.
    """
    count = max(num_classes - 1, 1)
    names = list(class_names or (f"class_{index}" for index in range(1, count + 1)))
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"data.class_names={names} must hold {count} different names, one for each foreground "
            f"class of data.num_classes={num_classes}, or be null"
        )
    return names
