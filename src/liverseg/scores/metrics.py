"""From logits to class indices, and from these to counts of pixels, added up over a split.

Scores come from integer counts of pixels, one row per image, summed and divided once in float64:
batch size, the last short batch, the number of devices and the order change no digit. Background
enters no mean, and ignored pixels count nowhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from liverseg.labels import IGNORED, first_scored, scored_names
from liverseg.scores.averages import Table, split_scores
from liverseg.scores.boundaries import surface_scores
from liverseg.scores.catalogue import CHOSEN, computed

_NUM_STEPS = 65  # of a probability; TensorBoard takes them as spread evenly over [0, 1]


def predict_classes(logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Turn logits into class indices: the one place where this is decided.

    Args:
        logits: Logits of shape (N, K, H, W).
        threshold: With one logit, a pixel is foreground where the probability exceeds this.

    Returns:
        Class indices, uint8 of shape (N, H, W); 0/1 for K = 1, the largest logit for K >= 2.
    """
    if logits.shape[1] == 1:
        return (logits[:, 0].float().sigmoid() > threshold).to(torch.uint8)
    return logits.argmax(dim=1).to(torch.uint8)


def class_probabilities(logits: Tensor, *, first: int = 0) -> Tensor:
    """Return the probabilities that logits stand for, in their number format.

    Args:
        logits: Logits of shape (N, K, H, W).
        first: The first class whose probability is returned; one logit has foreground alone.

    Returns:
        Shape (N, K - first, H, W), or (N, 1, H, W) of foreground for K = 1.
    """
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, first:]


def count_pixels(prediction: Tensor, mask: Tensor, num_classes: int, *, first: int = 1) -> Tensor:
    """Count true positive, false positive and false negative pixels per image and class.

    Args:
        prediction: Class indices of shape (N, H, W), or (N, D, H, W) of volumes.
        mask: True class indices of the same shape, ignored pixels as IGNORED.
        num_classes: 1 or 2 for one foreground class, N for N - 1 of them.
        first: The first class that is counted; 0 counts background too.

    Returns:
        Counts, int64 of shape (N, counted classes, 3).
    """
    valid = mask != IGNORED
    counts = []
    for index in range(first, max(num_classes, 2)):
        predicted, true = (prediction == index) & valid, mask == index
        cells = (predicted & true, predicted & ~true, true & ~predicted)
        counts.append(torch.stack([cell.flatten(1).sum(dim=1) for cell in cells], dim=1))
    return torch.stack(counts, dim=1)


def count_by_probability(logits: Tensor, mask: Tensor, *, first: int = 1) -> Tensor:
    """Count pixels by the probability of each foreground class: all that a curve needs.

    Args:
        logits: Logits of shape (N, K, H, W).
        mask: True class indices of shape (N, H, W), ignored pixels as IGNORED.
        first: The first class that is counted; 0, with two logits or more, counts background too.

    Returns:
        Counts, int64 of shape (counted classes, 2, 65): of pixels of other classes and of the
        class, by the probability, in steps of 1/64 and a last one for 1.
    """
    probability = class_probabilities(logits.float(), first=first)
    steps = (probability * (_NUM_STEPS - 1)).to(torch.int32)  # exact: a power of two
    ignored = 2 * _NUM_STEPS * (mask == IGNORED)
    counts = []
    for index in range(steps.shape[1]):
        cells = steps[:, index] + _NUM_STEPS * (mask == index + first) + ignored
        counted = torch.bincount(cells.flatten(), minlength=3 * _NUM_STEPS)
        counts.append(counted[: 2 * _NUM_STEPS].reshape(2, _NUM_STEPS))
    return torch.stack(counts)


def precision_recall(counts: Tensor) -> Tensor:
    """Return precision and recall where a pixel is foreground from a probability on.

    Precision is TP / (TP + FP), recall is TP / (TP + FN); 1 where the denominator is 0.

    Args:
        counts: What :func:`count_by_probability` returned, summed over batches.

    Returns:
        TP, FP, TN, FN, precision and recall as float64 of shape (foreground classes, 6, 65), for
        the probabilities 0, 1/64 ... 1.
    """
    counts = counts.cpu().double()
    totals = counts.sum(dim=2, keepdim=True)
    negative, positive = (totals - counts.cumsum(dim=2) + counts).unbind(dim=1)  # from a step on
    false_negative, true_negative = totals[:, 1] - positive, totals[:, 0] - negative
    precision = _quotient(positive, positive + negative)
    recall = _quotient(positive, positive + false_negative)
    rows = (positive, negative, true_negative, false_negative, precision, recall)
    return torch.stack(rows, dim=1)


def _quotient(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.where(whole > 0, 1), 1.0)


class SegmentationScores(Metric):
    """The scores of a split: per image, pooled, and per case, see :mod:`liverseg.scores.catalogue`.

    Dice, IoU, precision and recall per image and class, mean over images, then over classes; an
    image whose truth and prediction are both empty scores 1, one of them empty 0. ``dice_pooled``
    and so on: from counts summed over all images, mean over the classes that occur in truth or
    prediction (1 if none does). ``dice_case`` and so on: from counts summed per case, mean over
    cases, then classes; there where every image has a case. Distances: mean over the structures of
    which both edges are there.

    Args:
        num_classes: 1 or 2 for one foreground class, N for N - 1 of them.
        class_names: Names, see :func:`scored_names`; with one for each class, background is scored
            too. Where there are several, the scores of each class are added as ``dice/NAME``, ...
        chosen: Words of the scores that are to be computed besides those that cost nothing.
        tolerance: Of ``nsd``, in the unit of the spacing.
        spacing: Distance between neighbouring pixels, along height and width, such as in mm; None
            is that of each image, or volume, in ``spacings``, by index, or else 1, in pixels.
    """

    full_state_update = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        *,
        chosen: Sequence[str] = (),
        tolerance: float = 2.0,
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        is_all = class_names is not None and 1 < num_classes == len(class_names)
        self.class_names = scored_names(num_classes, class_names, background=not is_all)
        self.first_class = first_scored(num_classes, self.class_names)
        self.chosen = tuple(word for word in CHOSEN if word in chosen)
        self.tolerance = tolerance
        self.spacing = None if spacing is None else tuple(spacing)
        self.spacings: Sequence[Sequence[float]] | None = None
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._of_all_processes: Tensor | None = None

    def update(self, prediction: Tensor, mask: Tensor, index: Tensor, case: Tensor) -> None:
        """Add images.

        Args:
            prediction: Class indices of shape (N, H, W), or (N, D, H, W) of volumes.
            mask: True class indices of the same shape.
            index: The images' places in the split, of shape (N). An image added twice counts once.
            case: The number of each image's case, -1 for none, of shape (N).
        """
        counts = count_pixels(prediction, mask, self.num_classes, first=self.first_class)
        parts = [index[:, None], case[:, None], counts.flatten(1)]
        if self.chosen:  # as the bits of float64, so that a row stays one row of whole numbers
            values = self._edge_scores(prediction, mask, index.tolist())
            parts.append(values.view(torch.int64).flatten(1).to(counts.device))
        self.rows.append(torch.cat(parts, dim=1))
        self._of_all_processes = None

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._of_all_processes = None

    def latest(self) -> tuple[Tensor, Tensor]:
        """Return indices (N) and counts (N, foreground classes, 3) of the images added last."""
        table = self._as_table(self.rows[-1].cpu())
        return table.indices, table.counts

    def table(self) -> Table:
        """Return what was counted, in the order of the images.

        Once the scores have been computed these are the images of all processes, before that those
        of this one.
        """
        rows = self._of_all_processes
        rows = dim_zero_cat(self.rows).cpu() if rows is None else rows
        order = rows[:, 0].argsort(stable=True)
        rows = rows[order]
        first = torch.ones(len(rows), dtype=torch.bool)
        first[1:] = rows[1:, 0] != rows[:-1, 0]
        return self._as_table(rows[first])

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, float64 scalars."""
        self._of_all_processes = dim_zero_cat(self.rows).cpu()  # gathered around this method
        return split_scores(self.table(), computed(self.chosen), self.class_names)

    def _as_table(self, rows: Tensor) -> Table:
        num_classes = len(self.class_names)
        counts, bits = rows[:, 2:].split([3 * num_classes, num_classes * len(self.chosen)], dim=1)
        values = bits.contiguous().view(torch.float64)
        return Table(
            rows[:, 0],
            rows[:, 1],
            counts.reshape(len(rows), num_classes, 3),
            values.reshape(len(rows), num_classes, len(self.chosen)),
            self.chosen,
        )

    def _edge_scores(self, prediction: Tensor, mask: Tensor, indices: Sequence[int]) -> Tensor:
        """Return the chosen scores, float64 of shape (N, classes, words).

        Ignored pixels belong to neither mask.
        """
        values = torch.empty(
            len(mask), len(self.class_names), len(self.chosen), dtype=torch.float64
        )
        predicted = torch.where(mask == IGNORED, IGNORED, prediction).cpu().numpy()
        true = mask.cpu().numpy()
        for row, place_in_split in enumerate(indices):
            spacing = self.spacing
            if spacing is None and self.spacings is not None:
                spacing = tuple(self.spacings[place_in_split])
            for place in range(len(self.class_names)):
                index = place + self.first_class
                found = surface_scores(
                    predicted[row] == index,
                    true[row] == index,
                    spacing=spacing,
                    tolerance=self.tolerance,
                )
                for column, word in enumerate(self.chosen):
                    values[row, place, column] = found[word]
        return values
