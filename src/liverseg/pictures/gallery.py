"""Which images are drawn, and when: the same ones at every check, the worst, and the best."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import PairDataModule, PairDataset, as_three, read_shown
from liverseg.labels import first_scored
from liverseg.pictures.boards import boards_of, place_of
from liverseg.pictures.cases import Case, as_shown, draw_best_and_worst, draw_case
from liverseg.pictures.ranking import Rank, best_and_worst, rank
from liverseg.training import Scored, SegmentationTask

logger = logging.getLogger(__name__)
_SplitScored = Literal["val", "test"]
# A card is some 350 pixels wide: a square, text that grows with it, and no more pixels than needed.
_FOR_TENSORBOARD = {"num_columns": 2, "largest_panel": 512, "shown_width": 430}


@dataclass(frozen=True)
class _Kept:
    """An image of the pass under way, with what was predicted when it was scored."""

    rank: Rank
    prediction: Tensor


class PictureBoard(Callback):
    """Draws images of a split each time it is scored, with their names and Dice.

    While training, TensorBoard shows the same few images of val at every check, ``pictures/NAME``,
    and the worst ones of that check, ``worst/1`` and so on. A validation or test of its own writes
    the few images into a folder, as ``SPLIT_NAME.png``, and the best and worst ones together, as
    ``best_and_worst_SPLIT.png``. Dice is that of :class:`liverseg.scores.SegmentationScores` per
    image, and what is drawn is the prediction that was scored. With several processes the first one
    draws, and the others tell it what they have seen.

    Args:
        folder: Where pictures are written.
        num_pictures: How many images, evenly spread over the split; 0 draws none.
        num_worst: How many of the worst images, and at the end how many of the best; 0 draws none,
            see :func:`~liverseg.pictures.ranking.best_and_worst`.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        num_pictures: Annotated[int, Field(ge=0)],
        num_worst: Annotated[int, Field(ge=0)],
    ) -> None:
        self._folder = Path(folder)
        self._num_pictures = num_pictures
        self._num_worst = num_worst
        self._chosen: list[_Kept] = []
        self._worst: list[_Kept] = []
        self._best: list[_Kept] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is to be drawn of this batch."""
        self._keep("val", trainer, pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is to be drawn of this batch."""
        self._keep("test", trainer, pl_module, outputs, batch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._forget()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._forget()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("val", trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("test", trainer)

    def _forget(self) -> None:
        self._chosen, self._worst, self._best = [], [], []

    def _keep(
        self,
        split: _SplitScored,
        trainer: Trainer,
        task: LightningModule,
        outputs: Scored,
        batch: dict[str, Tensor],
    ) -> None:
        data = _data_of(trainer)
        if data is None or not self._has_reader(trainer) or not isinstance(task, SegmentationTask):
            return
        prediction = outputs["prediction"]
        chosen = _spread(len(data.dataset(split)), self._num_pictures)
        indices, counts = task.tally(split).scores.latest()
        images = [_Kept(one, prediction[row]) for row, one in enumerate(rank(indices, counts))]
        self._chosen = [*self._chosen, *(one for one in images if one.rank.index in chosen)]
        self._worst = sorted([*self._worst, *images], key=_badness)[: self._num_worst]
        if trainer.state.fn != "fit":  # twice as many: some may be among the worst
            self._best = sorted([*self._best, *images], key=_goodness)[: 2 * self._num_worst]
        for kept in (self._chosen, self._worst, self._best):
            kept[:] = [_alone(one, prediction) for one in kept]

    def _draw(self, split: _SplitScored, trainer: Trainer) -> None:
        data = _data_of(trainer)
        if data is None or not self._has_reader(trainer):
            return
        # An image may have been seen by two processes, see SameSizeBatches.
        chosen, worst, best = (
            {one.rank.index: one for one in _of_all_processes(kept)}
            for kept in (self._chosen, self._worst, self._best)
        )
        self._forget()
        if not trainer.is_global_zero:
            return
        dataset = data.dataset(split)
        shown = [(dataset.pairs[index].name, one) for index, one in sorted(chosen.items())]
        if trainer.state.fn == "fit":
            bad = sorted(worst.values(), key=_badness)[: self._num_worst]
            tags = [
                *((f"{split}/pictures/{name}", one) for name, one in shown),
                *((f"{split}/worst/{place}", one) for place, one in enumerate(bad, start=1)),
            ]
            for tag, one in tags:
                picture = _picture(_case(data, dataset, one), data, **_FOR_TENSORBOARD)
                self._show(tag, picture, trainer)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, one in shown:
            self._write(f"{split}_{name}", _picture(_case(data, dataset, one), data))
        extremes = best | worst
        ranks = best_and_worst((one.rank for one in extremes.values()), self._num_worst)
        best_cases, worst_cases = (
            [_case(data, dataset, extremes[one.index]) for one in column] for column in ranks
        )
        if worst_cases:
            montage = draw_best_and_worst(
                best_cases,
                worst_cases,
                class_names=data.class_names,
                has_background=_has_background(data),
            )
            self._write(f"best_and_worst_{split}", montage)

    def _has_reader(self, trainer: Trainer) -> bool:
        """Tell whether anyone will see the pictures of this pass."""
        if trainer.state.fn != "fit":
            return True
        return not trainer.sanity_checking and bool(boards_of(trainer))

    def _show(self, tag: str, picture: Tensor, trainer: Trainer) -> None:
        for board in boards_of(trainer):
            writer, name = place_of(board, tag)
            writer.add_image(name, picture, trainer.global_step - 1)  # as the scores

    def _write(self, name: str, picture: Tensor) -> None:
        to_pil_image(picture).save(self._folder / f"{name}.png")


def _data_of(trainer: Trainer) -> PairDataModule | None:
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer's entry points
    return data if isinstance(data, PairDataModule) else None


def _spread(num_images: int, count: int) -> set[int]:
    """Return ``count`` indices, one in each equal part of a split.

    The place within a part moves by the golden ratio, lest it fall on the same slice of every
    patient.
    """
    count = min(count, num_images)
    places = (place + (place + 0.5) * 0.618034 % 1 for place in range(count))
    return {int(place * num_images / count) for place in places}


def _badness(kept: _Kept) -> tuple[bool, float, int, int]:
    return kept.rank.badness()


def _goodness(kept: _Kept) -> tuple[bool, float, int, int]:
    return kept.rank.goodness()


def _alone(kept: _Kept, batch: Tensor) -> _Kept:
    """Return an image whose prediction keeps no batch in memory, on the CPU."""
    if kept.prediction.untyped_storage().data_ptr() != batch.untyped_storage().data_ptr():
        return kept
    return replace(kept, prediction=kept.prediction.cpu().clone())


def _of_all_processes(kept: list[_Kept]) -> list[_Kept]:
    """Return what all processes have kept; each of them must call this."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return kept
    lists: list[list[_Kept]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(lists, kept)
    return [one for part in lists for one in part]


def _case(data: PairDataModule, dataset: PairDataset, kept: _Kept) -> Case:
    """Return an image with its truth at the size of its file, not as the network sees it."""
    sample, pair = dataset[kept.rank.index], dataset.pairs[kept.rank.index]
    try:
        image = as_shown(read_shown(pair.image, data.channels, data.white_value))
    except (OSError, ValueError) as error:  # where pairs are in memory, a run can do without files
        logger.warning("%s is drawn as the network sees it: %s", pair.image, error)
        first = data.slices // 2 * data.channels  # of the slice itself
        seen = data.normalize.undo(sample["image"])
        image = as_three(seen[first : first + data.channels])
    return Case(
        caption=f"{pair.name}   Dice {kept.rank.dice:.3f}",
        image=image,
        prediction=kept.prediction,
        truth=sample["mask"],
    )


def _picture(case: Case, data: PairDataModule, **layout: int) -> Tensor:
    return draw_case(
        case.image,
        case.prediction,
        case.truth,
        caption=case.caption,
        class_names=data.class_names,
        has_background=_has_background(data),
        **layout,
    )


def _has_background(data: PairDataModule) -> bool:
    """Tell whether class 0 is background, which has no name."""
    return first_scored(data.num_classes, data.class_names) == 1
