"""What a value must be, read from the parameter that it is for.

A parameter says it by its type hint: ``Literal["max", "min"]``, ``Annotated[int, Field(ge=0)]``,
or, where words of its own are better than those made here, by ``Field(description=...)``. pydantic
judges, strictly: no text counts as a number. The sentence is ours.
"""

import functools
import operator
import types
from collections.abc import Iterable, Mapping
from enum import Enum, EnumType
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Predicate
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from liverseg.settings.words import nearest, remedy

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_SIMPLE = {
    **{"boolean": "true or false", "integer": "a whole number", "number": "a number"},
    **{"string": "text", "object": "a mapping of names"},
}
_BOUNDS = {  # of JSON schema, and how they are told
    ("minimum", "maximum"): " from {} to {}",
    ("minimum", "exclusiveMaximum"): " from {} up, below {}",
    ("minimum",): " from {} up",
    ("exclusiveMinimum", "maximum"): " above {} and up to {}",
    ("exclusiveMinimum", "exclusiveMaximum"): " above {} and below {}",
    ("exclusiveMinimum",): " above {}",
}
_OURS = __name__.partition(".")[0]


def is_object(value: Any) -> bool:
    """Tell whether a section names a class."""
    return isinstance(value, dict) and "_target_" in value


Section = Annotated[Any, Predicate(is_object)]


def told(hint: Any, words: str) -> Any:
    """Return a type that a sentence tells in these words."""
    return Annotated[hint, Field(description=words)]


def check_value(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not what a type hint says. Classes and ``???`` pass.

    Raises:
        ValueError: With the key, the value, what it must be, and the nearest word.
    """
    if value == "???" or is_object(value):
        return
    adapter = _adapter(hint)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        schema = adapter.json_schema()
        words = [word for part in (schema, *schema.get("anyOf", [])) for word in _choices(part)]
        end = remedy(nearest(str(value), words) if len(words) > 2 else None)
        raise ValueError(f"{key}={as_typed(value)} must be {_in_words(schema)}{end}") from error


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_as_in_config(hint), config=_STRICT)


def _as_in_config(hint: Any) -> Any:
    """Return a type hint as a config can fulfil it.

    Paths are text there, tuples are lists, enums are their values, and objects of ours are sections
    that name a class. What others want objects for, they take in other forms too: anything passes,
    and their class judges.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Path:
        return str
    if hint in (bool, int, float, str, None, type(None)) or origin is Literal:
        return hint
    if isinstance(hint, EnumType):
        return Literal[tuple(one.value for one in list[Enum](hint))]
    if origin is Annotated:
        return Annotated[(_as_in_config(arguments[0]), *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        # Text beside an enum is the name of one of it.
        named = any(isinstance(one, EnumType) for one in arguments)
        parts = [_as_in_config(one) for one in arguments if not (named and one is str)]
        return Any if Any in parts else functools.reduce(operator.or_, parts)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key = arguments[0] if get_origin(arguments[0]) is Literal else Any
        return dict[key, _as_in_config(arguments[1])]  # type: ignore[misc,valid-type]  # made here
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return list[_as_in_config(arguments[0])]  # type: ignore[misc]  # a type made here
    return Section if getattr(hint, "__module__", "").startswith(_OURS) else Any


def _in_words(schema: Mapping[str, Any]) -> str:
    """Say what a JSON schema wants of a value, as in ``a whole number from 1 up, or null``."""
    if "description" in schema:
        return str(schema["description"])
    if words := _choices(schema):
        return _listed(words)
    if parts := schema.get("anyOf"):
        told = list(dict.fromkeys(_in_words(part) for part in parts if part.get("type") != "null"))
        if len(told) == len(parts):
            return _listed(told)
        # "null or text", but "a whole number from 0 up, or null".
        longer = {"description", *chain(*_BOUNDS)}
        is_plain = not any(part.keys() & longer for part in parts)
        return _listed(["null", *told]) if is_plain else f"{_listed(told)}, or null"
    if "items" in schema:
        return f"a list, each entry {_in_words(schema['items'])}" if schema["items"] else "a list"
    kind = _SIMPLE.get(schema.get("type", ""), "a section that names a class by _target_")
    for bounds, form in _BOUNDS.items():
        if set(bounds) <= schema.keys():
            return kind + form.format(*(schema[one] for one in bounds))
    return kind


def _choices(schema: Mapping[str, Any]) -> list[str]:
    """Return the words among which a type lets one choose."""
    return list(map(str, schema.get("enum", [schema["const"]] if "const" in schema else [])))


def _listed(words: Iterable[str]) -> str:
    """Write choices one after the other."""
    *most, last = words
    if not most:
        return last
    comma = "," if any(" or " in one for one in (*most, last)) else ""
    return f"{', '.join(most)}{comma} or {last}"


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
