"""What kind of thing each section makes."""

import re

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch import nn

from liverseg.data import PairDataModule
from liverseg.settings.classes import Plain, find_target

# The key of a section, what it makes, and an example. A network or a loss may also come from a
# function; what that makes is seen when it is called.
_KINDS: tuple[tuple[str, type, str, str], ...] = (
    (r"callbacks\.[^.]+", Callback, "callback", "lightning.pytorch.callbacks.EarlyStopping"),
    (r"logger(\.[^.]+)?", Logger, "logger", "lightning.pytorch.loggers.CSVLogger"),
    (r"model", nn.Module, "network", "liverseg.network.UNet"),
    (r"loss|loss\.losses\.\d+", nn.Module, "loss", "liverseg.training.CrossEntropy"),
    (r"data", PairDataModule, "PairDataModule", "liverseg.data.PairDataModule or a subclass"),
    (r"trainer", Trainer, "trainer", "lightning.Trainer"),
)


def check_kind(key: str, node: Plain) -> None:
    """Refuse a section whose class is of another kind than what stands there."""
    for pattern, kind, what, example in _KINDS:
        if not re.fullmatch(pattern, key):
            continue
        target = find_target(key, node["_target_"])
        is_right = issubclass(target, kind) if isinstance(target, type) else kind is nn.Module
        if not is_right:
            raise ValueError(
                f"{key}._target_={node['_target_']} makes no {what}; name one, such as {example}"
            )
