"""What each value must be, key by key.

A rule says so in words, for the sentence that refuses a value, and as a test.
"""

import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import StrategyRegistry
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from liverseg.data import PairDataModule
from liverseg.pictures import PictureBoard
from liverseg.settings.commandline import nearest
from liverseg.training import SumLoss


class Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    says: str
    holds: Callable[[Any], bool]
    words: tuple[str, ...] = ()  # the choices, where there are some


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_object(value: Any) -> bool:
    """Tell whether a section names a class."""
    return isinstance(value, dict) and "_target_" in value


def _whole(least: int, most: int | None = None) -> Rule:
    if most is None:
        return Rule(
            f"a whole number from {least} up", lambda value: is_whole(value) and value >= least
        )
    return Rule(
        f"a whole number from {least} to {most}",
        lambda value: is_whole(value) and least <= value <= most,
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
    return (is_whole(value) and value >= 1) or (isinstance(value, float) and 0 < value <= 1)


def _is_devices(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"auto|-1|[1-9]\d*", value) is not None
    if isinstance(value, list):
        return bool(value) and all(is_whole(one) and one >= 0 for one in value)
    return is_whole(value) and (value >= 1 or value == -1)


WHOLE = Rule("a whole number", is_whole)
NUMBER = Rule("a number", _is_number)
POSITIVE = Rule("a number above 0", lambda value: _is_number(value) and value > 0)
NOT_NEGATIVE = Rule("a number from 0 up", lambda value: _is_number(value) and value >= 0)
BELOW_ONE = Rule("a number from 0 up, below 1", lambda value: _is_number(value) and 0 <= value < 1)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("text", lambda value: isinstance(value, str))
NULL = Rule("null", lambda value: value is None)
ENDLESS = Rule(
    "a whole number from 1 up, or -1 for no end",
    lambda value: is_whole(value) and (value >= 1 or value == -1),
)
PART = Rule(
    "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0", _is_part
)  # without a batch there is no score

TOP_RULES: dict[str, Rule] = {
    "seed": _whole(0, 2**32 - 1),
    "fold": _or_null(_whole(0)),
    "monitor": TEXT,
    "monitor_mode": _words("max", "min"),
    "threshold": Rule(
        "a number above 0 and below 1", lambda value: _is_number(value) and 0 < value < 1
    ),
    "compile": FLAG,
    "sweep_name": Rule("a name", lambda value: is_whole(value) or bool(value)),
    "output_dir": Rule("a folder", lambda value: isinstance(value, str) and bool(value)),
    "ckpt_path": _or_null(TEXT),
    "callbacks": Rule(
        "a mapping of names to callbacks, {} for none", lambda value: isinstance(value, dict)
    ),
    "logger": Rule(
        "a class, a list of them, or null",
        lambda value: value is None or (isinstance(value, list) and all(map(is_object, value))),
    ),
    "num_pictures": _whole(0),
    "num_worst": _whole(0),
}

# By class: a rule holds for the parameter of the class and of those derived from it.
RULES: dict[type, dict[str, Rule]] = {
    PairDataModule: {
        "root": Rule("a folder", lambda value: isinstance(value, str) and bool(value)),
        "channels": Rule("1 (grey) or 3 (RGB)", lambda value: is_whole(value) and value in (1, 3)),
        "image_size": Rule(
            "null or [height, width] in pixels",
            lambda value: value is None or (isinstance(value, list) and all(map(is_whole, value))),
        ),
        "mask_values": Rule(
            "null, or a list with a mask value, or a list of them, for each class",
            lambda value: (
                value is None
                or (
                    isinstance(value, list)
                    and all(
                        is_whole(one) or (isinstance(one, list) and all(map(is_whole, one)))
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
            lambda value: isinstance(value, list) and all(map(is_object, value)),
        ),
    },
    PictureBoard: {"num_pictures": _whole(0), "num_worst": _whole(0)},
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


def rule_of(hint: Any) -> Rule | None:
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
        rules = [rule_of(one) for one in ordered if one is not Path]
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
        inner = rule_of(arguments[0]) if arguments else None
        if inner is None:
            return Rule("a list", lambda value: isinstance(value, list))
        return Rule(
            f"a list, each entry {inner.says}",
            lambda value: isinstance(value, list) and all(map(inner.holds, value)),
        )
    return None


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Refuse a value that breaks a rule. Objects (a ``_target_``) and ``???`` pass."""
    if value == "???" or is_object(value) or rule.holds(value):
        return
    closest = nearest(str(value), rule.words)
    raise ValueError(
        f"{key}={as_typed(value)} must be {rule.says}"
        + (f"; the nearest is {closest}" if closest and len(rule.words) > 2 else "")
    )


def as_typed(value: Any) -> str:
    """Write a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(as_typed(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_typed(one)}' for key, one in value.items())}}}"
    return str(value)
