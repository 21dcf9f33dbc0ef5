"""Training loops that ours is held against: a step of each, as often as asked for.

The lesson's loop is rebuilt from its description: its own U-Net, images decoded as they are needed,
Adam, binary cross-entropy, the loss read in each step. The best loop is what one would write by
hand for speed alone: the network of this package, images in memory, mixed precision, weights
in the order that is fast, a fused optimizer, and nothing else.
"""

import gc
import itertools
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Protocol
from unittest.mock import patch

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from liverseg.experiment import train
from liverseg.network import UNet, training_logits
from liverseg.settings.commandline import ENVIRONMENT
from liverseg.training import (
    AUTOCAST_FORMATS,
    fast_memory_format,
    fast_precision,
    keep_freed_memory,
)

CONFIGS = Path(__file__).parents[1] / "configs"
WARM_UP = 2  # steps before the clock starts
WARM_UP_OF_A_RUN = 8  # ours begins a run each time, and what it keeps of freed memory settles first


class Loop(Protocol):
    """A loop of training steps on batches of one size."""

    name: ClassVar[str]

    def seconds(self, count: int) -> float:
        """Return the seconds that a step takes, the mean of ``count`` after a warm-up."""
        ...


class Apart:
    """A loop in a process of its own, where nothing that another one sets is in its way.

    Args:
        kind: The loop.
        is_tuned: Whether its process keeps memory as the commands of this package do.
        given: What the loop is made with.
    """

    def __init__(self, kind: Callable[..., Loop], *, is_tuned: bool, **given: Any) -> None:
        self.name = kind.name  # type: ignore[attr-defined]  # a class, see Loop
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with patch.dict(os.environ, ENVIRONMENT if is_tuned else {}):
            self.process.submit(_make, kind, given, is_tuned).result()

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        return self.process.submit(_seconds, count).result()

    def end(self) -> None:
        """End its process."""
        self.process.shutdown()


class Here:
    """A loop in this process: on a GPU no other is in its way, but for the memory that it holds.

    Args:
        kind: The loop.
        name: What it is called; None for its own name.
        given: What the loop is made with.
    """

    def __init__(self, kind: Callable[..., Loop], *, name: str | None = None, **given: Any) -> None:
        self.name = name or kind.name  # type: ignore[attr-defined]  # a class, see Loop
        self.loop = kind(**given)

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        seconds = self.loop.seconds(count)
        gc.collect()
        torch.cuda.empty_cache()
        return seconds

    def end(self) -> None:
        """Let go of its weights."""
        del self.loop


def _make(kind: Callable[..., Loop], given: dict[str, Any], is_tuned: bool) -> None:
    if is_tuned:
        tune()
    quiet()
    _made.append(kind(**given))


def _seconds(count: int) -> float:
    return _made[0].seconds(count)


_made: list[Loop] = []  # in the process of a loop


class LessonUNet(nn.Module):
    """The U-Net of the lesson: two convolutions with batch norm a level, 64 ... 1024 channels."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(
            _twice(before, after) for before, after in itertools.pairwise([in_channels, *widths])
        )
        pairs = list(itertools.pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(deep, skip, 2, 2) for deep, skip in pairs)
        self.up = nn.ModuleList(_twice(2 * skip, skip) for _, skip in pairs)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of shape (N, 1, H, W); H and W multiples of 16."""
        skips = []
        for number, block in enumerate(self.down):
            image = block(image if number == 0 else nn.functional.max_pool2d(image, 2))
            skips.append(image)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            image = block(torch.cat([enlarge(image), skips.pop()], dim=1))
        logits: Tensor = self.last(image)
        return logits


def _twice(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(True)]
    return nn.Sequential(*layers)


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Pairs that are decoded each time: RGB in [-1, 1], masks 0/1, as the lesson reads them."""

    def __init__(self, folder: Path) -> None:
        self.masks = sorted(folder.glob("*_mask.png"))

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image (3, H, W) and mask (1, H, W)."""
        mask = self.masks[index]
        image = mask.with_name(mask.name.replace("_mask", ""))
        pixels = torch.from_numpy(np.array(Image.open(image).convert("RGB"))).permute(2, 0, 1)
        truth = torch.from_numpy(np.array(Image.open(mask).convert("L")) > 0).float()[None]
        return (pixels.float() / 255 - 0.5) / 0.5, truth


class LessonLoop:
    """The lesson's own loop."""

    name = "lesson"

    def __init__(self, root: Path, *, width: int, batch_size: int, device: str) -> None:
        self.net = LessonUNet(3, width).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters())
        self.batches = endless(
            DataLoader(Files(root / "train"), batch_size=batch_size, shuffle=True, drop_last=True)
        )
        self.device = device

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                start = now()
            image, mask = (one.to(self.device) for one in next(self.batches))
            self.optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(self.net(image), mask)
            loss.backward()
            self.optimizer.step()
            loss.item()
        return (now() - start) / count


class LightningLoop:
    """The lesson's network, data and optimizer, run by a trainer as it comes."""

    name = "lightning"

    def __init__(self, root: Path, *, width: int, batch_size: int, device: str) -> None:
        self.module = PlainModule(width)
        self.loader = DataLoader(
            Files(root / "train"), batch_size=batch_size, shuffle=True, drop_last=True
        )
        self.accelerator = device

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        clock = Clock(count, WARM_UP)
        trainer = Trainer(
            max_steps=WARM_UP + count,
            max_epochs=-1,
            accelerator=self.accelerator,
            devices=1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, self.loader)
        return clock.mean()


class PlainModule(LightningModule):
    """What one writes first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = LessonUNet(3, width)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """Return the loss."""
        loss = binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters())


class BestLoop:
    """The best loop that can be written by hand with this network."""

    name = "best"

    def __init__(
        self, root: Path, *, width: int, batch_size: int, device: str, model: str = "unet"
    ) -> None:
        padding = "valid" if model == "unet_paper" else "same"
        norm = "none" if model == "unet_paper" else "batch"
        net = UNet(in_channels=1, num_classes=1, depth=4, width=width, padding=padding, norm=norm)
        self.layout = fast_memory_format(torch.device(device), net)
        self.net = net.to(device).to(memory_format=self.layout)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), fused=True)
        files = Files(root / "train")
        pairs = [files[index] for index in range(len(files))]
        image = torch.stack([one[:1] for one, _ in pairs]).to(device)
        self.image = image.contiguous(memory_format=self.layout)
        self.mask = torch.stack([mask for _, mask in pairs]).to(device)
        self.batch_size, self.device = batch_size, device
        precision = fast_precision(device)[0]
        self.format = AUTOCAST_FORMATS.get(precision)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "16-mixed")

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                start = now()
            chosen = torch.randperm(len(self.mask), device=self.device)[: self.batch_size]
            image = self.image[chosen].contiguous(memory_format=self.layout)
            with torch.autocast(self.device, self.format, enabled=self.format is not None):
                logits, mask = training_logits(self.net, image, self.mask[chosen, 0])
            loss = binary_cross_entropy_with_logits(logits[:, 0].float(), mask)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return (now() - start) / count


class OurLoop:
    """What ``python train.py data=liver data.root=DIR`` does, with nothing else said."""

    name = "liverseg"

    def __init__(
        self,
        root: Path,
        *,
        width: int,
        batch_size: int,
        device: str,
        model: str = "unet",
        changes: tuple[str, ...] = (),
    ) -> None:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            self.config = compose(
                "train",
                [
                    *("data=liver", f"data.root={root}", f"data.batch_size={batch_size}"),
                    *(f"model={model}", f"model.width={width}", "sweep_name=unused"),
                    *("callbacks.pictures.num_pictures=0", "callbacks.pictures.num_worst=0"),
                    *(f"output_dir={root / 'run'}", f"trainer.accelerator={device}"),
                    "++trainer.enable_progress_bar=false",
                    *changes,
                ],
            )
        OmegaConf.set_struct(self.config, False)

    def seconds(self, count: int) -> float:
        """Return the seconds of a step."""
        Clock.latest = None
        total = WARM_UP_OF_A_RUN + count
        self.config.trainer.max_steps = total
        self.config.data.min_steps = total  # one epoch: no checkpoint in between
        self.config.callbacks.clock = {
            "_target_": f"{Clock.__module__}.Clock",
            "count": count,
            "warm_up": WARM_UP_OF_A_RUN,
        }
        train(self.config)
        assert Clock.latest is not None
        return Clock.latest.mean()


class Clock(Callback):
    """Times ``count`` training steps of a run after others to warm up; validation stops it."""

    latest: ClassVar["Clock | None"] = None

    def __init__(self, count: int, warm_up: int) -> None:
        self.count = count
        self.total = 0.0
        self.num_steps = -warm_up
        Clock.latest = self

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Read the clock after a step."""
        self.num_steps += 1
        if self.num_steps == 0:
            self.since = now()
        elif self.num_steps == self.count:
            self.total += now() - self.since

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop."""
        if 0 <= self.num_steps < self.count and not trainer.sanity_checking:
            self.total += now() - self.since

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Go on."""
        self.since = now()

    def mean(self) -> float:
        """Return the seconds of a step."""
        return self.total / self.count


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches for ever."""
    while True:
        yield from loader


def now() -> float:
    """Return the time, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def tune() -> None:
    """Keep memory, and look for what can be freed, as each command of this package does."""
    keep_freed_memory()
    gc.set_threshold(200_000, 50, 50)


def quiet() -> None:
    """Leave the terminal to the table."""
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "liverseg"):
        logging.getLogger(name).setLevel(logging.ERROR)
