"""Parts that are built and tried once, because only they know what they refuse."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from liverseg.labels import IGNORED
from liverseg.settings.classes import Plain, find_target, refuse_no_class
from liverseg.settings.values import is_whole

_Kind = TypeVar("_Kind")
_SIDE = 64  # of a mask by which a loss is tried
_MOST_STEPS = 10_000  # of a schedule, tried before training


def try_building(config: DictConfig, plain: Plain) -> None:
    """Build optimizer, schedule and augmentation once, around one small parameter; try the loss."""
    augment = plain["data"].get("augment")
    for name, node in augment.items() if isinstance(augment, dict) else ():  # ??? is told later
        key = f"data.augment.{name}"
        refuse_no_class(key, node, f"leave it out with ~{key}")
        if not callable(_built(key, partial(instantiate, config.data.augment[name]))):
            raise ValueError(
                f"{key}._target_={node['_target_']} makes no transform; name one, such as "
                "torchvision.transforms.v2.RandomHorizontalFlip"
            )
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = _built_of_kind("optimizer", config, Optimizer, "torch.optim.AdamW", [parameter])
    schedule = _built_of_kind(
        "scheduler", config, LRScheduler, "torch.optim.lr_scheduler.ConstantLR", optimizer
    )
    if plain.get("scheduler_interval") != "step":  # how many steps there are is not known yet
        _try_stepping(schedule, plain["trainer"].get("max_epochs"))
    num_classes = plain["data"].get("num_classes")
    if is_whole(num_classes) and 0 < num_classes < IGNORED:
        _try_loss(config, num_classes)


def _try_loss(config: DictConfig, num_classes: int) -> None:
    """Give the loss logits and a mask that are made up: it must return what training goes down."""
    name = f"loss._target_={config.loss._target_}"
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loss = instantiate(config.loss, _convert_="all")
        except Exception:  # told where it is built for good
            return
        if not isinstance(loss, torch.nn.Module):  # of a function
            raise ValueError(
                f"{name} makes no loss; name one, such as liverseg.training.CrossEntropy"
            )
        logits = torch.zeros(2, num_classes, _SIDE, _SIDE, requires_grad=True)
        mask = torch.zeros(2, _SIDE, _SIDE, dtype=torch.uint8)
        mask[:, : _SIDE // 2] = 1
        try:
            found = loss(logits, mask)
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".")
            if "cuda" in reason:  # it has moved there by itself, as logits will
                return
            raise ValueError(
                f"{name} fails on float32 logits {tuple(logits.shape)} and a uint8 mask "
                f"{tuple(mask.shape)} ({reason}); call it from a class of your own that gives it "
                "what it takes, as docs/own_loss_or_metric.md shows"
            ) from error
    fault = f"a {type(found).__name__}"
    if isinstance(found, torch.Tensor):
        if found.numel() == 1 and found.requires_grad:
            return
        fault = "one without" if found.numel() == 1 else f"{found.numel()} of them"
    raise ValueError(f"{name} must return one number that has a gradient; found {fault}")


def _built_of_kind(
    section: str, config: DictConfig, kind: type[_Kind], example: str, argument: Any
) -> _Kind:
    """Build what a section describes, and hold it against the kind of thing it must be."""
    name = config[section]["_target_"]
    target = find_target(section, name)
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
    if not is_whole(num_epochs):
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
