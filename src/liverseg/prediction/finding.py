"""Image by image to classes: what is read, predicted, and refused with its reason."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from liverseg.data import SameSizeBatches, of_one_format, stored_size
from liverseg.prediction.predictor import Predictor

_MOST_PIXELS = 2**24  # of a batch; a larger image is one by itself
logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """What was found in an image, at the size of its file."""

    number: int  # of the image
    classes: Tensor  # uint8 (H, W), on the CPU
    probabilities: npt.NDArray[Any] | None  # (K, H, W), float32, or uint16 where 65535 is 1


class ImageDataset(Dataset[dict[str, Any]]):
    """Images without masks, prepared for a predictor.

    Args:
        images: Image files.
        predictor: Reads and prepares them.
    """

    def __init__(self, images: Sequence[Path], predictor: Predictor) -> None:
        self.images = list(images)
        self._predictor = predictor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (C, h, w), the ``size`` of the file and its ``index``.

        Of a file that cannot be read it is ``refused``, a sentence, and the ``index``.
        """
        path = self.images[index]
        try:
            image = self._predictor.read(path)
            size = (image.shape[-2], image.shape[-1])
            return {"image": self._predictor.prepare(image), "size": size, "index": index}
        except Exception as error:  # one damaged file, in whichever way, must not stop the others
            return {"refused": sentence_about(path, error), "index": index}

    def sizes(self) -> list[tuple[int, int]]:
        """Return height and width of each file; of one that cannot be read, a size of its own."""
        sizes = []
        for index, path in enumerate(self.images):
            try:
                height, width = stored_size(path)
            except Exception:  # damaged, in whichever way: it is refused when it is read
                height, width = -1, index
            # An image for which a batch has no room is one of its own kind.
            sizes.append((height, width) if height * width <= _MOST_PIXELS else (-2, index))
        return sizes


class PredictionTask(LightningModule):
    """Predicts batches of images of one size; what cannot be predicted is kept with its reason.

    Args:
        predictor: Maps prepared images to logits and these to classes.
        dataset: The images.
        batch_size: Images in a batch at most.
        num_workers: Processes that read images.
        probabilities: The type in which they are kept, None for none.
    """

    def __init__(
        self,
        predictor: Predictor,
        dataset: ImageDataset,
        *,
        batch_size: int = 1,
        num_workers: int = 0,
        probabilities: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.refused: dict[Path, str] = {}
        self._dataset = dataset
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._probabilities = probabilities

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the batches of this process."""
        batches = SameSizeBatches(
            self._dataset.sizes(),
            batch_size=self._batch_size,
            rank=self.trainer.global_rank,
            num_ranks=self.trainer.world_size,
        )
        return DataLoader(
            self._dataset,
            batch_sampler=batches,
            num_workers=self._num_workers,
            collate_fn=gather,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> list[Found]:
        """Return what is found in each image that can be predicted."""
        for index, sentence in batch["refused"].items():
            self.refuse(self._dataset.images[index], sentence)
        if not batch["index"]:
            return []
        try:
            return self._find(batch["image"], batch["size"], batch["index"])
        except (ValueError, RuntimeError) as error:  # a size that the network cannot take, say
            if len(batch["index"]) == 1:
                path = self._dataset.images[batch["index"][0]]
                self.refuse(path, sentence_about(path, error))
                return []
        # Too many at once, perhaps. By now the error has let go of what they have taken of memory.
        parts = zip(batch["image"].split(1), batch["index"], strict=True)
        alone = [{**batch, "refused": {}, "image": a, "index": [b]} for a, b in parts]
        return [found for one in alone for found in self.predict_step(one, batch_index)]

    def refuse(self, path: Path, sentence: str) -> None:
        """Keep and tell why an image was not predicted."""
        self.refused[path] = sentence
        logger.error("%s", sentence)

    def on_predict_end(self) -> None:
        """Learn what the other processes have refused."""
        if self.trainer.world_size > 1:
            lists: list[dict[Path, str]] = [{} for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(lists, self.refused)
            self.refused = {path: why for one in lists for path, why in one.items()}

    def _find(self, image: Tensor, size: tuple[int, int], indices: Sequence[int]) -> list[Found]:
        """Predict strip by strip: the logits of a large image never exist at once."""
        decided: list[Tensor] = []
        kept: npt.NDArray[Any] | None = None
        row = 0
        for strip in self.predictor.strips(image, size):
            decided.append(self.predictor.decide(strip).cpu())
            if self._probabilities is not None:
                part = self.predictor.probabilities(strip).cpu().numpy()
                if kept is None:
                    kept = np.empty((*part.shape[:2], *size), self._probabilities)
                is_whole = kept.dtype == np.uint16
                rows = slice(row, row + part.shape[2])
                kept[:, :, rows] = np.rint(part * 65535) if is_whole else part
            row += strip.shape[2]
        classes = self.predictor.clean(torch.cat(decided, dim=1))
        return [
            Found(index, classes[place], None if kept is None else kept[place])
            for place, index in enumerate(indices)
        ]


def gather(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch: images in one tensor, and what was refused by index beside them."""
    good = [sample for sample in samples if "refused" not in sample]
    return {
        "image": torch.stack(of_one_format([one["image"] for one in good])) if good else None,
        "size": good[0]["size"] if good else None,
        "index": [sample["index"] for sample in good],
        "refused": {one["index"]: one["refused"] for one in samples if "refused" in one},
    }


def sentence_about(path: Path, error: Exception) -> str:
    """Return what an error says, with the path that it is about."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if str(path) in said else f"{path} cannot be predicted ({said})"
