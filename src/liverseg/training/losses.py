"""Losses: what training makes small.

Every loss takes logits of shape (N, K, H, W) and a mask of shape (N, H, W), and returns the mean
over the images of the batch (:class:`SoftDiceLoss` may sum over them instead). K = 1 means
foreground against background through one logit, K >= 2 one logit per class, class 0 being
background. A mask holds class indices; pixels of value :data:`~liverseg.labels.IGNORED` count
nowhere, and an image that holds no other pixel has loss 0.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from liverseg.labels import IGNORED


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of one logit: -log p on the foreground, -log (1 - p) elsewhere.

    Args:
        class_weights: Weight of a background and of a foreground pixel; an image's loss is the
            weighted mean over its pixels.

    Raises:
        ValueError: If there are not two positive weights, or the logits have several channels.
    """

    def __init__(self, class_weights: Sequence[float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.class_weights: Tensor
        self.register_buffer("class_weights", _weights(class_weights, 2), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar >= 0."""
        if logits.shape[1] != 1:
            raise ValueError(
                f"loss=bce takes one logit per pixel, the network gives {logits.shape[1]}; "
                "set data.num_classes=1 or loss=cross_entropy"
            )
        valid = mask != IGNORED
        truth = (mask == 1).float()
        loss = functional.binary_cross_entropy_with_logits(
            logits[:, 0].float(), truth, reduction="none"
        )
        weight = self.class_weights[truth.long()] * valid
        return _mean_over_pixels(loss, weight)


class CrossEntropy(nn.Module):
    """Cross-entropy over the classes, -log of the probability of the true class.

    One logit is read as the two classes background and foreground, which makes it
    :class:`BinaryCrossEntropy`.

    Args:
        class_weights: Weight of a pixel of each class, background first; none means 1 for all. An
            image's loss is the weighted mean over its pixels, as in :func:`torch.nn.functional.
            cross_entropy`.
    """

    def __init__(self, class_weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.class_weights: Tensor
        self.register_buffer("class_weights", _weights(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar >= 0."""
        logits = _class_logits(logits.float())
        valid = mask != IGNORED
        truth = mask.long().where(valid, 0)
        loss = functional.cross_entropy(logits, truth, reduction="none")
        weights = _weights_for(self.class_weights, logits.shape[1])
        return _mean_over_pixels(loss, weights[truth] * valid)


class SoftDiceLoss(nn.Module):
    """One minus the soft Dice of the foreground, per image and class, then their mean.

    ``1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)`` with probability p and truth t
    (Milletari et al., "V-Net", 2016, without squares). Every class counts in every image: a false
    positive on an image without that class costs, up to 1.

    With ``batch`` the sums run over all pixels of the batch, as in the 2D plans of nnU-Net (Isensee
    et al., Nature Methods 2021): images with little of a class, or none, then weigh by their
    pixels. The loss depends on which images share a batch, and on several devices each one sums
    over its own.

    Args:
        smooth: Keeps the quotient defined on empty images, in pixels, > 0.
        class_weights: Weight of each counted class in the mean; none means 1 for all.
        background: Whether class 0 is background; False counts it like any other.
        batch: Whether sums run over the batch; False sums over each image.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        class_weights: Sequence[float] = (),
        background: bool = True,
        batch: bool = False,
    ) -> None:
        super().__init__()
        if smooth <= 0:
            raise ValueError(f"loss.smooth={smooth} must be greater than 0")
        self.smooth = smooth
        self.first = int(background)
        self.summed = (0, 2, 3) if batch else (2, 3)
        self.class_weights: Tensor
        self.register_buffer("class_weights", _weights(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar in [0, 1]."""
        probability = _class_logits(logits.float()).softmax(dim=1)[:, self.first :]  # (N, F, H, W)
        valid = (mask != IGNORED)[:, None]
        classes = torch.arange(probability.shape[1], device=mask.device) + self.first
        truth = (mask[:, None] == classes[:, None, None]).float()  # (N, F, H, W)
        probability = probability * valid
        overlap = (probability * truth).sum(dim=self.summed)
        total = probability.sum(dim=self.summed) + truth.sum(dim=self.summed)
        dice = (2 * overlap + self.smooth) / (total + self.smooth)  # (N, F), or (F) of the batch
        weights = _weights_for(self.class_weights, dice.shape[-1])
        return (((1 - dice) * weights).sum(dim=-1) / weights.sum()).mean()


class SumLoss(nn.Module):
    """The weighted sum of several losses.

    Args:
        losses: The losses.
        weights: One factor each.
    """

    def __init__(
        self,
        losses: Annotated[Sequence[nn.Module], Field(description="a list of classes")],
        weights: Sequence[float],
    ) -> None:
        super().__init__()
        if len(losses) != len(weights):
            raise ValueError(
                f"loss.weights={list(weights)} must hold one factor for each of the "
                f"{len(losses)} losses"
            )
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        parts = zip(self.losses, self.weights, strict=True)
        return torch.stack([weight * loss(logits, mask) for loss, weight in parts]).sum()


def _class_logits(logits: Tensor) -> Tensor:
    """Write one logit z as the logits 0 and z, whose softmax is 1 - sigmoid(z) and sigmoid(z)."""
    return functional.pad(logits, (0, 0, 0, 0, 1, 0)) if logits.shape[1] == 1 else logits


def _mean_over_pixels(loss: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over images of the weighted mean over pixels; both of shape (N, H, W)."""
    total = weight.sum(dim=(1, 2))
    return ((loss * weight).sum(dim=(1, 2)) / total.where(total > 0, 1)).mean()


def _weights(values: Sequence[float], length: int | None = None) -> Tensor:
    if any(value <= 0 for value in values) or length not in (None, len(values)):
        raise ValueError(
            f"loss.class_weights={list(values)} must hold "
            f"{'one' if length is None else length} positive "
            f"{'number per class' if length is None else 'numbers'}"
        )
    return torch.tensor([float(value) for value in values])


def _weights_for(class_weights: Tensor, num_classes: int) -> Tensor:
    if len(class_weights) not in (0, num_classes):
        raise ValueError(
            f"loss.class_weights={class_weights.tolist()} must hold {num_classes} numbers, one "
            "per class"
        )
    return class_weights if len(class_weights) else class_weights.new_ones(num_classes)
