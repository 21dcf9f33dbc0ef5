"""Which settings are refused before any data is read, each in one sentence.

Three things are held against the config, in this order: every value against its kind and range
(:data:`RULES`, and the types that a class declares), every section against the class below it, and
the sections against one another. What a class of this package refuses by itself when it is built,
such as ``model.depth=0``, stands there and not here.
"""

import importlib
import inspect
import math
import pkgutil
import re
import tempfile
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import StrategyRegistry
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from liverseg.commandline import all_keys, nearest, nearest_key, what_blocks
from liverseg.datamodule import PairDataModule
from liverseg.losses import BinaryCrossEntropy, CrossEntropy, SoftDiceLoss, SumLoss
from liverseg.metrics import SCORES
from liverseg.pictures import PictureBoard

Plain = dict[str, Any]  # a config as plain dictionaries, lists and values
_SECTIONS = ("data", "model", "loss", "optimizer", "scheduler", "trainer")
_VALUES = ("seed", "monitor", "monitor_mode", "threshold", "compile", "output_dir")
_NEEDED = (*_SECTIONS, "callbacks", "logger", *_VALUES)
_TYPED = ("liverseg", "lightning", "torch", "torchvision")  # type hints that tell the truth
_Kind = TypeVar("_Kind")
_MOST_STEPS = 10_000  # of a schedule, tried before training


class Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    says: str
    holds: Callable[[Any], bool]
    words: tuple[str, ...] = ()  # the choices, where there are some


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _whole(least: int, most: int | None = None) -> Rule:
    if most is None:
        return Rule(
            f"a whole number from {least} up", lambda value: _is_whole(value) and value >= least
        )
    return Rule(
        f"a whole number from {least} to {most}",
        lambda value: _is_whole(value) and least <= value <= most,
    )


def _listed(words: Sequence[str]) -> str:
    if len(words) == 1:
        return words[0]
    last = ", or " if any(" or " in word for word in words) else " or "
    return f"{', '.join(words[:-1])}{last}{words[-1]}"


def _words(*words: str) -> Rule:
    return Rule(
        _listed(words), lambda value: not isinstance(value, bool) and str(value) in words, words
    )


def _or_null(rule: Rule) -> Rule:
    return rule._replace(
        says=f"{rule.says}, or null", holds=lambda value: value is None or rule.holds(value)
    )


def _is_case_pattern(value: Any) -> bool:
    try:
        return value == "" or re.compile(value).groups == 1
    except (re.error, TypeError):
        return False


def _is_part(value: Any) -> bool:
    return (_is_whole(value) and value >= 1) or (isinstance(value, float) and 0 < value <= 1)


def _is_devices(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"auto|-1|[1-9]\d*", value) is not None
    if isinstance(value, list):
        return bool(value) and all(_is_whole(one) and one >= 0 for one in value)
    return _is_whole(value) and (value >= 1 or value == -1)


WHOLE = Rule("a whole number", _is_whole)
NUMBER = Rule("a number", _is_number)
POSITIVE = Rule("a number above 0", lambda value: _is_number(value) and value > 0)
NOT_NEGATIVE = Rule("a number from 0 up", lambda value: _is_number(value) and value >= 0)
BELOW_ONE = Rule("a number from 0 up, below 1", lambda value: _is_number(value) and 0 <= value < 1)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("text", lambda value: isinstance(value, str))
NULL = Rule("null", lambda value: value is None)
ENDLESS = Rule(
    "a whole number from 1 up, or -1 for no end",
    lambda value: _is_whole(value) and (value >= 1 or value == -1),
)
PART = Rule(
    "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0", _is_part
)  # without a batch there is no score

TOP_RULES: dict[str, Rule] = {
    "seed": _whole(0, 2**32 - 1),
    "monitor": TEXT,
    "monitor_mode": _words("max", "min"),
    "threshold": Rule(
        "a number above 0 and below 1", lambda value: _is_number(value) and 0 < value < 1
    ),
    "compile": FLAG,
    "sweep_name": Rule("a name", lambda value: _is_whole(value) or bool(value)),
    "output_dir": Rule("a folder", lambda value: isinstance(value, str) and bool(value)),
    "ckpt_path": _or_null(TEXT),
    "callbacks": Rule(
        "a mapping of names to callbacks, {} for none", lambda value: isinstance(value, dict)
    ),
    "logger": Rule(
        "a class, a list of them, or null",
        lambda value: value is None or (isinstance(value, list) and all(map(_is_object, value))),
    ),
    "num_pictures": _whole(0),
}

# By class: a rule holds for the parameter of the class and of those derived from it.
RULES: dict[type, dict[str, Rule]] = {
    PairDataModule: {
        "root": Rule("a folder", lambda value: isinstance(value, str) and bool(value)),
        "channels": Rule("1 (grey) or 3 (RGB)", lambda value: _is_whole(value) and value in (1, 3)),
        "image_size": Rule(
            "null or [height, width] in pixels",
            lambda value: value is None or (isinstance(value, list) and all(map(_is_whole, value))),
        ),
        "mask_values": Rule(
            "null, or a list with a mask value, or a list of them, for each class",
            lambda value: (
                value is None
                or (
                    isinstance(value, list)
                    and all(
                        _is_whole(one) or (isinstance(one, list) and all(map(_is_whole, one)))
                        for one in value
                    )
                )
            ),
        ),
        "num_workers": _whole(0),
        "cache_megabytes": _whole(0),
        "case_pattern": Rule(
            r'a regular expression with exactly one group, such as ^(.+)_slice\d+$, or ""',
            _is_case_pattern,
        ),
        "seed": _whole(0, 2**32 - 1),
        "phantom": Rule("null, or a class that draws pairs", lambda value: value is None),
        "augment": Rule(
            "a mapping of names to transforms, {} for none", lambda value: isinstance(value, dict)
        ),
    },
    SumLoss: {
        "losses": Rule(
            "a list of classes",
            lambda value: isinstance(value, list) and all(map(_is_object, value)),
        ),
    },
    PictureBoard: {"num_pictures": _whole(0)},
    Optimizer: {
        "lr": POSITIVE,
        "weight_decay": NOT_NEGATIVE,
        "momentum": BELOW_ONE,
        "betas": Rule(
            "two numbers from 0 up, below 1",
            lambda value: (
                isinstance(value, list) and len(value) == 2 and all(map(BELOW_ONE.holds, value))
            ),
        ),
        "eps": NOT_NEGATIVE,
    },
    LRScheduler: {
        "T_max": _whole(1)._replace(
            says="a whole number from 1 up; for training without end choose scheduler=constant"
        ),
        "factor": POSITIVE,
        "patience": _whole(0),
        "total_iters": _whole(0),
        "step_size": _whole(1),
        "gamma": POSITIVE,
        "mode": _words("max", "min"),
    },
    ModelCheckpoint: {"mode": _words("max", "min"), "filename": _or_null(TEXT)},
    EarlyStopping: {"mode": _words("max", "min"), "patience": _whole(0)},
    Trainer: {
        "accelerator": _words("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
        "devices": Rule(
            "auto, a number of devices from 1 up, -1 for all, or a list of their numbers",
            _is_devices,
            ("auto",),
        ),
        "strategy": Rule(
            "auto, ddp or another strategy of Lightning",
            lambda value: value in ("auto", *StrategyRegistry.available_strategies()),
            ("auto", *StrategyRegistry.available_strategies()),
        ),
        "num_nodes": _whole(1),
        "precision": _words(
            *("32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true"),
            *("transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16"),
        ),
        "max_epochs": ENDLESS,
        "max_steps": ENDLESS,
        "min_epochs": _or_null(_whole(0)),
        "min_steps": _or_null(_whole(0)),
        "limit_train_batches": _or_null(PART),
        "limit_val_batches": _or_null(PART),
        "limit_test_batches": _or_null(PART),
        "check_val_every_n_epoch": _whole(1),
        "num_sanity_val_steps": _or_null(_whole(-1)),
        "log_every_n_steps": _or_null(_whole(0)),
        "accumulate_grad_batches": _whole(1),
        "gradient_clip_val": _or_null(NOT_NEGATIVE),
        "gradient_clip_algorithm": _or_null(_words("norm", "value")),
    },
}


def check_settings(config: DictConfig) -> None:
    """Refuse a config that cannot become a run, before anything is read or trained.

    A rule holds where its key exists: another class may bring other keys. Values that are not set
    (``???``) are passed over.

    Args:
        config: What ``configs/train.yaml``, or another one of the commands, composes.

    Raises:
        ValueError: With one sentence that names the key, its value and the remedy.
    """
    present = list(config)
    is_training = "monitor" in present or "model" in present
    if is_training and (absent := [key for key in _NEEDED if key not in present]):
        raise ValueError(
            f"{absent[0]} is missing from the config; leave out ~{absent[0]}, or set it"
        )
    plain = _resolved(config)
    for key, rule in TOP_RULES.items():
        if key in plain:
            _hold(key, plain[key], rule)
    if is_training:
        for section in _SECTIONS:
            _refuse_no_class(section, plain[section])
    first = {"data": 0, "trainer": 1}  # others copy values from them, and are told of later
    for section in sorted(plain, key=lambda name: first.get(name, 2)):
        for key, node in _nodes(plain[section], section):
            _check_node(key, node)
    if "data" in plain and "_target_" not in plain["data"]:  # evaluate.yaml: null keeps the run's
        changes = {key: value for key, value in plain["data"].items() if value is not None}
        _check_values("data", changes, PairDataModule)
    _check_device(plain)
    if is_training:
        _check_monitors(plain)
        _check_end(plain)
        _check_agreement(plain)
        _check_losses(plain)
        _try_building(config, plain)
        _check_root(plain)
    _check_output(plain)


def score_names(data: Mapping[str, Any]) -> list[str]:
    """Return the names under which a run logs what it measures on val.

    Args:
        data: The section ``data`` of a config.
    """
    scores = [score for score in SCORES if data.get("case_pattern") or not score.endswith("_case")]
    num_foreground = data["num_classes"] - 1 if _is_whole(data.get("num_classes")) else 1
    names = data.get("class_names") or [f"class_{index + 1}" for index in range(num_foreground)]
    per_class = [f"{score}/{name}" for score in scores for name in names if num_foreground > 1]
    return [f"val/{name}" for name in ("loss", *scores, *per_class)]


def _resolved(config: DictConfig) -> Plain:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "a setting", str(error).splitlines()[0]
        found = re.search(r"Interpolation key '(.+)' not found", reason)
        if found is None:
            raise ValueError(f"{key} cannot be resolved ({reason}); correct it") from error
        known = set(all_keys(OmegaConf.to_container(config, resolve=False))) - {key}
        closest = nearest_key(found.group(1), known)
        remedy = f"the nearest is {closest}" if closest else "name one that does"
        raise ValueError(
            f"{key} refers to {found.group(1)}, which does not exist; {remedy}"
        ) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _shown(value: Any) -> str:
    """Write a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(_shown(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_shown(one)}' for key, one in value.items())}}}"
    return str(value)


def _hold(key: str, value: Any, rule: Rule) -> None:
    """Refuse a value that breaks a rule. Objects (a ``_target_``) and ``???`` pass."""
    if value == "???" or _is_object(value) or rule.holds(value):
        return
    closest = nearest(str(value), rule.words)
    raise ValueError(
        f"{key}={_shown(value)} must be {rule.says}"
        + (f"; the nearest is {closest}" if closest and len(rule.words) > 2 else "")
    )


def _refuse_no_class(section: str, node: Any) -> None:
    if not _is_object(node):
        raise ValueError(
            f"{section}={_shown(node)} must name a class by _target_; choose one with "
            f"{section}=NAME"
        )
    if section in ("optimizer", "scheduler", "trainer") and node.get("_partial_") is not True:
        raise ValueError(
            f"{section}._partial_={_shown(node.get('_partial_'))} must be true; it is built later, "
            "from what training brings"
        )


def _refuse_plain(key: str, node: Any) -> None:
    """Refuse what is no class where several stand by name."""
    if not _is_object(node):
        raise ValueError(
            f"{key}={_shown(node)} must name a class by _target_; leave it out with ~{key}"
        )


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, Plain]]:
    """Yield the key and content of every section that names a class, the outer ones first."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from _nodes(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes(value, f"{key}.{index}")


def _check_node(key: str, node: Plain) -> None:
    """Hold the keys and values of a section against the class that it names."""
    target = _find_target(key, node["_target_"])
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
            raise ValueError(
                f"{key}.{word}={_shown(value)} is no parameter of {name}; "
                + (
                    f"the nearest is {key}.{closest}"
                    if closest
                    else f"leave it out with ~{key}.{word}"
                )
            )
    later = 1 if node.get("_partial_") else 0  # given when it is built: parameters, an optimizer
    for parameter in list(parameters.values())[later:]:
        is_needed = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if is_needed and parameter.name not in values and "_args_" not in node:
            raise ValueError(
                f"{key}.{parameter.name} is not set, but {name} needs it; add "
                f"+{key}.{parameter.name}=..."
            )
    if isinstance(target, type):
        _check_values(key, values, target)


def _check_values(key: str, values: Mapping[str, Any], target: type) -> None:
    """Hold values against the rules for a class, or else against the types it declares."""
    rules = {
        word: rule
        for owner, table in RULES.items()
        if issubclass(target, owner)
        for word, rule in table.items()
    }
    hints: dict[str, Any] = {}
    if target.__module__.partition(".")[0] in _TYPED:
        try:
            hints = typing.get_type_hints(inspect.getattr_static(target, "__init__"))
        except Exception:  # hints are free text to Python; without them, the class itself judges
            hints = {}
    for word, value in values.items():
        rule = rules.get(word) or _rule_of(hints.get(word, Any))
        if rule is not None:
            _hold(f"{key}.{word}", value, rule)


def _rule_of(hint: Any) -> Rule | None:
    """Return what a type hint demands of a value, or None where it says too little."""
    simple = {bool: FLAG, int: WHOLE, float: NUMBER, str: TEXT, types.NoneType: NULL}
    if hint in simple:
        return simple[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Rule(
            _listed(list(map(str, arguments))),
            lambda value: not isinstance(value, bool) and value in arguments,
            tuple(map(str, arguments)),
        )
    if origin in (Union, types.UnionType):
        ordered = sorted(arguments, key=lambda one: one is not types.NoneType)  # null first
        rules = [_rule_of(one) for one in ordered if one is not Path]
        known = [rule for rule in rules if rule is not None]
        if len(known) < len(rules):
            return None
        return Rule(
            _listed(list(dict.fromkeys(rule.says for rule in known))),
            lambda value: any(rule.holds(value) for rule in known),
            sum((rule.words for rule in known), ()),
        )
    if isinstance(origin, type) and issubclass(origin, Iterable) and origin is not dict:
        if issubclass(origin, Mapping):
            return Rule("a mapping of names", lambda value: isinstance(value, dict))
        inner = _rule_of(arguments[0]) if arguments else None
        if inner is None:
            return Rule("a list", lambda value: isinstance(value, list))
        return Rule(
            f"a list, each entry {inner.says}",
            lambda value: isinstance(value, list) and all(map(inner.holds, value)),
        )
    return None


def _find_target(key: str, target: Any) -> Callable[..., Any]:
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
        remedy = (
            f"the nearest is {'.'.join([*parts[:count], closest, *parts[count + 1 :]])}"
            if closest
            else f"{'.'.join(parts[:count]) or 'Python'} has no {part}"
        )
        raise ValueError(f"{key}._target_={target} does not exist; {remedy}")
    if not callable(there):
        raise ValueError(
            f"{key}._target_={_shown(target)} must be a class with its module, such as "
            "liverseg.unet.UNet"
        )
    return typing.cast(Callable[..., Any], there)


def _names_in(there: Any, *, modules: bool) -> list[str]:
    """Return the modules in a package, or else what can be called there."""
    if there is None:
        return list(_TYPED)
    if modules:
        return [module.name for module in pkgutil.iter_modules(getattr(there, "__path__", []))]
    return [one for one in dir(there) if one[0] != "_" and callable(getattr(there, one))]


def devices_here() -> tuple[int, bool]:
    """Return the number of CUDA GPUs, and whether there is an Apple GPU."""
    return torch.cuda.device_count(), torch.backends.mps.is_available()


def _check_device(plain: Plain) -> None:
    """Refuse devices that this computer does not have."""
    trainer = plain.get("trainer") or {}
    accelerator, devices = trainer.get("accelerator"), trainer.get("devices", 1)
    num_gpus, has_mps = devices_here()
    missing = {"gpu": not num_gpus and not has_mps, "cuda": not num_gpus, "mps": not has_mps}
    if missing.get(str(accelerator)):
        raise ValueError(
            f"trainer.accelerator={accelerator} finds no such device here; set "
            "trainer.accelerator=auto, which takes what there is"
        )
    on_gpu = num_gpus > 0 and accelerator in ("gpu", "cuda", "auto")
    wanted = max(devices) + 1 if isinstance(devices, list) else devices
    if on_gpu and _is_whole(wanted) and wanted > num_gpus:
        raise ValueError(
            f"trainer.devices={_shown(devices)} asks for more than the {num_gpus} found here; set "
            f"trainer.devices={num_gpus} or fewer"
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not num_gpus and not has_mps)
    if on_cpu and (isinstance(devices, list) or devices in (-1, "-1")):
        count = len(devices) if isinstance(devices, list) else 1
        raise ValueError(
            f"trainer.devices={_shown(devices)} is for GPUs, and training would run on the CPU; "
            f"set trainer.devices={count}, a number of processes"
        )


def _check_monitors(plain: Plain) -> None:
    """Refuse a monitor that no one logs, or a mode that does not fit it."""
    names = score_names(plain["data"])
    _check_monitor("monitor", plain["monitor"], names)
    _check_mode("monitor_mode", plain.get("monitor_mode", "max"), plain["monitor"])
    for name, node in (plain.get("callbacks") or {}).items():
        _refuse_plain(f"callbacks.{name}", node)
        watched = node.get("monitor")
        if watched is None:
            continue
        _check_monitor(f"callbacks.{name}.monitor", watched, names)
        target = _find_target(f"callbacks.{name}", node["_target_"])
        if isinstance(target, type) and issubclass(target, ModelCheckpoint | EarlyStopping):
            _check_mode(f"callbacks.{name}.mode", node.get("mode", "min"), watched)
    target = _find_target("scheduler", plain["scheduler"]["_target_"])
    if isinstance(target, type) and issubclass(target, ReduceLROnPlateau):
        _check_mode("scheduler.mode", plain["scheduler"].get("mode", "min"), plain["monitor"])


def _check_monitor(key: str, monitor: str, names: Sequence[str]) -> None:
    if monitor in names:
        return
    score, _, _ = monitor.removeprefix("val/").partition("/")
    if monitor.startswith("val/") and score in SCORES and score.endswith("_case"):
        raise ValueError(
            f"{key}={monitor} needs data.case_pattern, which finds the patient in a file name; set "
            f"it, or {key}=val/{score.removesuffix('_case')}"
        )
    split, _, rest = monitor.partition("/")
    if split in ("train", "test") and f"val/{rest}" in names:
        raise ValueError(
            f"{key}={monitor} must be a score of val, which judges a network while it is trained; "
            f"the nearest is val/{rest}"
        )
    closest = f"val/{monitor}" if f"val/{monitor}" in names else nearest(monitor, names)
    if closest is None:
        few = [name for name in names if name.count("/") == 1]
        raise ValueError(f"{key}={monitor} is not logged; choose one of {', '.join(few)}")
    raise ValueError(f"{key}={monitor} is not logged; the nearest is {closest}")


def _check_mode(key: str, mode: str, monitor: str) -> None:
    best, better = ("min", "smaller") if monitor == "val/loss" else ("max", "larger")
    if mode != best:
        raise ValueError(
            f"{key}={mode} does not fit {monitor}: {better} is better; set {key}={best}"
        )


def _check_end(plain: Plain) -> None:
    """Refuse a training that ends without a checkpoint or a score."""
    trainer = plain["trainer"]
    if trainer.get("fast_dev_run"):
        raise ValueError(
            f"trainer.fast_dev_run={_shown(trainer['fast_dev_run'])} writes no checkpoint that "
            "could be scored; leave it out and choose trainer=debug"
        )
    if trainer.get("enable_checkpointing") is False:
        raise ValueError(
            "trainer.enable_checkpointing=false leaves nothing to score; set it to true"
        )
    every, epochs = trainer.get("check_val_every_n_epoch", 1), trainer.get("max_epochs")
    if _is_whole(epochs) and 0 < epochs < every:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={every} is more than trainer.max_epochs={epochs}, so "
            f"nothing would be scored; set it to {epochs} or fewer"
        )


def _check_agreement(plain: Plain) -> None:
    """Refuse channels and classes that differ between data and model."""
    for word, same in (("in_channels", "channels"), ("num_classes", "num_classes")):
        model, data = plain["model"].get(word), plain["data"].get(same)
        if model is not None and data is not None and model != data:
            raise ValueError(
                f"model.{word}={_shown(model)} must equal data.{same}={_shown(data)}; leave "
                f"model.{word} out, which follows data.{same} by itself"
            )


def _check_losses(plain: Plain) -> None:
    """Refuse a loss that does not fit the number of classes."""
    num_classes = plain["data"].get("num_classes")
    if not _is_whole(num_classes):
        return
    for key, node in _nodes(plain["loss"], "loss"):
        target = _find_target(key, node["_target_"])
        if target is BinaryCrossEntropy and num_classes > 1:
            raise ValueError(
                f"{key}._target_={node['_target_']} takes one logit, but data.num_classes="
                f"{num_classes} gives {num_classes}; set loss=dice_ce or loss=cross_entropy"
            )
        count, whose = 0, ""
        if target is CrossEntropy:
            count, whose = max(num_classes, 2), "class, background first"
        elif target is SoftDiceLoss:
            count, whose = max(num_classes - 1, 1), "foreground class"
        weights = node.get("class_weights") or []
        if count and len(weights) not in (0, count):
            raise ValueError(
                f"{key}.class_weights={_shown(weights)} must hold {count} "
                f"number{'s' if count > 1 else ''}, one per {whose}, or [] for equal weights"
            )


def _try_building(config: DictConfig, plain: Plain) -> None:
    """Build optimizer, schedule and augmentation once, around one small parameter."""
    for name, node in (plain["data"].get("augment") or {}).items():
        _refuse_plain(f"data.augment.{name}", node)
        _built(f"data.augment.{name}", partial(instantiate, config.data.augment[name]))
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = _built_of_kind("optimizer", config, Optimizer, "torch.optim.AdamW", [parameter])
    schedule = _built_of_kind(
        "scheduler", config, LRScheduler, "torch.optim.lr_scheduler.ConstantLR", optimizer
    )
    _try_stepping(schedule, plain["trainer"].get("max_epochs"))


def _built_of_kind(
    section: str, config: DictConfig, kind: type[_Kind], example: str, argument: Any
) -> _Kind:
    """Build what a section describes, and hold it against the kind of thing it must be."""
    name = config[section]["_target_"]
    target = _find_target(section, name)
    built = None
    if not isinstance(target, type) or issubclass(target, kind):
        make = instantiate(config[section], _convert_="all")
        built = _built(section, partial(make, argument))
    if not isinstance(built, kind):
        raise ValueError(
            f"{section}._target_={name} makes no {section}; name one, such as {example}"
        )
    return built


def _built(key: str, make: Callable[[], Any]) -> Any:
    """Build one part; its TypeError or ValueError becomes a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except Exception as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()).rstrip(".")
        raise ValueError(f"{key} cannot be built ({reason}); change its keys") from error


def _try_stepping(schedule: LRScheduler, num_epochs: Any) -> None:
    """Step the schedule as often as training will, once per epoch."""
    if not _is_whole(num_epochs):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(min(num_epochs, _MOST_STEPS)):
                if isinstance(schedule, ReduceLROnPlateau):
                    schedule.step(0.0)
                else:
                    schedule.step()
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"scheduler cannot be stepped once in each of trainer.max_epochs={num_epochs} epochs "
            f"({reason}); change its keys"
        ) from error


def _check_root(plain: Plain) -> None:
    """Refuse a data folder without train/ or val/."""
    data = plain["data"]
    if _find_target("data", data["_target_"]) is not PairDataModule or data.get("root") in (
        None,
        "???",
    ):
        return
    root = Path(data["root"])
    if data.get("phantom") is not None:
        if not root.is_dir() and (reason := what_blocks(root)):
            raise ValueError(f"data.root={root} cannot be written, {reason}; name another folder")
        return
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"data.root={root} {what}; name the folder that holds train/ and val/")
    for split in ("train", "val"):
        if not (root / split).is_dir():
            found = sorted(f"{one.name}/" for one in root.iterdir() if one.is_dir())
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") or "no folder"
            raise ValueError(
                f"data.root={root} holds no folder {split}/ (found {shown}); name the folder that "
                "holds train/ and val/"
            )


def _check_output(plain: Plain) -> None:
    """Refuse an output folder that cannot be written, by trying it."""
    if "output_dir" not in plain or plain["output_dir"] == "???":
        return
    folder = Path(plain["output_dir"])
    reason = what_blocks(folder)
    try:
        if reason is None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        reason = error.strerror or str(error)
    if reason is not None:
        raise ValueError(f"output_dir={folder} cannot be written, {reason}; name another folder")
