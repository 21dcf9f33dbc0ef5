"""A section against the class that its ``_target_`` names: the name, its keys, their values."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from liverseg.settings.table import rules_of
from liverseg.settings.values import as_typed, check_value, is_object
from liverseg.settings.words import nearest, remedy, walk

Plain = dict[str, Any]  # a config as plain dictionaries, lists and values
_TYPED = ("liverseg", "lightning", "torch", "torchvision", "optuna")  # with hints that are true


def refuse_no_class(key: str, node: Any, otherwise: str) -> None:
    """Refuse what names no class where one is needed, with what to do instead."""
    if not is_object(node):
        raise ValueError(f"{key}={as_typed(node)} must name a class by _target_; {otherwise}")


def class_nodes(node: Any, key: str) -> Iterator[tuple[str, Plain]]:
    """Yield the key and content of every section that names a class, the outer ones first."""
    return ((place, one) for place, one in [(key, node), *walk(node, key)] if is_object(one))


def check_node(key: str, node: Plain) -> None:
    """Hold the keys and values of a section against the class that it names."""
    target = find_target(key, node["_target_"])
    name = getattr(target, "__name__", str(target))
    values = {key: value for key, value in node.items() if not str(key).startswith("_")}
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):  # written in C
        return
    kinds = {parameter.kind for parameter in parameters.values()}
    for word, value in values.items():
        if word not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            closest = nearest(word, parameters)
            end = remedy(closest and f"{key}.{closest}", f"leave it out with ~{key}.{word}")
            raise ValueError(f"{key}.{word}={as_typed(value)} is no parameter of {name}{end}")
    later = 1 if node.get("_partial_") else 0  # given when it is built: parameters, an optimizer
    for word, one in list(parameters.items())[later:]:
        is_named = one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        is_needed = is_named and one.default is one.empty and "_args_" not in node
        if is_needed and word not in values:
            raise ValueError(f"{key}.{word} is not set, but {name} needs it; add +{key}.{word}=...")
    if isinstance(target, type):
        check_values(key, values, target)


def check_values(key: str, values: Mapping[str, Any], target: type) -> None:
    """Hold values against the table for a class, or else against the types it declares."""
    hints: dict[str, Any] = {}
    if target.__module__.partition(".")[0] in _TYPED:
        with suppress(Exception):  # hints are free text; without them, the class itself judges
            make = inspect.getattr_static(target, "__init__")
            hints = typing.get_type_hints(make, include_extras=True)
    hints |= rules_of(target)
    for word, value in values.items():
        check_value(f"{key}.{word}", value, hints.get(word, Any))


def find_target(key: str, target: Any) -> Callable[..., Any]:
    """Import what ``_target_`` names, or refuse it with the nearest name."""
    parts = target.split(".") if isinstance(target, str) else []
    there: Any = None
    for count, part in enumerate(parts):
        name = ".".join(parts[: count + 1])
        try:
            there = importlib.import_module(name)
            continue
        except ModuleNotFoundError as error:
            broken = f"{error}; install what it needs" if error.name != name else ""
        except Exception as error:  # whatever a module does when it is imported
            broken = f"{type(error).__name__}: {error}; repair it"
        if hasattr(there, part):
            there = getattr(there, part)
            continue
        if broken:
            raise ValueError(f"{key}._target_={target} cannot be imported: {broken}")
        closest = nearest(part, _names_in(there, modules=count + 1 < len(parts)))
        end = remedy(
            closest and ".".join([*parts[:count], closest, *parts[count + 1 :]]),
            f"{'.'.join(parts[:count]) or 'Python'} has no {part}",
        )
        raise ValueError(f"{key}._target_={target} does not exist{end}")
    if not callable(there):
        raise ValueError(
            f"{key}._target_={as_typed(target)} must be a class with its module, such as "
            "liverseg.network.UNet"
        )
    return typing.cast(Callable[..., Any], there)


def _names_in(there: Any, *, modules: bool) -> list[str]:
    """Return the modules in a package, or else what can be called there."""
    if there is None:
        return list(_TYPED)
    if modules:
        return [module.name for module in pkgutil.iter_modules(getattr(there, "__path__", []))]
    return [one for one in dir(there) if one[0] != "_" and callable(getattr(there, one))]
