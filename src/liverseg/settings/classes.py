"""A section against the class that its ``_target_`` names: the name, its keys, their values.

What values must be where no parameter of ours says it, those of others' classes, stands in a table.
"""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from annotated_types import Predicate
from pydantic import BeforeValidator, Field

from liverseg.settings.values import as_typed, check_value, is_object, told
from liverseg.settings.words import nearest, remedy, walk

Plain = dict[str, Any]  # a config as plain dictionaries, lists and values
_TYPED = ("liverseg", "lightning", "torch", "torchvision", "optuna")  # with hints that are true


def _is_strategy(name: str) -> bool:
    from lightning.pytorch.strategies import StrategyRegistry

    return name in StrategyRegistry.available_strategies()


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Direction = Literal["max", "min"]
Endless = told(AtLeastOne | Literal[-1], "a whole number from 1 up, or -1 for no end")
Batches = told(  # without a batch there is no score
    AtLeastOne | Annotated[float, Field(gt=0, le=1)],
    "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0",
)

Time = (
    Annotated[str, Field(pattern=r"^\d+(:\d\d){3}$")]
    | dict[Literal["weeks", "days", "hours", "minutes", "seconds"], NotNegative]
)
_TIME = "days:hours:minutes:seconds, such as 00:08:00:00"
_PRECISIONS = (  # some of these words look like numbers
    *("auto", "32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true"),
    *("transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16"),
)

# By package and class: a rule holds for the parameter of the class and of those derived from it.
_OTHERS: dict[str, dict[str, Any]] = {
    "torch.Optimizer": {
        "lr": Positive,
        "weight_decay": NotNegative,
        "momentum": BelowOne,
        "betas": told(
            Annotated[list[BelowOne], Field(min_length=2, max_length=2)],
            "two numbers from 0 up, below 1",
        ),
        "eps": NotNegative,
    },
    "torch.LRScheduler": {
        "T_max": told(
            AtLeastOne,
            "a whole number from 1 up; for training without end choose scheduler=constant",
        ),
        "factor": Positive,
        "patience": Count,
        "total_iters": Count,
        "step_size": AtLeastOne,
        "gamma": Positive,
        "mode": Direction,
    },
    "lightning.ModelCheckpoint": {"mode": Direction, "filename": told(str, "text") | None},
    "lightning.EarlyStopping": {"mode": Direction, "patience": Count},
    "lightning.Trainer": {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
        "devices": told(
            Literal["auto", "-1", -1]
            | Annotated[str, Field(pattern=r"^[1-9]\d*$")]
            | AtLeastOne
            | Annotated[list[Count], Field(min_length=1)],
            "auto, a number of devices from 1 up, -1 for all, or a list of their numbers",
        ),
        "strategy": told(
            Literal["auto", "ddp", "fsdp"] | Annotated[str, Predicate(_is_strategy)],
            "auto, ddp or another strategy of Lightning",
        ),
        "num_nodes": AtLeastOne,
        "precision": Annotated[Literal[_PRECISIONS], BeforeValidator(str)],
        "profiler": Literal["simple", "advanced", "pytorch", "xla"] | None,
        "max_epochs": Endless,
        "max_steps": Endless,
        "max_time": told(Time, _TIME) | None,
        "val_check_interval": told(
            AtLeastOne | Annotated[float, Field(gt=0, le=1)] | Time,
            "a number of batches from 1 up, a part of an epoch above 0.0 and up to 1.0, or "
            f"{_TIME}",
        )
        | None,
        "min_epochs": Count | None,
        "min_steps": Count | None,
        **{f"limit_{split}_batches": Batches | None for split in ("train", "val", "test")},
        "check_val_every_n_epoch": AtLeastOne,
        "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
        "log_every_n_steps": Count | None,
        "accumulate_grad_batches": AtLeastOne,
        "gradient_clip_val": NotNegative | None,
        "gradient_clip_algorithm": told(Literal["norm", "value"], "norm or value") | None,
    },
}


def rules_of(target: type) -> Iterator[tuple[str, Any]]:
    """Yield parameter and type of what the table says of a class, the most general class first."""
    for one in reversed(target.__mro__):
        yield from _OTHERS.get(f"{one.__module__.partition('.')[0]}.{one.__name__}", {}).items()


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
