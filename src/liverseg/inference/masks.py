"""Masks that another tool wrote, scored in the place of what a checkpoint predicts."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from liverseg.data import (
    IMAGE_SUFFIXES,
    USUAL_PATTERN,
    MaskReader,
    Pair,
    PairDataModule,
    some_of,
    stored_size,
)
from liverseg.data.volumes import names_volumes
from liverseg.inference.running import (
    SPLITS,
    Scores,
    choose_scores,
    plain_values,
    progress_of,
    refuse_missing,
    score,
    warn_of_absent_classes,
)
from liverseg.inference.volumes import evaluate_label_maps
from liverseg.pictures import PictureBoard
from liverseg.prediction import Options
from liverseg.runs import SCORES_FILE, write_json
from liverseg.settings.values import as_typed
from liverseg.training import Batch, Scored, SegmentationTask, Split

_ENDS = ("_prediction", "_mask", "")  # of a mask's name, the first that is there
_OF_A_CHECKPOINT = (
    *("ckpt_path", "tune", "tuned", *(one.name for one in fields(Options))),
    *("source", "labels", "window", "classes", "assume"),
)
_OF_VOLUMES = ("source", "labels", "classes", "assume")
UNLESS_TOLD: dict[str, Any] = {  # as in configs/data/pairs.yaml, but that nothing is kept in memory
    **dict.fromkeys(("phantom", "image_size", "class_names", "ignore_index")),
    **dict.fromkeys(("mask_values", "mask_threshold", "white_value")),
    **{"channels": 1, "mean": 0.5, "std": 0.5, "num_classes": 1, "seed": 0, "augment": {}},
    **{"case_pattern": USUAL_PATTERN, "batch_size": 8, "num_workers": None},
    "cache_megabytes": 0,
}
logger = logging.getLogger(__name__)


def evaluate_predictions(
    config: DictConfig, settings: Mapping[str, Any]
) -> tuple[Scores, dict[str, str]]:
    """Score masks, or label volumes, that are there already, by name.

    Args:
        config: What ``configs/evaluate.yaml`` composes.
        settings: The same, as plain values.

    Returns:
        The scores, and why volumes were not scored.

    Raises:
        FileNotFoundError: If a folder or a prediction is missing.
        ValueError: If a setting is for something else, or a file is refused.
    """
    predictions = settings["predictions"]
    are_volumes = settings["labels"] is not None or names_volumes(predictions)
    for key in _OF_A_CHECKPOINT:
        if settings.get(key) not in (None, False) and not (are_volumes and key in _OF_VOLUMES):
            raise ValueError(
                f"{key}={as_typed(settings[key])} is for a checkpoint, and predictions="
                f"{predictions} are scored without one; leave one of them out"
            )
    if are_volumes:
        return evaluate_label_maps(settings)
    return _evaluate_masks(config, settings), {}


def _evaluate_masks(config: DictConfig, settings: Mapping[str, Any]) -> Scores:
    """Score a folder of masks against those of a split."""
    split: Split = settings["split"]
    given = {key: value for key, value in settings["data"].items() if value is not None}
    if "root" not in given:
        raise ValueError("data.root is not set, whose masks are the truth; add data.root=...")
    data = MaskDataModule(**{**UNLESS_TOLD, **given})
    refuse_missing(data, split, SPLITS)
    data.predictions = find_masks(Path(settings["predictions"]), data.pairs(split), split)
    folder = Path(settings["output_dir"])
    pictures = PictureBoard(
        folder=folder / "pictures", num_pictures=config.num_pictures, num_worst=config.num_worst
    )
    chosen = plain_values(config.trainer)
    chosen |= {"accelerator": "cpu", **progress_of(chosen)}
    trainer = instantiate(chosen, _convert_="all")(callbacks=[pictures])
    task = MaskTask(data)
    choose_scores(task, {}, settings)
    scores = score(trainer, task, data, split, folder)
    warn_of_absent_classes(task)
    if trainer.is_global_zero:
        write_json(folder / SCORES_FILE, scores)
    return scores


def find_masks(folder: Path, pairs: Sequence[Pair], split: str) -> list[Path]:
    """Return the predicted mask of each pair: ``NAME_prediction.png``, ``NAME_mask`` or ``NAME``.

    Files that belong to no pair are named in the log.

    Raises:
        FileNotFoundError: If the folder does not exist, or pairs have no mask in it.
        ValueError: If two files are the mask of one pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"predictions={folder} is no folder; name one that holds masks")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
            continue
        stem = unicodedata.normalize("NFC", file.stem)
        if stem in files:
            raise ValueError(
                f"{folder}: {files[stem].name} and {file.name} have one name; remove one"
            )
        files[stem] = file
    found, lone, used = [], [], set()
    for pair in pairs:
        there = [pair.name + end for end in _ENDS if pair.name + end in files]
        if len([stem for stem in there if stem != pair.name]) > 1:
            raise ValueError(
                f"{folder}: {' and '.join(files[stem].name for stem in there[:2])} may both be the "
                f"mask of {pair.name}; remove one"
            )
        used.update([*there, f"{pair.name}_picture"])
        if there:
            found.append(files[there[0]])
        else:
            lone.append(pair.name)
    names = {pair.name for pair in pairs}
    surplus = [
        file.name
        for stem, file in files.items()
        if stem not in used and stem.partition("_probability")[0] not in names
    ]
    if lone:
        remedy = f"; of no image are {some_of(surplus)}" if surplus else ""
        raise FileNotFoundError(
            f"{folder} has no mask of {len(lone)} of {len(pairs)} images of {split} "
            f"({some_of(lone)}), such as {lone[0]}.png{remedy}; add them, or choose another split"
        )
    if surplus:
        logger.warning(
            "%s: %d files belong to no image of %s and are left out (%s)",
            *(folder, len(surplus), split, some_of(surplus)),
        )
    return found


class MaskDataModule(PairDataModule):
    """Pairs of which the masks are served alone, with those that were predicted."""

    predictions: list[Path]

    def _ordered_loader(self, split: Split) -> DataLoader[Any]:
        dataset = self.dataset(split)
        served = _Masks(dataset.pairs, self.predictions, dataset.case_numbers, self.mask_reader)
        return DataLoader(served, batch_sampler=self._ordered_batches(split))


class _Masks(Dataset[dict[str, Any]]):
    """True and predicted masks, without their images."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        predictions: Sequence[Path],
        cases: Sequence[int],
        reader: MaskReader,
    ) -> None:
        self._pairs, self._predictions, self._cases = pairs, predictions, cases
        self._reader = reader

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        true, predicted = self._pairs[index].mask, self._predictions[index]
        wanted, found = stored_size(true), stored_size(predicted)
        if wanted != found:
            raise ValueError(
                f"{predicted} is {found[0]} x {found[1]} (height x width) but {true} is "
                f"{wanted[0]} x {wanted[1]}; masks are scored at the size of the truth"
            )
        return {
            "mask": self._reader.read(true),
            "prediction": self._reader.read(predicted),
            "index": index,
            "case": self._cases[index],
        }


class MaskTask(SegmentationTask):
    """Scores masks that are there already.

    Args:
        data: Serves them.
    """

    def __init__(self, data: MaskDataModule) -> None:
        super().__init__(
            net=nn.Identity(),
            loss=nn.Identity(),
            num_classes=data.num_classes,
            class_names=data.class_names,
        )

    def _score_whole(self, split: Split, batch: Batch) -> Scored:
        prediction: Tensor = batch["prediction"]
        self.tally(split).scores.update(prediction, batch["mask"], batch["index"], batch["case"])
        return {"logits": torch.empty(0), "prediction": prediction}

    def _log_split(self, split: Split) -> None:
        values = self.tally(split).scores.compute()
        self.results[split] = {name: float(value) for name, value in values.items()}
        self._note_absent(split)
