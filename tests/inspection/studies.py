"""A small study with patients, slices and texture, whose faults tests plant themselves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from liverseg.data import PairDataModule

CONFIGS = Path(__file__).parents[2] / "configs"
SIDE = 64
PATIENTS = {"train": range(1, 10), "val": range(10, 13)}
NUM_SLICES = 5


def write_study(root: Path) -> Path:
    """Write train/ (9 patients of 5 slices) and val/ (3): an organ that grows, and a spine."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for split, patients in PATIENTS.items():
        (root / split).mkdir(parents=True)
        for patient in patients:
            generator = np.random.default_rng(patient)
            middle = generator.uniform(-3, 3, size=2)
            high, wide = generator.integers(22, 30, size=2)
            spots = np.kron(generator.normal(0, 12, (8, 8)), np.ones((8, 8)))
            for place in range(NUM_SLICES):
                noise = generator.normal(0, 4, (SIDE, SIDE))
                body = ((rows - 32) / high) ** 2 + ((columns - 32) / wide) ** 2 < 1
                organ = (
                    ((rows - 28 - middle[0]) / (7 + 2 * place)) ** 2
                    + ((columns - 22 - middle[1]) / (6 + place)) ** 2
                ) < 1
                spine = (rows - 48) ** 2 + (columns - 34) ** 2 < (8 - place) ** 2
                image = 10 + 60 * body + 90 * (organ & body) + 120 * spine + (noise + spots) * body
                name = root / split / f"patient{patient:03}_slice{place:02}"
                save(f"{name}.png", np.clip(image, 0, 255))
                save(f"{name}_mask.png", (organ & body) * 255)
    return root


def save(file: str | Path, numbers: "np.typing.ArrayLike") -> None:
    Image.fromarray(np.asarray(numbers).round().astype(np.uint8)).save(file, compress_level=1)


def load(file: str | Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.array(Image.open(file))


def module(root: Path, **changes: object) -> PairDataModule:
    """Return a data module of a folder, of foreground against background."""
    config = OmegaConf.load(CONFIGS / "data" / "pairs.yaml")
    config = OmegaConf.merge(config, {"root": str(root), "seed": 0, "fold": None})
    settings = {str(key): value for key, value in OmegaConf.to_container(config).items()}
    del settings["_target_"]
    settings |= {"class_names": ["liver"], **changes}
    return PairDataModule(**settings)  # type: ignore[arg-type]


def kinds(findings: Sequence[object]) -> list[tuple[str, str]]:
    return [(one.level, one.kind) for one in findings]  # type: ignore[attr-defined]
