"""Values that are fine alone and do not fit together."""

import re
from pathlib import Path

from torch.optim.lr_scheduler import ReduceLROnPlateau

from liverseg.prediction import is_exported
from liverseg.settings.classes import Plain, class_nodes, find_target
from liverseg.settings.values import as_typed, is_whole
from liverseg.training import BinaryCrossEntropy, CrossEntropy, SoftDiceLoss


def check_trainer(plain: Plain, *, is_training: bool) -> None:
    """Refuse what a command brings to its trainer itself, and what would leave images out."""
    trainer = plain["trainer"]
    for word in ("callbacks", "logger", "plugins"):
        if trainer.get(word) not in (None, False):
            raise ValueError(
                f"trainer.{word}={as_typed(trainer[word])} has no effect; leave it out"
                + (f", and add what you need under {word}" if word in plain else "")
            )
    if trainer.get("fast_dev_run"):
        raise ValueError(
            f"trainer.fast_dev_run={as_typed(trainer['fast_dev_run'])} "
            + (
                "writes no checkpoint that could be scored; leave it out and choose trainer=debug"
                if is_training
                else "would leave images out; leave it out"
            )
        )
    if is_training and trainer.get("barebones"):
        raise ValueError(
            f"trainer.barebones={as_typed(trainer['barebones'])} keeps neither checkpoints nor "
            "curves, so nothing could be scored; leave it out"
        )
    part = trainer.get("limit_predict_batches")
    if "source" in plain and part is not None and (part != 1 or is_whole(part)):
        raise ValueError(
            f"trainer.limit_predict_batches={as_typed(part)} would leave images out; name those "
            "that you mean with source"
        )


def check_end(plain: Plain) -> None:
    """Refuse a training that ends without a checkpoint or a score."""
    trainer = plain["trainer"]
    if trainer.get("enable_checkpointing") is False:
        raise ValueError(
            "trainer.enable_checkpointing=false leaves nothing to score; set it to true"
        )
    every, epochs = trainer.get("check_val_every_n_epoch", 1), trainer.get("max_epochs")
    if is_whole(epochs) and 0 < epochs < every:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={every} is more than trainer.max_epochs={epochs}, so "
            f"nothing would be scored; set it to {epochs} or fewer"
        )
    least = trainer.get("min_epochs")
    if is_whole(least) and is_whole(epochs) and -1 < epochs < least:
        raise ValueError(
            f"trainer.min_epochs={least} is more than trainer.max_epochs={epochs}; raise the one, "
            "or lower the other"
        )
    time = trainer.get("max_time")
    is_over = not any(time.values()) if isinstance(time, dict) else re.fullmatch("[0:]+", str(time))
    if is_over:
        raise ValueError(
            f"trainer.max_time={as_typed(time)} leaves no time to train; set days:hours:"
            "minutes:seconds, such as 00:08:00:00"
        )


def check_start(plain: Plain) -> None:
    """Refuse weights that nothing can start from, and a length of freezing nothing."""
    weights = plain.get("weights")
    if weights and is_exported(weights):
        raise ValueError(
            f"weights={weights} is an exported file, whose weights are part of a graph; name the "
            "checkpoint that it was made from"
        )
    if weights and not Path(weights).is_file():
        raise ValueError(
            f"weights={weights} {'is a folder' if Path(weights).is_dir() else 'does not exist'}; "
            "name a file such as RUN/checkpoints/best.ckpt"
        )
    if plain.get("freeze_epochs") is not None and not plain.get("freeze"):
        raise ValueError(
            f"freeze_epochs={plain['freeze_epochs']} has no effect without a part to freeze; add "
            "freeze=[encoder], or leave it out"
        )


def check_agreement(plain: Plain) -> None:
    """Refuse channels and classes that differ between data and model, and a fold without effect."""
    fold, its_fold = plain.get("fold"), plain["data"].get("fold")
    if fold is not None and fold != its_fold:
        raise ValueError(
            f"fold={as_typed(fold)} does not reach the data, which has "
            f"data.fold={as_typed(its_fold)}; leave fold out, or set data.fold=${{fold}}"
        )
    slices = plain["data"].get("slices") or 1
    for word, same in (("in_channels", "channels"), ("num_classes", "num_classes")):
        model, data = plain["model"].get(word), plain["data"].get(same)
        if same == "channels" and data is not None and slices != 1 and model == data * slices:
            continue
        if model is not None and data is not None and model != data:
            raise ValueError(
                f"model.{word}={as_typed(model)} must equal data.{same}={as_typed(data)}; leave "
                f"model.{word} out, which follows data.{same} by itself"
            )


def check_interval(plain: Plain) -> None:
    """Refuse a schedule by steps that watches scores, or whose length counts epochs."""
    if plain.get("scheduler_interval") != "step":
        return
    schedule, epochs = plain["scheduler"], plain["trainer"].get("max_epochs")
    target = find_target("scheduler", schedule["_target_"])
    if isinstance(target, type) and issubclass(target, ReduceLROnPlateau):
        raise ValueError(
            "scheduler_interval=step does not fit a schedule that watches a score, which there is "
            "once per epoch; leave it out"
        )
    if "T_max" in schedule and schedule["T_max"] == epochs:
        raise ValueError(
            f"scheduler.T_max={schedule['T_max']} is trainer.max_epochs, but counts optimizer "
            "steps with scheduler_interval=step; set it to epochs times optimizer steps of an epoch"
        )


def check_losses(plain: Plain) -> None:
    """Refuse a loss that does not fit the number of classes."""
    num_classes = plain["data"].get("num_classes")
    if not is_whole(num_classes):
        return
    for key, node in class_nodes(plain["loss"], "loss"):
        target = find_target(key, node["_target_"])
        if target is BinaryCrossEntropy and num_classes > 1:
            raise ValueError(
                f"{key}._target_={node['_target_']} takes one logit, but data.num_classes="
                f"{num_classes} gives {num_classes}; set loss=dice_ce or loss=cross_entropy"
            )
        count, whose = 0, ""
        if target is CrossEntropy:
            count, whose = max(num_classes, 2), "class, background first"
        elif target is SoftDiceLoss:
            is_background = node.get("background", True)
            count = max(num_classes, 2) - int(is_background)
            whose = "foreground class" if is_background else "class"
        weights = node.get("class_weights") or []
        if count and len(weights) not in (0, count):
            raise ValueError(
                f"{key}.class_weights={as_typed(weights)} must hold {count} "
                f"number{'s' if count > 1 else ''}, one per {whose}, or [] for equal weights"
            )
