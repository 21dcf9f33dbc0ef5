"""The known word that was probably meant."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like this one, or None where none does."""
    words = {one.lower(): one for one in sorted(set(known))}
    low = word.lower()
    longer = [one for one in words if low and one.startswith(low)]
    found = longer if len(longer) == 1 else difflib.get_close_matches(low, words, n=1)
    return words[found[0]] if found else None


def remedy(closest: str | None, otherwise: str = "") -> str:
    """Return the end of a sentence: the known word that is nearest, or else what to do."""
    end = f"the nearest is {closest}" if closest else otherwise
    return f"; {end}" if end else ""


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """Return the known key, such as ``model.depth``, that looks most like this one, or None."""
    keys = sorted(set(known), key=lambda one: (one.count("."), one))
    section, _, last = key.rpartition(".")
    names = {one: one.rpartition(".")[2] for one in keys}
    scores = {one: _likeness(key, one) + _likeness(last, names[one]) for one in keys}
    best = max(keys, key=scores.__getitem__, default=None)
    if best is not None and scores[best] >= 2 * 0.7:
        return best
    inside = [one for one in keys if one.startswith(section) and _is_short_for(last, names[one])]
    return min(inside, key=lambda one: len(names[one]), default=None)


def _is_short_for(word: str, name: str) -> bool:
    """Tell whether a word is a part of a name, or its initials, or the other way round.

    So ``epochs`` stands for ``max_epochs``, and ``learning_rate`` for ``lr``.
    """
    parts, others = word.split("_"), name.split("_")
    initials = ["".join(name[:1] for name in names) for names in (parts, others)]
    return word in (*others, initials[1]) or "_".join(others) == initials[0]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def walk(node: Any, key: str = "", *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield key and content of all that lies below a node of a plain config, outer ones first.

    With ``lists`` the entries of a list lie below it, each with its place as its key.
    """
    below = node.items() if isinstance(node, dict) else ()
    for name, value in enumerate(node) if lists and isinstance(node, list) else below:
        there = f"{key}.{name}" if key else str(name)
        yield there, value
        yield from walk(value, there, lists=lists)


def all_keys(node: Any) -> Iterator[str]:
    """Yield the key of every section and value, but for Hydra's own, such as ``_target_``."""
    keys = (key for key, _ in walk(node, lists=False))
    return (key for key in keys if not key.rpartition(".")[2].startswith("_"))
