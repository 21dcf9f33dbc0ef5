"""What may change when a run is resumed depends on how far it has come, too."""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from liverseg.settings.classes import Plain, find_target
from liverseg.settings.values import as_typed
from liverseg.training import is_limited, without_limits

# What decides which images a step sees: within an epoch, some would be seen twice or never.
_ORDER = (
    *("seed", "data.seed", "data.batch_size", "data.min_steps"),
    *("trainer.devices", "trainer.num_nodes"),
    *("trainer.limit_train_batches", "trainer.accumulate_grad_batches"),
)
_MISSING = object()


def check_continuation(
    checkpoint: Mapping[str, Any],
    config: DictConfig,
    plain: Plain,
    refuse_fixed: Callable[[str], None],
) -> None:
    """Refuse a config that a run cannot go on with from a checkpoint.

    Args:
        checkpoint: What the run goes on from.
        config: The config that it is to go on with.
        plain: The same, resolved, as plain dictionaries, lists and values.
        refuse_fixed: Refuses a change ``KEY=VALUE`` of what may never change.

    Raises:
        ValueError: If a change could not hold from the next step on.
    """
    needed = ("optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
    if absent := [key for key in needed if key not in checkpoint]:
        raise ValueError(
            f"{config.resume} holds no {absent[0]}, so no run can go on from it; resume from a "
            "checkpoint that training wrote"
        )
    before = checkpoint["liverseg"]["config"]
    changed = dict(_changes(_of_today(before, plain), plain))
    for key, (_, now) in changed.items():
        refuse_fixed(f"{key}={as_typed(now)}")
    _refuse_within_epoch(checkpoint, changed)
    _refuse_past_end(checkpoint, plain)
    _refuse_schedule_of_scores(before, plain, changed)
    _try_a_step(checkpoint, config, changed)


def _of_today(before: Plain, now: Plain) -> Plain:
    """Return an earlier config without what belongs to a moment, its folder renamed."""

    def renamed(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: renamed(value) for key, value in node.items()}
        if isinstance(node, list):
            return [renamed(value) for value in node]
        folder = str(before.get("output_dir") or "")
        is_inside = isinstance(node, str) and folder and Path(node).is_relative_to(folder)
        return now["output_dir"] + node[len(folder) :] if is_inside else node

    moment = ("resume", "resume_overrides", "sweep_name", "output_dir", "search")
    then = {**renamed(before), **{key: now.get(key) for key in moment}}
    # What was found out here is recorded, where the config says auto, or how long instead.
    found = {"precision": now["trainer"].get("precision") == "auto"}
    found["max_epochs"] = is_limited(now["trainer"])
    now_found = {key: now["trainer"][key] for key, is_found in found.items() if is_found}
    return {**then, "trainer": {**then["trainer"], **now_found}}


def _changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the keys whose values differ, with both; what an earlier release lacked is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in before.keys() | now.keys():
            below = f"{key}.{name}" if key else str(name)
            yield from _changes(before.get(name, _MISSING), now.get(name, _MISSING), below)
    elif before != now and now is not _MISSING and not (before is _MISSING and "." not in key):
        yield key, (before, now)


def _refuse_within_epoch(
    checkpoint: Mapping[str, Any], changed: Mapping[str, tuple[Any, Any]]
) -> None:
    loop = checkpoint["loops"]["fit_loop"]
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]["current"]
    if batches["is_last_batch"] and epochs["processed"] == epochs["ready"]:
        return
    for key in sorted(changed.keys() & set(_ORDER)):
        was, now = changed[key]
        done = batches["current"]["completed"]
        raise ValueError(
            f"{key}={as_typed(now)} cannot begin within an epoch, after {done} of its steps, where "
            f"some images would be seen twice or never; go on with {key}={as_typed(was)} to the "
            "end of an epoch first"
        )


def _refuse_past_end(checkpoint: Mapping[str, Any], plain: Plain) -> None:
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    words = [str(one) for one in plain.get("resume_overrides") or ()]
    if (off := without_limits(plain["trainer"])) and any("trainer.max_epochs=" in w for w in words):
        raise ValueError(
            f"trainer.max_epochs does not end a run of {off.partition('=')[0]}; add {off} to "
            "resume_overrides"
        )
    for key, count in (("max_epochs", done), ("max_steps", checkpoint["global_step"])):
        most = plain["trainer"].get(key)
        if key == "max_epochs" and is_limited(plain["trainer"]):
            continue
        if isinstance(most, int) and -1 < most < count:
            raise ValueError(
                f"trainer.{key}={most} is less than the {count} that the run has done; set it to "
                f"{count} or more"
            )


def _refuse_schedule_of_scores(
    before: Plain, now: Plain, changed: Mapping[str, tuple[Any, Any]]
) -> None:
    """Refuse a change to or of a schedule that depends on the scores of all epochs."""
    keys = sorted(key for key in changed if key.startswith("scheduler"))
    targets = [find_target("scheduler", one["scheduler"]["_target_"]) for one in (before, now)]
    watches = [isinstance(one, type) and issubclass(one, ReduceLROnPlateau) for one in targets]
    if keys and any(watches):
        raise ValueError(
            f"{keys[0]}={as_typed(changed[keys[0]][1])} cannot differ from the run that is "
            "resumed: a schedule that watches a score depends on all scores so far; leave it out, "
            "or start a new run"
        )


def _try_a_step(
    checkpoint: Mapping[str, Any], config: DictConfig, changed: Mapping[str, tuple[Any, Any]]
) -> None:
    """Refuse settings of an optimizer for which it has not kept what it needs."""
    keys = sorted(key for key in changed if key.startswith("optimizer."))
    kept = checkpoint["optimizer_states"][0]
    if not keys or not kept["state"]:
        return
    number, state = next(iter(kept["state"].items()))
    shapes = [one.shape for one in state.values() if isinstance(one, Tensor) and one.dim()]
    parameter = torch.nn.Parameter(torch.zeros(shapes[0] if shapes else (1,)))
    optimizer: Optimizer = instantiate(config.optimizer, _convert_="all")([parameter])
    group = {**optimizer.state_dict()["param_groups"][0], "params": [number]}
    try:
        optimizer.load_state_dict(
            {"state": {number: copy.deepcopy(state)}, "param_groups": [group]}
        )
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    except Exception as error:
        raise ValueError(
            f"{keys[0]}={as_typed(changed[keys[0]][1])} needs what the optimizer has not kept so "
            "far; leave it out, or start a new run"
        ) from error
