"""The order in which a config is held against everything."""

import re

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from liverseg.checks.agreement import (
    check_agreement,
    check_end,
    check_interval,
    check_losses,
    check_start,
    check_trainer,
)
from liverseg.checks.building import try_building
from liverseg.checks.callbacks import check_callbacks, check_loggers
from liverseg.checks.devices import check_device
from liverseg.checks.folders import check_root, check_written
from liverseg.checks.keys import TOP
from liverseg.checks.kinds import check_kind
from liverseg.checks.monitors import check_cases, check_monitors, check_scores
from liverseg.data import PairDataModule
from liverseg.settings import all_keys, expand_home, nearest_key, remedy
from liverseg.settings.classes import (
    Plain,
    check_node,
    check_values,
    class_nodes,
    refuse_no_class,
)
from liverseg.settings.values import as_typed, check_value, is_whole

_SECTIONS = ("data", "model", "loss", "optimizer", "scheduler", "trainer")
_BUILT_LATER = ("optimizer", "scheduler", "trainer")
_VALUES = ("seed", "monitor", "monitor_mode", "threshold", "compile", "output_dir")
# In other commands than train.py null is the value of the run, or what fits.
_KEPT = ("threshold", "scores", "tolerance", "split")
_NEEDED = (*_SECTIONS, "callbacks", "logger", *_VALUES)


def check_settings(config: DictConfig) -> None:
    """Refuse a config that cannot become a run, before anything is read or trained.

    Paths that begin with ``~`` are expanded in the config. A rule holds where its key exists:
    another class may bring other keys. Values that are not set (``???``) are passed over.

    Args:
        config: What ``configs/train.yaml``, or another one of the commands, composes.

    Raises:
        ValueError: With one sentence that names the key, its value and the remedy.
    """
    expand_home(config)
    present = list(config)
    is_training = "monitor" in present or "model" in present
    if is_training and (absent := [key for key in _NEEDED if key not in present]):
        raise ValueError(
            f"{absent[0]} is missing from the config; leave out ~{absent[0]}, or set it"
        )
    plain = _resolved(config)
    _follow_slices(config, plain)
    for key, hint in TOP.items():
        # null: the threshold of the run, and of evaluate.yaml a split in the place of volumes
        may_be_null = not is_training and (
            key in _KEPT or ("split" in plain and key in ("source", "labels"))
        )
        if key in plain and not (may_be_null and plain[key] is None):
            check_value(key, plain[key], hint)
    if is_training:
        for section in _SECTIONS:
            refuse_no_class(section, plain[section], f"choose one with {section}=NAME")
            if section in _BUILT_LATER and (found := plain[section].get("_partial_")) is not True:
                raise ValueError(
                    f"{section}._partial_={as_typed(found)} must be true; it is built later, from "
                    "what training brings"
                )
    # Others copy values from these, and sections from what lies below: they are told of later.
    first = {"data": 0, "trainer": 1}
    for section in sorted(plain, key=lambda name: first.get(name, 2)):
        for key, node in reversed([*class_nodes(plain[section], section)]):
            check_kind(key, node)
            check_node(key, node)
    if "data" in plain and "_target_" not in plain["data"]:  # evaluate.yaml: null keeps the run's
        changes = {key: value for key, value in plain["data"].items() if value is not None}
        check_values("data", changes, PairDataModule)
    check_device(plain)
    if "trainer" in plain:
        check_trainer(plain, is_training=is_training)
    check_scores(plain)
    if is_training:
        check_monitors(plain)
        check_end(plain)
        check_start(plain)
        check_callbacks(plain)
        check_loggers(plain)
        check_agreement(plain)
        check_losses(plain)
        check_interval(plain)
        try_building(config, plain)
        check_root(plain)
        check_cases(plain)
    check_written(plain)


def _follow_slices(config: DictConfig, plain: Plain) -> None:
    """Let a network that follows the channels of the data take those of all slices."""
    data, model = plain.get("data"), plain.get("model")
    if not isinstance(data, dict) or not isinstance(model, dict):
        return
    slices, channels = data.get("slices", 1), data.get("channels", 1)
    is_followed = is_whole(channels) and model.get("in_channels") == channels
    if is_followed and is_whole(slices) and slices > 1:
        config.model.in_channels = model["in_channels"] = channels * slices


def _resolved(config: DictConfig) -> Plain:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "a setting", str(error).splitlines()[0]
        if missing := re.search(r"Missing mandatory value: (.+)", reason):
            raise ValueError(
                f"{missing[1]} is not set; add {missing[1]}=... to the command"
            ) from error
        found = re.search(r"Interpolation key '(.+)' not found", reason)
        if found is None:
            raise ValueError(f"{key} cannot be resolved ({reason}); correct it") from error
        known = set(all_keys(OmegaConf.to_container(config, resolve=False))) - {key}
        end = remedy(nearest_key(found[1], known), "name one that does")
        raise ValueError(f"{key} refers to {found[1]}, which does not exist{end}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
