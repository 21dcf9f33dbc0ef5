"""A data module with settings that tests change one by one, and changed pairs."""

from pathlib import Path

from PIL import Image

from liverseg.data.datamodule import PairDataModule


def module_of(root: Path, **settings: object) -> PairDataModule:
    defaults = {
        **{"root": str(root), "phantom": None, "channels": 1, "image_size": None},
        **{"mean": 0.0, "std": 1.0, "num_classes": 1, "class_names": None, "ignore_index": None},
        **{"mask_values": None, "mask_threshold": None, "case_pattern": r"^(.+)_slice\d+$"},
        **{"augment": {}, "batch_size": 4, "num_workers": 0, "cache_megabytes": 0, "seed": 0},
        "min_steps": 1,
    }
    return PairDataModule(**{**defaults, **settings})


def resize(folder: Path, name: str, size: tuple[int, int]) -> None:
    for file in (folder / f"{name}.png", folder / f"{name}_mask.png"):
        with Image.open(file) as picture:
            smaller = picture.resize(size, Image.Resampling.NEAREST)
        smaller.save(file)
