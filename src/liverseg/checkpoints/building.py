"""From a name in a checkpoint to an object: networks, losses and data of an allowlist, no more."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from liverseg.checkpoints.limits import MOST_LEVELS
from liverseg.data import PairDataModule, Phantom

ALLOWED = ("liverseg", "torch.nn", "torchvision.models")
_BUILDABLE = (nn.Module, PairDataModule, Phantom)
_NEVER_PROPOSED = ("", "torch", "torchvision", "lightning", "hydra", "omegaconf", "liverseg")
_NAME = re.compile(r"[\w.]{0,200}")
_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
# Parameters by which a library fetches pretrained weights, and what keeps it from doing so.
_FETCHING = {"weights_backbone": None, "encoder_weights": None, "pretrained": False}


def build(node: Any, allow: Sequence[str] = ()) -> Any:  # what the config names
    """Build the object that a plain config describes, its parts first.

    All names are checked before anything is called.

    Args:
        node: Arguments by name, with the class under ``_target_``; parts are nested likewise.
        allow: Modules whose networks, losses and data may be named, besides :data:`ALLOWED`; of
            these, functions that say so too (``-> nn.Module``).

    Raises:
        ValueError: If a name is not allowed, or is not the name of something that may be built.
    """
    list(targets(node, allow))
    return _build(node, allow)


def _build(node: Any, allow: Sequence[str]) -> Any:
    if isinstance(node, Mapping):
        parts = {key: _build(value, allow) for key, value in node.items() if key not in _HYDRA_KEYS}
        if "_target_" not in node:
            return parts
        maker = _find(node["_target_"], allow)
        return maker(**{**parts, **_without_fetching(maker)})
    if isinstance(node, list):
        return [_build(value, allow) for value in node]
    return node


def _without_fetching(maker: Callable[..., Any]) -> dict[str, bool | None]:
    """Return the arguments by which a network is built without a download of weights."""
    try:
        taken = inspect.signature(maker).parameters
    except (TypeError, ValueError):  # written in C
        return {}
    of_torchvision = str(getattr(maker, "__module__", "")).startswith("torchvision.")
    fetching = _FETCHING | ({"weights": None} if of_torchvision else {})
    return {name: value for name, value in fetching.items() if name in taken}


def targets(node: Any, allow: Sequence[str] = (), levels: int = MOST_LEVELS) -> Iterator[Any]:
    """Yield what a config would have built, each looked up on the allowlist.

    Raises:
        ValueError: If one is not allowed, or if the config is nested too deeply.
    """
    if levels == 0:
        raise ValueError("the checkpoint's config is nested too deeply or holds itself")
    if isinstance(node, Mapping):
        if "_target_" in node:
            name = node["_target_"]
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError("the checkpoint's config names a class by what is no name")
            yield _find(name, allow)
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets(value, allow, levels - 1)


def _find(target: str, allow: Sequence[str]) -> Callable[..., Any]:
    """Look a name up, if it and the module that defines what it names stand on the allowlist."""
    module_name, _, name = target.rpartition(".")
    missing, remedy = module_name, ""
    if _stands_under(target, (*ALLOWED, *allow)):
        try:
            found = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError):
            raise ValueError(
                f"the checkpoint names {target}, which this installation does not have"
            ) from None
        home = str(getattr(found, "__module__", ""))
        is_function = inspect.isfunction(found) and _is_of_others(home)
        makes = _made_by(found) if is_function else found
        is_buildable = inspect.isclass(makes) and issubclass(makes, _BUILDABLE)
        if _stands_under(home, (*ALLOWED, *allow)) and (
            is_buildable
            or (_stands_under(home, ("torchvision.models",)) and _builds_a_network(found))
        ):
            return found  # type: ignore[no-any-return]  # a class or a function
        missing = "" if _stands_under(home, allow) or not is_buildable else home
        if is_function and not is_buildable:
            remedy = f"; say what it makes, as in def {name}(...) -> nn.Module"
    if _is_of_others(missing):
        where = "" if missing == module_name else f"; it is defined in {missing}"
        remedy = f"{where}; if you trust the file, add allow=[{','.join([*allow, missing])}]"
    raise ValueError(
        f"the checkpoint names {target}, which is not allowed: it may build networks, losses and "
        f"data of {', '.join((*ALLOWED, *allow))}{remedy}"
    )


def _made_by(function: Callable[..., Any]) -> Any:
    """Return what a function is annotated to return; most that could do harm return no network."""
    try:
        return inspect.signature(function, eval_str=True).return_annotation
    except Exception:  # of names that exist for a type checker alone
        return None


def _is_of_others(module: str) -> bool:
    """Tell whether a module is neither Python's nor of a package that this one is built on."""
    return module.partition(".")[0] not in (*sys.stdlib_module_names, *_NEVER_PROPOSED)


def _builds_a_network(found: Any) -> bool:
    """Tell whether a function of torchvision makes one network, and can make it without weights."""
    return inspect.isfunction(found) and "weights" in inspect.signature(found).parameters


def _stands_under(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
