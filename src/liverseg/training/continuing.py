"""A run goes on with the settings of its config, where they differ from those it had before.

Lightning restores what an optimizer, a schedule and a callback kept, their settings among it. Here
the settings in a checkpoint are replaced by those of today before it is restored, so that a new
value holds from the first step on.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


def lay_out(checkpoint: dict[str, Any], memory_format: torch.memory_format) -> None:
    """Order what optimizers keep of weights in memory as the weights are ordered here.

    Another kind of processor may have written the checkpoint, see ``fast_memory_format``.
    """
    for states in checkpoint.get("optimizer_states", []):
        for state in states["state"].values():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim() == 4:
                    state[name] = value.contiguous(memory_format=memory_format)


def follow_schedule(
    checkpoint: dict[str, Any],
    *,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    optimizer: Optimizer,
    scheduler: LRScheduler,
) -> None:
    """Put a checkpoint's optimizer and schedule where a run with the settings of today would be.

    A schedule is stepped anew, as often as the run has stepped it. One that watches a score cannot
    be: it keeps what it has seen, and a new learning rate is where it goes on from.

    Args:
        checkpoint: As Lightning wrote it; changed in place where settings differ.
        before: The sections ``optimizer`` and ``scheduler`` of the config it was written with.
        now: Those of today.
        optimizer: Built with the settings of today, before its first step.
        scheduler: Likewise, from this optimizer.
    """
    sections = ("optimizer", "scheduler")
    if all(before.get(section) == now.get(section) for section in sections):
        return
    (kept,), (schedule,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    settings = [dict(group) for group in optimizer.state_dict()["param_groups"]]
    if isinstance(scheduler, ReduceLROnPlateau):
        if before["optimizer"].get("lr") == now["optimizer"].get("lr"):
            for group, old in zip(settings, kept["param_groups"], strict=True):
                group["lr"] = old["lr"]
        schedule["_last_lr"] = [group["lr"] for group in settings]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimizer was stepped in between
            for _ in range(schedule["last_epoch"]):
                scheduler.step()
        settings = [dict(group) for group in optimizer.state_dict()["param_groups"]]
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]
    for old, group in zip(kept["param_groups"], settings, strict=True):
        old.update({name: value for name, value in group.items() if name != "params"})


def follow_callbacks(
    checkpoint: dict[str, Any], callbacks: Sequence[Callback], *, is_changed: bool
) -> None:
    """Let callbacks keep the settings that they were built with, such as a patience.

    What stands in a checkpoint under the name of a parameter is a setting, and the rest is what the
    callback has seen. Checkpoints that were moved with their folder are found there.

    Args:
        checkpoint: As Lightning wrote it; changed in place.
        callbacks: Those of today.
        is_changed: Whether their settings differ from those of the checkpoint: what has stopped a
            run, such as a threshold, may hold no longer.
    """
    for callback in callbacks:
        state = checkpoint.get("callbacks", {}).get(callback.state_key)
        if not isinstance(state, dict):
            continue
        if isinstance(callback, ModelCheckpoint):
            checkpoint["callbacks"][callback.state_key] = _moved(state, str(callback.dirpath))
            continue
        today = callback.state_dict()
        if isinstance(callback, EarlyStopping) and is_changed:
            reason = state.get("stopping_reason")
            if reason != EarlyStoppingReason.PATIENCE_EXHAUSTED.value:  # which waiting tells
                state["stopping_reason"] = EarlyStoppingReason.NOT_STOPPED.value
        for name in (
            inspect.signature(type(callback)).parameters.keys() & state.keys() & today.keys()
        ):
            state[name] = today[name]


def has_stopped(callback: EarlyStopping) -> bool:
    """Tell whether early stopping has ended a run that goes on, by the patience of today."""
    reason = callback.stopping_reason
    if reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
        return callback.wait_count >= callback.patience
    return reason is not EarlyStoppingReason.NOT_STOPPED


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return what a callback knows of its checkpoints, with the folder in which they lie now."""
    before = state.get("dirpath")
    if not before or before == folder:
        return state

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {moved(key): one for key, one in value.items()}
        is_inside = isinstance(value, str) and Path(value).parent == Path(before)
        return str(Path(folder, Path(value).name)) if is_inside else value

    return {key: moved(value) for key, value in state.items()} | {"dirpath": folder}
