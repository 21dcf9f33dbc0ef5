"""``experiment=tutorial`` against the lesson's own loop, written down independently."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from liverseg import experiment
from liverseg.network import UNet

NUM_STEPS = 5


class Watching(Callback):
    """Keeps the weights before the first step and after the last, and what each batch held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.before: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.batches:
            self.before = _copied(pl_module.net)
        self.batches.append(batch["index"].tolist())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.batches) == NUM_STEPS:
            self.after = _copied(pl_module.net)


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.slow
def test_five_steps_of_the_tutorial_are_those_of_the_lesson(
    compose: Callable[..., DictConfig], pair_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Noise, because Adam divides by the size of a gradient: one that is almost 0, as on flat
    # images, would turn rounding into steps.
    noise = np.random.default_rng(0)
    for file in (pair_root / "train").glob("*.png"):
        if not file.stem.endswith("_mask"):
            pixels = np.asarray(Image.open(file)) // 2
            Image.fromarray(pixels + noise.integers(0, 128, pixels.shape, np.uint8)).save(file)
    names = sorted(file.stem for file in (pair_root / "train").glob("*.png"))
    names = [name for name in names if not name.endswith("_mask")]
    watching = Watching()
    build = experiment.instantiate

    def watched(config: DictConfig, **options: Any) -> dict[str, Any]:
        parts = build(config, **options)
        if "callbacks" in config:  # the whole, not a part that is built anew to be scored
            parts["callbacks"]["watching"] = watching
        return parts

    monkeypatch.setattr(experiment, "instantiate", watched)
    # In 64 bits: Adam steps by the sign of a gradient at first, and in 32 rounding decides some.
    overrides = ["experiment=tutorial", "model.width=4", "trainer.max_epochs=3"]
    config = compose([*overrides, "trainer.precision=64-true"])
    assert config.data.batch_size == 4
    assert compose(["experiment=tutorial", "trainer.max_epochs=20"]).trainer.max_epochs == 20
    experiment.train(config)

    # The lesson: images as RGB in [0, 1], shifted and scaled by 0.5; masks 0/1; one logit.
    def image_of(name: str) -> Tensor:
        pixels = np.asarray(Image.open(pair_root / "train" / f"{name}.png").convert("RGB"))
        return (torch.tensor(pixels).double().permute(2, 0, 1) / 255 - 0.5) / 0.5

    def mask_of(name: str) -> Tensor:
        pixels = np.asarray(Image.open(pair_root / "train" / f"{name}_mask.png"))
        return torch.tensor(pixels > 0).double()[None]

    net = UNet(3, 1, config.model.depth, 4).double()
    net.load_state_dict(watching.before)
    optimizer = torch.optim.Adam(net.parameters())
    loss_of = nn.BCEWithLogitsLoss()
    for batch in watching.batches[:NUM_STEPS]:
        images = torch.stack([image_of(names[index]) for index in batch])
        masks = torch.stack([mask_of(names[index]) for index in batch])
        loss = loss_of(net(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [len(batch) for batch in watching.batches[:2]] == [4, 2]
    for name, value in net.state_dict().items():
        if re.fullmatch(r".*layers\.[03]\.bias", name):
            continue  # the batch norm behind takes it out again: its gradient is 0 but for rounding
        torch.testing.assert_close(watching.after[name], value, rtol=1e-5, atol=1e-5, msg=name)
        if "weight" in name:
            assert not torch.equal(value, watching.before[name]), name
