"""What a :class:`~liverseg.prediction.Predictor` finds, held against the truth."""

from torch import Tensor

from liverseg.prediction.predictor import Predictor
from liverseg.training import SegmentationTask


class ScoringTask(SegmentationTask):
    """Scores what a predictor finds, as training scores what its one network finds.

    Args:
        task: The task of a checkpoint, whose loss and record are taken.
        predictor: Maps prepared images to logits and these to classes.
    """

    def __init__(self, task: SegmentationTask, predictor: Predictor) -> None:
        super().__init__(
            net=predictor,
            loss=task.loss,
            num_classes=predictor.num_classes,
            class_names=predictor.class_names,
            threshold=predictor.threshold,
            record=task.record,
        )
        self._predictor = predictor

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return logits of shape (N, num_classes, *size) of prepared images."""
        logits: Tensor = self._predictor(image, size)
        return logits

    def predict_classes(self, logits: Tensor) -> Tensor:
        """Return class indices, uint8 of shape (N, H, W), as they are written."""
        return self._predictor.classes(logits)
