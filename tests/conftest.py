"""Two fixtures: a folder of small pairs, and the real config, shrunk."""

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig
from PIL import Image, ImageDraw

CONFIGS = Path(__file__).parents[1] / "configs"
PATIENTS = {"train": (1, 1, 2, 2, 3, 3), "val": (4, 4, 5, 5), "test": (6, 6, 7)}


@pytest.fixture
def pair_root(tmp_path: Path) -> Path:
    """A folder with train/ (6 pairs), val/ (4) and test/ (3): bright ellipses of 32 pixels."""
    root = tmp_path / "pairs"
    for split, patients in PATIENTS.items():
        (root / split).mkdir(parents=True)
        for place, patient in enumerate(patients):
            stem = root / split / f"patient{patient:03}_slice{place:02}"
            liver = (4 + patient, 6 + 2 * place, 20 + place, 24 - patient // 3)
            image, mask = Image.new("L", (32, 32), 20), Image.new("L", (32, 32), 0)
            ImageDraw.Draw(image).ellipse((1, 3, 30, 28), fill=90)
            ImageDraw.Draw(image).ellipse(liver, fill=170 + 5 * place)
            ImageDraw.Draw(mask).ellipse(liver, fill=255)
            image.save(f"{stem}.png")
            mask.save(f"{stem}_mask.png")
    return root


@pytest.fixture
def compose(pair_root: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes ``configs/NAME.yaml``; train is shrunk, and the caller's overrides come last."""
    shrunk = {
        "train": [
            *("data=liver", f"data.root={pair_root}", "sweep_name=test"),
            *("model=unet_small", "model.depth=2", "model.width=4"),
            *("trainer.max_epochs=1", "trainer.accelerator=cpu"),
            "++trainer.enable_progress_bar=false",
        ]
    }

    def composed(
        overrides: list[str], name: str = "train", *, with_hydra: bool = False
    ) -> DictConfig:
        defaults = [f"output_dir={tmp_path / 'run'}", *shrunk.get(name, [])]
        theirs = {override.split("=")[0] for override in overrides}  # a group is chosen once
        kept = [one for one in defaults if one.split("=")[0] not in theirs]
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose(name, [*kept, *overrides], return_hydra_config=with_hydra)

    return composed
