"""Regular expressions that a config brings: with one group, and never slow on a file's name.

Python's engine tries every way in which repeats can share a text between them. A repeat within a
repeat has a number of ways that doubles with each character, so that one name may take for ever;
repeats side by side have a power of the length, which is bounded by how many there are.
"""

import importlib
import re
from collections.abc import Sequence
from typing import Any

_parser: Any = importlib.import_module("re._parser")  # of Python itself, under no public name
_compiler: Any = importlib.import_module("re._compiler")
USUAL_PATTERN = r"^(.+)_slice\d+$"  # of configs/data/pairs.yaml
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_MOST_REPEATS = 4  # that can share a name between them in many ways
_MOST_TIMES = 256  # the longest name of most file systems
_LONGEST = 500  # characters of a pattern


def one_group(pattern: str) -> str:
    """Return a pattern that is empty, or a regular expression with exactly one group.

    Raises:
        ValueError: If it is none, or may take too long on a name.
    """
    try:
        is_good = pattern == "" or re.compile(pattern).groups == 1
    except (re.error, OverflowError, RecursionError):
        is_good = False
    if not is_good:
        raise ValueError(
            f"data.case_pattern={pattern} must be a regular expression with exactly one group"
        )
    if is_slow(pattern):
        raise ValueError(
            f"data.case_pattern={pattern} may take for ever on a name; write it with at most "
            f"{_MOST_REPEATS} open repeats such as .+, and none within another"
        )
    return pattern


def is_slow(pattern: str) -> bool:
    r"""Tell whether some name could keep a pattern busy for long.

    >>> is_slow(r"^(.+)_slice\d+$"), is_slow(r"^((a+)+)$"), is_slow(r"^(?:a|ab)*(x)$")
    (False, True, True)

    Args:
        pattern: A regular expression that compiles.
    """
    if len(pattern) > _LONGEST:
        return True
    try:
        return _free_repeats(_parser.parse(pattern)) > _MOST_REPEATS
    except RecursionError:
        return True


def _free_repeats(tree: Sequence[Any], after: Any = None) -> float:
    """Return how many repeats can share a text in several ways; infinite if one holds another.

    Args:
        tree: Parsed items.
        after: The item that follows the last one.
    """
    items = list(tree)
    count = 0.0
    for place, (kind, content) in enumerate(items):
        follower = items[place + 1] if place + 1 < len(items) else after
        if str(kind) in _REPEATS:
            least, most, body = content
            free = _free_repeats(body, follower if most == 1 else _first(body))
            if most > 1 and (free or least * max(len(body), 1) > _MOST_TIMES * 4):
                return float("inf")
            free += most > least and not _ends_there(body, follower)
        else:
            free = sum(_free_repeats(part, follower) for part in _parts(content))
            if str(kind) == "BRANCH":
                free += 0 if _begin_apart(content[1]) else 1
        count += free
    return count


def _first(body: Sequence[Any]) -> Any:
    """Return the item that a body begins with, also where it stands in a group."""
    for kind, content in body:
        return _first(_parts(content)[0]) if str(kind) == "SUBPATTERN" else (kind, content)
    return None


def _parts(content: Any) -> list[Any]:
    """Return the sub-patterns that an item holds, at whatever place."""
    if isinstance(content, _parser.SubPattern):
        return [content]
    if isinstance(content, list | tuple):
        return [part for one in content for part in _parts(one)]
    return []


def _begin_apart(alternatives: Sequence[Any]) -> bool:
    """Tell whether the alternatives begin with letters that differ, so that one letter decides."""
    firsts = [tuple(one[0]) if len(one) else None for one in alternatives]
    return all(one and str(one[0]) == "LITERAL" for one in firsts) and len(set(firsts)) == len(
        firsts
    )


def _ends_there(body: Any, follower: Any) -> bool:
    """Tell whether a repeat of one character can end in one place only: where a letter follows."""
    is_one = len(body) == 1 and body.getwidth() == (1, 1)
    if follower is None or str(follower[0]) != "LITERAL" or not is_one:
        return False
    return _compiler.compile(body).fullmatch(chr(follower[1])) is None
