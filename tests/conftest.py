"""What many tests begin with: a folder of small pairs, and the real config, shrunk."""

import gc
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO

import hydra
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from PIL import Image, ImageDraw, PngImagePlugin
from sketches import FEW_PICTURES, leave_charts_empty

CONFIGS = Path(__file__).parents[1] / "configs"
PATIENTS = {"train": (1, 1, 2, 2, 3, 3), "val": (4, 4, 5, 5), "test": (6, 6, 7)}


def pytest_configure() -> None:
    """Look for garbage less often than among few objects, and have kernels of GPUs interpreted."""
    gc.set_threshold(50_000, 20, 20)
    if not torch.cuda.is_available():  # Triton looks when it is imported: it then needs no GPU
        os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long tests where several processes share them, so that all end together.

    Those that type the commands of the documents share a folder, so one process does them all.
    """
    if hasattr(config, "workerinput"):  # one of pytest-xdist's processes
        items.sort(
            key=lambda item: (
                item.get_closest_marker("slow") is None,
                item.path.name != "test_documents.py",
            )
        )


@pytest.fixture(scope="session")
def _drawn_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
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
def pair_root(_drawn_pairs: Path, tmp_path: Path) -> Path:
    """A folder with train/ (6 pairs), val/ (4) and test/ (3): bright ellipses of 32 pixels."""
    return Path(shutil.copytree(_drawn_pairs, tmp_path / "pairs"))


@pytest.fixture(autouse=True)
def _without_a_job() -> Iterator[None]:
    """Have Hydra forget a command that a test has composed: sentences name what was typed."""
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture
def compose(pair_root: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes ``configs/NAME.yaml``; train is shrunk, and the caller's overrides come last."""
    shrunk = {
        "train": [
            *("data=liver", "data.root=???", "data.min_steps=1", "sweep_name=test"),
            *("model=unet_small", "model.depth=2", "model.width=4"),
            *("trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true"),
            "++trainer.enable_progress_bar=false",
            *FEW_PICTURES,  # they take half of a run
        ]
    }

    def composed(
        overrides: list[str], name: str = "train", *, with_hydra: bool = False
    ) -> DictConfig:
        theirs = {override.split("=")[0] for override in overrides}  # a group is chosen once
        kept = [one for one in shrunk.get(name, []) if one.split("=")[0] not in theirs]
        if any(re.match("model=(?!unet)", one) for one in overrides):  # of another library
            kept = [one for one in kept if not one.startswith("model.")]
        if any(one.startswith("~callbacks") for one in overrides):
            kept = [one for one in kept if not one.startswith("callbacks.")]
        places = {"data.root": pair_root, "output_dir": tmp_path / "run"}
        paths = [
            f"{key}={path}"
            for key, path in places.items()
            if key not in theirs
            and name not in ("split", "demo")
            and (key == "output_dir" or name == "train")
        ]
        chosen = [one for one in overrides if _is_choice(one)]
        config = pickle.loads(_composed(name, (*kept, *chosen), with_hydra))
        values = [*paths, *(one for one in overrides if one not in chosen)]
        parsed = OverridesParser.create().parse_overrides(values)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
        if with_hydra:
            for one in parsed:
                part = "hydra" if one.is_hydra_override() else "task"
                config.hydra.overrides[part].append(one.input_line)
        return config

    return composed


def _is_choice(override: str) -> bool:
    """Tell whether an override chooses from a group, so that other files are composed."""
    group = override.split("=")[0].lstrip("+~").split("@")[0]
    return "/" in group or (CONFIGS / group).is_dir()


@cache
def _composed(name: str, overrides: tuple[str, ...], with_hydra: bool) -> bytes:
    """Compose once what many tests begin with; values are set on a copy, as Hydra sets them."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return pickle.dumps(hydra.compose(name, list(overrides), return_hydra_config=with_hydra))


@pytest.fixture
def rendered() -> None:
    """For a test that looks at the picture of a run's curves."""


@pytest.fixture(autouse=True)
def _sketched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave charts of a run empty, and compress other pictures little: half the time of a run."""

    def write(image: Image.Image, stream: IO[bytes], name: str | bytes) -> None:
        image.encoderinfo = {"compress_level": 0, **image.encoderinfo}
        PngImagePlugin._save(image, stream, name)

    if "rendered" not in request.fixturenames:
        leave_charts_empty(monkeypatch)
        monkeypatch.setitem(Image.SAVE, "PNG", write)
