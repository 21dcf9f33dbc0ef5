"""From a checkpoint to a file that needs this package no longer, checked before it is kept."""

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from liverseg.data import PairDataModule, read_stack, resize_image
from liverseg.files import written_whole
from liverseg.labels import first_scored
from liverseg.network import whole_image_logits
from liverseg.pictures import class_colour
from liverseg.prediction import ExportedNetwork, Input
from liverseg.runs import SCORES_FILE, short_path, write_text
from liverseg.scores import class_probabilities
from liverseg.sharing.card import model_card
from liverseg.sharing.graph import Format, ImageToClasses, to_onnx, to_program
from liverseg.sharing.parity import Parity, compare, made_up
from liverseg.training import SegmentationTask, Split

CARD = "MODEL_CARD.md"
_NAMES: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
_MOST_COMPARED = 16  # images of val, spread over it
logger = logging.getLogger(__name__)


class Exported(NamedTuple):
    """What an export has written."""

    file: Path
    card: Path
    parity: Parity


def export_checkpoint(
    checkpoint: Mapping[str, Any],
    file: Path,
    *,
    task: SegmentationTask,
    data: PairDataModule,
    folder: Path,
    format: Format,
    takes: Input,
) -> Exported:
    """Write a checkpoint as one file that holds all from pixels to classes, and its model card.

    It is compared with the checkpoint, computed in float32, before it gets its name.

    Args:
        checkpoint: What :func:`~liverseg.checkpoints.load_checkpoint` returned.
        file: Where it was read from.
        task: What it was rebuilt to.
        data: Likewise; its ``val`` is compared on where it is there.
        folder: Where the files are written.
        format: ONNX, or a program of ``torch.export``.
        takes: Type of the pixels that the file takes.

    Raises:
        ValueError: If the network cannot be written as a graph, or the file differs from it.
    """
    net = copy.deepcopy(task.net).cpu().to(memory_format=torch.contiguous_format)
    graph = ImageToClasses(net, data.normalize, task.threshold, data.image_size).eval()
    record = _record(checkpoint, file, data=data, takes=takes, threshold=task.threshold)
    write = to_onnx if format == "onnx" else to_program
    content = write(graph, takes, data.channels * data.slices, record)
    target, card = folder / _NAMES[format], folder / CARD

    def resized(images: Tensor) -> Tensor:
        return torch.stack([resize_image(one, data.image_size) for one in images])

    def reference(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = task(data.normalize(resized(image)), size=(image.shape[-2], image.shape[-1]))
        return task.predict_classes(logits), class_probabilities(logits), logits

    def exact(image: Tensor) -> Tensor:
        with torch.inference_mode():
            net = copy.deepcopy(task.net).double()
            size = (image.shape[-2], image.shape[-1])
            logits = whole_image_logits(net, data.normalize(resized(image).double()), size)
        return class_probabilities(logits).double()

    with written_whole(target, target.suffix) as draft:
        draft.write_bytes(content)
        exported = ExportedNetwork(draft, takes=takes, allow=["torch.export"], engine="onnxruntime")
        images = list(_images_of(data, takes))
        if not images:
            logger.warning(
                "%s/val is not here, so the file is compared on made-up images alone", data.root
            )
        parity = compare(exported, reference, images or made_up(data.channels * data.slices), exact)
        if not images:
            parity.images = 0
    write_text(card, model_card(record, parity=parity, file=target))
    return Exported(target, card, parity)


def _record(
    checkpoint: Mapping[str, Any],
    file: Path,
    *,
    data: PairDataModule,
    takes: Input,
    threshold: float,
) -> dict[str, Any]:
    """Return what a file says about itself, as plain values."""
    kept = checkpoint["liverseg"]
    settings = kept["config"]["data"]
    first = first_scored(data.num_classes, data.class_names)
    names = ["background"] * first + list(data.class_names)
    return {
        "liverseg_version": version("liverseg"),
        "task": "semantic segmentation",
        "input": takes,
        "channels": data.channels * data.slices,
        "classes": names,
        "colours": ["#{:02x}{:02x}{:02x}".format(*class_colour(one)) for one in range(len(names))],
        "mean": settings["mean"],
        "std": settings["std"],
        "image_size": data.image_size,
        "resizes": data.image_size is not None,
        "window": (kept.get("volumes") or {}).get("window"),
        "spacing": _spacing(data),
        "white_value": data.white_value,
        "threshold": threshold if data.num_classes == 1 else None,
        "scores": _scores_of(file),
        "images": dict(_census(data)),
        "fingerprints": checkpoint.get(type(data).__name__) or {},
        "precision_of_training": kept["config"]["trainer"].get("precision", "32-true"),
        "epoch": checkpoint.get("epoch"),
        "checkpoint_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "versions": {**kept.get("versions", {}), "torch_of_export": torch.__version__},
        "commit": kept.get("commit", ""),
        "licence": "",
        "class_names": kept["class_names"],
        "volumes": kept.get("volumes"),  # at which window and spacing slices are to be seen
        "intensities": kept.get("intensities"),
        "format": kept.get("format"),
        "config": kept["config"],
    }


def _run_of(file: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, if it does."""
    folder = file.absolute().parents[1] if len(file.absolute().parents) > 1 else None
    return folder if folder and file.parent.name == "checkpoints" else None


def _scores_of(file: Path) -> dict[str, float]:
    """Return the final scores of a run where the checkpoint is the one that was scored."""
    run = _run_of(file)
    if run is None or file.name != "best.ckpt" or not (run / SCORES_FILE).is_file():
        return {}
    try:
        found = json.loads((run / SCORES_FILE).read_text())
        return {name: value for name, value in found.items() if isinstance(value, int | float)}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        logger.warning("the scores in %s cannot be read: %s", short_path(run / SCORES_FILE), error)
        return {}


def _census(data: PairDataModule) -> Iterator[tuple[str, list[int]]]:
    """Yield the numbers of images and of cases of each split whose folder is here."""
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        try:
            dataset = data.dataset(split) if data.has_split(split) else None
        except ValueError as error:
            logger.warning("%s is left out: %s", split, error)
            continue
        if dataset is not None:
            yield split, [len(dataset), len(set(dataset.cases) - {None})]


def _spacing(data: PairDataModule) -> list[float] | None:
    """Return the median height and width in mm of a pixel of val, None where it is not known."""
    try:
        pairs = data.dataset("val").pairs if data.has_split("val") else []
    except ValueError:
        return None  # told already
    known = [pair.spacing for pair in pairs if pair.spacing is not None]
    return [median(sides) for sides in zip(*known, strict=True)] if known else None


def _images_of(data: PairDataModule, takes: Input) -> Iterator[Tensor]:
    """Yield images of val at their own sizes, in [0, 1]."""
    try:
        pairs = data.dataset("val").pairs if data.has_split("val") else []
    except ValueError as error:
        logger.warning("val is left out: %s", error)
        return
    stacks = data.stacks()
    for pair in pairs[:: max(1, -(-len(pairs) // _MOST_COMPARED))]:
        files = stacks.of(pair.image)
        image = read_stack(files, data.channels, data.white_value)
        if takes == "uint8" and image.dtype != torch.uint8:
            raise ValueError(
                f"{pair.image} has more than 8 bits, and input=uint8 holds no more; export with "
                "input=float"
            )
        yield functional.to_dtype(image, torch.float32, scale=True)
