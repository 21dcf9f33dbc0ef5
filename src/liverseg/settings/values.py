"""What a value must be, read from the parameter that it is for.

A parameter says it by its type hint: ``Literal["max", "min"]``, ``Annotated[int, Field(ge=0)]``,
or, where words of its own are better than those made here, by ``Field(description=...)``. pydantic
judges, strictly: no text counts as a number. The sentence is ours.
"""

import functools
import operator
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from liverseg.settings.words import nearest

_SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_NULL = type(None)
_OURS = __name__.partition(".")[0]


def _names_class(section: Any) -> Any:
    if not is_object(section):
        raise ValueError("no class")  # pydantic takes it up
    return section


Section = Annotated[Any, AfterValidator(_names_class)]


def check_value(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not what a type hint says. Classes and ``???`` pass.

    Raises:
        ValueError: With the key, the value, what it must be, and the nearest word.
    """
    if value == "???" or is_object(value):
        return
    expected = as_in_config(hint)
    try:
        TypeAdapter(expected, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(
            value
        )
    except ValidationError as error:
        words = list(_words(expected))
        closest = nearest(str(value), words) if len(words) > 2 else None
        raise ValueError(
            f"{key}={as_typed(value)} must be {in_words(expected)}"
            + (f"; the nearest is {closest}" if closest else "")
        ) from error


def as_in_config(hint: Any) -> Any:
    """Return a type hint as a config can fulfil it.

    Paths are text there, tuples are lists, and objects of ours are sections that name a class. What
    others want objects for, they take in other forms too: anything passes, and their class judges.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Path:
        return str
    if hint in _SIMPLE or hint in (None, _NULL):
        return hint
    if origin is Literal:  # true is no 1, though they are equal
        is_flag = BeforeValidator(_refuse_flag)
        return Annotated[hint, is_flag] if any(map(is_whole, arguments)) else hint
    if origin is Annotated:
        return Annotated[(as_in_config(arguments[0]), *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        parts = [as_in_config(one) for one in arguments]
        return Any if Any in parts else functools.reduce(operator.or_, parts)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[Any, as_in_config(arguments[1])]  # type: ignore[misc]  # a type made here
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return list[as_in_config(arguments[0])]  # type: ignore[misc]  # a type made here
    return Section if getattr(hint, "__module__", "").startswith(_OURS) else Any


def _refuse_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a flag")  # pydantic takes it up
    return value


def in_words(hint: Any) -> str:
    """Say what a value must be, as in ``a whole number from 1 up, or null``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        notes = [one for note in hint.__metadata__ for one in getattr(note, "metadata", [note])]
        told = [note.description for note in hint.__metadata__ if getattr(note, "description", "")]
        return told[-1] if told else in_words(arguments[0]) + _bounds(notes)
    if origin is Literal:
        return _listed(map(str, arguments))
    if origin in (Union, types.UnionType):
        # "null or text", but "a whole number from 0 up, or null".
        first = [] if any(get_origin(one) is Annotated for one in arguments) else ["null"]
        told = list(dict.fromkeys(in_words(one) for one in arguments if one is not _NULL))
        if _NULL not in arguments:
            return _listed(told)
        return _listed([*first, *told]) if first else f"{_listed(told)}, or null"
    if origin is list:
        return "a list" if arguments == (Any,) else f"a list, each entry {in_words(arguments[0])}"
    return "a mapping of names" if origin is dict else _SIMPLE.get(hint, "null")


def _bounds(notes: Iterable[Any]) -> str:
    """Say between which numbers a value must lie."""
    found = {
        name: getattr(note, name)
        for note in notes
        for name in ("ge", "gt", "le", "lt")
        if getattr(note, name, None) is not None
    }
    told = f" from {found['ge']}" if "ge" in found else ""
    told += f" above {found['gt']}" if "gt" in found else ""
    if "le" in found:
        return f"{told} {'to' if 'ge' in found else 'and up to'} {found['le']}"
    told += " up" if "ge" in found else ""
    if "lt" in found:
        return f"{told}{',' if 'ge' in found else ' and'} below {found['lt']}"
    return told


def _words(hint: Any) -> Iterator[str]:
    """Yield the words among which a type hint lets one choose."""
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) in (Annotated, Union, types.UnionType):
        for part in get_args(hint)[: 1 if get_origin(hint) is Annotated else None]:
            yield from _words(part)


def _listed(words: Iterable[str]) -> str:
    """Write choices one after the other."""
    *most, last = words
    if not most:
        return last
    comma = "," if any(" or " in one for one in (*most, last)) else ""
    return f"{', '.join(most)}{comma} or {last}"


def is_object(value: Any) -> bool:
    """Tell whether a section names a class."""
    return isinstance(value, dict) and "_target_" in value


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_typed(value: Any) -> str:
    """Write a value as it is typed."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_typed(one)}' for key, one in value.items())}}}"
    return str(value)
