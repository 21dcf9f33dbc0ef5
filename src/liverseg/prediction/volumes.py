"""Whole volumes through a predictor, slice by slice, and the label volumes that come out."""

import csv
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from liverseg.data import TWELVE_BITS, WHITE, Intensities, histogram
from liverseg.data.volumes import (
    PLANES,
    ClassMap,
    SliceView,
    Slicing,
    Source,
    Volume,
    check_window,
    grey,
    is_same_window,
    millilitres,
    read_source,
    shown_slice,
    slicing_of,
    window_text,
    write_label,
    write_segmentation,
)
from liverseg.files import written_whole
from liverseg.labels import first_scored
from liverseg.prediction.predictor import Predictor

TABLE_FILE = "volumes.csv"
SLICES_AT_ONCE = 4
Numbers = npt.NDArray[Any]
logger = logging.getLogger(__name__)


class SliceDataset(Dataset[dict[str, Any]]):
    """The slices of a volume, seen and prepared as those that training saw.

    Args:
        volume: The volume.
        slicing: How it is cut.
        view: Window and spacing.
        predictor: Prepares images.
        intensities: Adds up how bright the slices are.

    Raises:
        ValueError: If the window does not fit the volume, or 16 bits without one the predictor.
    """

    def __init__(
        self,
        volume: Volume,
        slicing: Slicing,
        view: SliceView,
        predictor: Predictor,
        intensities: Intensities | None = None,
    ) -> None:
        self._slices = slicing.cut(volume.voxels)
        self.limits = view.limits(volume)
        if self.limits is None and predictor.white_value is None:
            _refuse_black(volume)
        self._seen = view.size(slicing, self.size)
        self._predictor = predictor
        self._intensities = intensities

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (C, h, w), with the neighbours that the networks see."""
        stacks = self._predictor.stacks
        away = 0 if stacks is None else stacks.slices // 2
        last = len(self) - 1
        near = [min(max(one, 0), last) for one in range(index - away, index + away + 1)]
        images = [self._image(one) for one in near]
        if self._intensities is not None:
            self._intensities.add(histogram(images[away]))
        return {"image": self._predictor.prepare(torch.cat(images))}

    def _image(self, index: int) -> Tensor:
        shown = shown_slice(self._slices[index], self._seen, self.limits)
        image = torch.from_numpy(shown)
        if shown.dtype == np.uint16:  # no window
            white = self._predictor.white_value or WHITE
            image = (torch.from_numpy(shown.astype(np.float32)) / white).clamp(0, 1)
        return image.expand(self._predictor.channels, -1, -1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the slices as they are stored."""
        return self._slices.shape[1], self._slices.shape[2]


def _refuse_black(volume: Volume) -> None:
    """Refuse what 16 bits without a window show all but black, as of images of 16 bits."""
    most = int(grey(volume.voxels.max(), None))
    if 0 < most <= TWELVE_BITS:
        raise ValueError(
            f"{volume.path} without a window has 16 bits and none of its numbers is above {most}, "
            "so it would be all but black; set the window of the training images, such as "
            f"window=soft_tissue, or train with data.white_value={TWELVE_BITS}"
        )


class _SliceTask(LightningModule):
    """Predicts batches of slices at their stored size."""

    def __init__(self, predictor: Predictor, size: tuple[int, int]) -> None:
        super().__init__()
        self._predictor = predictor
        self._size = size

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        logits = self._predictor(batch["image"], self._size)
        return self._predictor.decide(logits).cpu()


def predict_volume(
    volume: Volume,
    predictor: Predictor,
    trainer: Trainer,
    view: SliceView,
    batch_size: int = SLICES_AT_ONCE,
    intensities: Intensities | None = None,
) -> Numbers:
    """Return the class of every voxel, uint8 of the volume's own shape.

    Args:
        volume: The volume.
        predictor: Maps slices to classes.
        trainer: Knows device and precision.
        view: How slices are cut and seen.
        batch_size: Slices at once.
        intensities: Adds up how bright the slices are.

    Raises:
        ValueError: If the window does not fit the volume, or the network cannot take its slices.
    """
    slicing = slicing_of(volume, view.plane)
    dataset = SliceDataset(volume, slicing, view, predictor, intensities)
    task = _SliceTask(predictor, dataset.size).eval()
    loader = DataLoader(dataset, batch_size=batch_size)
    found = trainer.predict(task, loader, return_predictions=True) or []
    slices = torch.cat([one for one in found if isinstance(one, Tensor)])
    cleaned = predictor.clean(slices[None])[0]  # components go through slices
    return np.ascontiguousarray(slicing.join(cleaned.numpy()))


@dataclass(frozen=True)
class VolumeWriter:
    """Writes label volumes with the geometry of their source, and a table of what they hold.

    Attributes:
        folder: Where ``NAME_prediction.nii.gz`` and ``volumes.csv`` are written.
        predictor: Knows the classes.
        with_segmentation: Whether DICOM series give ``NAME_prediction.dcm``, a DICOM SEG, too.
    """

    folder: Path
    predictor: Predictor
    with_segmentation: bool = False

    def write(self, name: str, volume: Volume, classes: Numbers) -> str:
        """Write the label volume of a source, and return what it holds in words.

        Raises:
            ValueError: If the headers of a series do not allow a SEG.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_label(self.folder / f"{name}_prediction.nii.gz", classes, volume)
        if self.with_segmentation and volume.places:
            write_segmentation(
                self.folder / f"{name}_prediction.dcm", classes, volume, dict(self._numbered())
            )
        return ", ".join(
            f"{one} {count} voxels" if math.isnan(size) else f"{one} {size:.1f} ml"
            for one, count, size in self.sizes(volume, classes)
        )

    def sizes(self, volume: Volume, classes: Numbers) -> list[tuple[str, int, float]]:
        """Return name, voxels and millilitres of each class, NaN where these are not known."""
        counts = np.bincount(classes.ravel(), minlength=256)
        one = millilitres(volume)
        return [(name, int(counts[k]), float(counts[k] * one)) for k, name in self._numbered()]

    def write_table(self, rows: Sequence[tuple[str, Path, str, int, float]]) -> None:
        """Write ``volumes.csv``: a line per volume and class."""
        with (
            written_whole(self.folder / TABLE_FILE) as draft,
            draft.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["name", "source", "class", "voxels", "millilitres"])
            for name, source, class_name, count, size in rows:
                shown = "" if math.isnan(size) else f"{size:.6g}"
                writer.writerow([name, source, class_name, count, shown])

    def _numbered(self) -> Iterator[tuple[int, str]]:
        """Yield index and name of each class that counts."""
        names = self.predictor.class_names
        yield from enumerate(names, first_scored(self.predictor.num_classes, names))


def predict_volumes(
    sources: Mapping[str, Source],
    writer: VolumeWriter,
    trainer: Trainer,
    view: SliceView,
    batch_size: int = SLICES_AT_ONCE,
    intensities: Intensities | None = None,
) -> dict[Path, str]:
    """Write the label volume of every source that can be read; return why others were not.

    One volume is in memory at a time.

    Args:
        sources: Volumes by the names of their files.
        writer: Knows where these go.
        trainer: Knows device and precision.
        view: How slices are cut and seen.
        batch_size: Slices at once.
        intensities: Adds up how bright the slices are.
    """
    refused: dict[Path, str] = {}
    rows: list[tuple[str, Path, str, int, float]] = []
    planes: list[tuple[Path, str]] = []
    for place, (name, source) in enumerate(sources.items(), 1):
        path = source if isinstance(source, Path) else source.folder
        try:
            volume = read_source(source, view.assume)
            classes = predict_volume(
                volume, writer.predictor, trainer, view, batch_size, intensities
            )
            told = writer.write(name, volume, classes)
        except (ValueError, RuntimeError, MemoryError) as error:
            refused[path] = sentence_about(path, error)
            logger.error("%s", refused[path])
            continue
        planes.append((path, slicing_of(volume, view.plane).plane))
        rows += [(name, path, *size) for size in writer.sizes(volume, classes)]
        writer.write_table(rows)
        logger.info("%d/%d %s: %s", place, len(sources), name, told)
    tell_planes(planes, view)
    return refused


def tell_planes(planes: Sequence[tuple[Path, str]], view: SliceView) -> None:
    """Say which volumes were cut in a plane that training did not see, by the plane of each."""
    others = [(path, plane) for path, plane in planes if plane not in view.planes]
    if view.planes and others:
        logger.warning(
            "%d of %d volumes %s cut into slices of another plane than the network was trained on "
            "(%s), such as %s, which is %s; leave %s out, or train on pairs made with convert.py "
            "plane=%s: volumes are then cut so",
            *(len(others), len(planes), "are" if len(others) > 1 else "is"),
            *(", ".join(view.planes), *others[0]),
            *("them" if len(others) > 1 else "it", view.planes[0]),
        )


def view_of(record: Any, window: Any, assume: str | None = None) -> SliceView:
    """Return how a network's training saw slices of volumes; another window is told.

    Args:
        record: What its checkpoint says of that; None where it was trained on other pairs.
        window: Another window than the record's, ``none`` for 16 bits without one; None keeps it.
        assume: Where axes point to in files that do not say; None is what the record assumed.

    Raises:
        ValueError: If neither says which window it is, or ``assume`` names no three directions.
    """
    settings = record if isinstance(record, Mapping) else {}
    if window is None and "window" not in settings:
        raise ValueError(
            "the checkpoint does not say at which window its images were made; set window=..., "
            "such as window=soft_tissue or window=[50,400] (centre and width in HU)"
        )
    chosen = settings["window"] if window is None else None if window == "none" else window
    chosen = check_window(chosen)
    if "window" in settings and not is_same_window(chosen, its := check_window(settings["window"])):
        logger.warning(
            "window=%s: the network was trained at another window, %s, and is lost at this one; "
            "leave it out to take that of training",
            *(window, window_text(its)),
        )
    plane, spacing, planes = (settings.get(key) for key in ("plane", "spacing", "planes"))
    pixel = list(spacing) if isinstance(spacing, list | tuple) else []
    is_spacing = len(pixel) == 2 and all(isinstance(one, int | float) and one > 0 for one in pixel)
    if assume is None and isinstance(settings.get("assume"), str):
        assume = settings["assume"]
    known = {}
    if isinstance(settings.get("tolerance"), int | float) and settings["tolerance"] >= 0:
        known["tolerance"] = float(settings["tolerance"])
    return SliceView(
        window=chosen,
        plane=plane if plane in PLANES else None,
        spacing=tuple(map(float, pixel)) if is_spacing else None,
        assume=assume,
        planes=[one for one in planes if one in PLANES] if isinstance(planes, list) else (),
        **known,
    )


def classes_of(record: Any, classes: Any) -> ClassMap:
    """Return the class of each label value: as typed, or as the checkpoint's pairs had it.

    Raises:
        ValueError: If ``classes`` is no mapping of names to values.
    """
    settings = record if isinstance(record, Mapping) else {}
    return ClassMap(classes if classes is not None else settings.get("classes"))


def sentence_about(path: Path, error: BaseException, done: str = "predicted") -> str:
    """Return what an error says, with the path that it is about."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return f"{path} does not fit into memory; predict it on a computer that has more"
    return said if str(path) in said else f"{path} cannot be {done} ({said})"
