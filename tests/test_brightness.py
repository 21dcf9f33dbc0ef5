import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from liverseg.experiment import evaluate, predict, train

Compose = Callable[..., DictConfig]


@pytest.mark.slow
def test_images_of_another_window_are_told_with_both_numbers(
    compose: Compose, pair_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(compose([f"data.root={pair_root}", "logger=none"]))
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    held = torch.load(checkpoint, weights_only=True)["liverseg"]["intensities"]
    assert held["images"] == 6
    judged = [f"ckpt_path={checkpoint}", "split=val"]
    put_to_use = [f"ckpt_path={checkpoint}", f"source={pair_root / 'val'}"]
    caplog.set_level(logging.WARNING)

    evaluate(compose(judged, "evaluate"))
    predict(compose([*put_to_use, f"output_dir={tmp_path / 'first'}"], "predict"))
    assert "brightness" not in caplog.text

    for file in (pair_root / "val").glob("*_slice??.png"):
        with Image.open(file) as image:
            image.point([min(255, value // 2 + 120) for value in range(256)]).save(file)
    evaluate(compose(judged, "evaluate"))
    predict(compose([*put_to_use, f"output_dir={tmp_path / 'second'}"], "predict"))
    told = [one for one in caplog.messages if "differ in brightness" in one]
    assert len(told) == 2
    assert all(f"against {held['mean']:.3f}" in one for one in told)
