import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from liverseg.experiment import evaluate, predict, train

Compose = Callable[..., DictConfig]


def mask_of(file: Path) -> Path:
    return file.with_name(f"{file.stem}_mask.png")


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

    files = sorted((pair_root / "val").glob("*_slice??.png"))
    for kind, names in (("images", files), ("labels", [mask_of(file) for file in files])):
        greys = np.stack([np.asarray(Image.open(name)) for name in names], axis=-1)
        voxels = greys.astype(np.int16) - 100 if kind == "images" else (greys > 0).astype(np.uint8)
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / kind / "a.nii")
    volumes = [f"ckpt_path={checkpoint}", f"source={tmp_path / 'images'}"]
    for window, warnings in (("[27.5,255]", 0), ("[-40,160]", 2)):
        caplog.clear()
        predict(compose([*volumes, f"window={window}", f"output_dir={tmp_path / 'v'}"], "predict"))
        labels = f"labels={tmp_path / 'labels'}"
        evaluate(compose([*volumes, f"window={window}", labels], "evaluate"))
        assert caplog.text.count("differ in brightness") == warnings
    caplog.clear()

    for file in (pair_root / "val").glob("*_slice??.png"):
        with Image.open(file) as image:
            image.point([min(255, value // 2 + 120) for value in range(256)]).save(file)
    evaluate(compose(judged, "evaluate"))
    predict(compose([*put_to_use, f"output_dir={tmp_path / 'second'}"], "predict"))
    told = [one for one in caplog.messages if "differ in brightness" in one]
    assert len(told) == 2
    assert all(f"against {held['mean']:.3f}" in one for one in told)
