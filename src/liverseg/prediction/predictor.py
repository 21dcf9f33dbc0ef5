"""From an image to a prediction: one network, or several whose probabilities are averaged."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from liverseg.data import FolderStacks, MaskReader, read_image, read_stack, resize_image
from liverseg.network import logits_one_by_one, rectangle_logits, strips_of_logits, trims
from liverseg.prediction.cleaning import Cleaning
from liverseg.prediction.options import Flip
from liverseg.scores import class_probabilities, predict_classes

_AXES = {"horizontal": (-1,), "vertical": (-2,)}


class Prediction(NamedTuple):
    """What a :class:`Predictor` finds in images."""

    probabilities: Tensor  # float32 (N, K, H, W); K = 1 is that of foreground
    classes: Tensor  # uint8 (N, H, W), class indices


class Voter(NamedTuple):
    """A network that takes part, and what its images are mapped to before it sees them."""

    net: nn.Module  # (N, C, h, w), normalised, to logits (N, K, h', w')
    normalize: Callable[[Tensor], Tensor]  # (N, C, h, w) in [0, 1], on any device


class Predictor(nn.Module):
    """Maps images to logits, probabilities and classes, whichever networks are behind it.

    This is the one way from an image to a prediction: what scores, writes files, fills volumes or
    answers a page goes through it, so that all of them find the same. From files on::

        predictor = load_predictor("RUN/checkpoints/best.ckpt")  # liverseg.inference
        image = predictor.read(Path("a.png"))  # (C, H, W), uint8 or float32 in [0, 1]
        found = predictor.predict(image[None])  # at the size of the image

    Images that are *prepared* have the size that the networks see, and numbers as they were read;
    :meth:`prepare` gives them. They are normalised piece by piece, on the device that they are on,
    which has to be that of the networks.

    Several networks, and several views of an image, vote: their probabilities are averaged. What
    :meth:`forward` returns then are the logits of that mean (its log odds, or its logarithm for
    several classes), so that losses and scores take them like those of one network. One network
    with one view gives its own logits, bit for bit.

    Args:
        voters: The networks; all give ``num_classes`` logits.
        channels: Channels of the image.
        image_size: Height and width that images are resized to for the networks; None keeps each
            image's own.
        white_value: What is white in images of 16 bits, see :func:`~liverseg.data.read_image`.
        num_classes: 1 for foreground against background, N for classes 0 ... N - 1.
        class_names: Names of the scored classes.
        mask_reader: Knows the values that masks of the data set have.
        threshold: With one logit, a pixel is foreground where its probability exceeds this.
        flips: Views that vote besides the image itself: mirrored left to right (horizontal), top
            to bottom (vertical), and with both also in both ways.
        cleaning: What is removed from the classes, and filled in.
        tile_size: Larger images are computed in squares of about this; None divides those of more
            than 2048 x 2048 pixels, see :mod:`liverseg.network.tiles`.
        stacks: Finds the neighbouring slices that an image is seen with; None takes it alone.
    """

    def __init__(
        self,
        voters: Sequence[Voter],
        *,
        channels: int,
        image_size: tuple[int, int] | None,
        white_value: int | None,
        num_classes: int,
        class_names: Sequence[str],
        mask_reader: MaskReader,
        threshold: float = 0.5,
        flips: Sequence[Flip] = (),
        cleaning: Cleaning | None = None,
        tile_size: int | None = None,
        stacks: FolderStacks | None = None,
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleList(voter.net for voter in voters)
        self.channels = channels
        self.image_size = image_size
        self.white_value = white_value
        self.num_classes = num_classes
        self.class_names = list(class_names)
        self.mask_reader = mask_reader
        self.threshold = threshold
        self.cleaning = cleaning or Cleaning()
        self.tile_size = tile_size
        self.stacks = stacks
        self._normalizers = [voter.normalize for voter in voters]
        self._views: list[tuple[int, ...]] = [()]
        for flip in dict.fromkeys(flips):
            self._views += [(*view, *_AXES[flip]) for view in self._views]

    def read(self, path: Path) -> Tensor:
        """Decode an image file to shape (C, H, W) as the networks' images were, at its own size.

        Raises:
            ValueError: If the file cannot be read, see :func:`~liverseg.data.read_image`.
        """
        if self.stacks is None:
            return read_image(path, self.channels, self.white_value)
        return read_stack(self.stacks.of(path), self.channels, self.white_value)

    def prepare(self, image: Tensor) -> Tensor:
        """Return an image of shape (C, H, W), uint8 or float32 in [0, 1], at the networks' size."""
        return resize_image(image, self.image_size)

    def predict(self, image: Tensor) -> Prediction:
        """Return probabilities and classes at the size of the images.

        Args:
            image: Images of shape (N, C, H, W), uint8 or float32 in [0, 1].
        """
        prepared = torch.stack([self.prepare(one) for one in image])
        with torch.inference_mode():
            logits = self(prepared, size=(image.shape[-2], image.shape[-1]))
            return Prediction(self.probabilities(logits), self.classes(logits))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return float32 logits of shape (N, K, *size) for whole images.

        Args:
            image: Prepared images of shape (N, C, h, w).
            size: Height and width wanted; None is the prepared images' own.
        """
        size = size or (image.shape[-2], image.shape[-1])
        return torch.cat(list(self.strips(image, size)), dim=2)

    def strips(self, image: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """Yield what :meth:`forward` returns in strips of rows, top to bottom.

        Of an image that is too large to hold its logits, one strip after another is used up.
        """
        pads = any(not trims(net, image) for net in self.nets)
        return strips_of_logits(self, self._vote, image, size, pads=pads, tile_size=self.tile_size)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return float32 probabilities of shape (N, K, H, W): of foreground, or of each class."""
        return class_probabilities(logits.float())

    def classes(self, logits: Tensor) -> Tensor:
        """Return class indices, uint8 of shape (N, H, W), as they are scored and written."""
        return self.clean(self.decide(logits))

    def decide(self, logits: Tensor) -> Tensor:
        """Return class indices, uint8 of shape (N, H, W), before anything is removed or filled."""
        return predict_classes(logits, self.threshold)

    def clean(self, classes: Tensor) -> Tensor:
        """Return class indices of (N, H, W), or (N, D, H, W), each of the N cleaned as a whole."""
        return self.cleaning(classes)

    def _vote(self, image: Tensor, rows: slice, columns: slice) -> Tensor:
        """Return the logits of a rectangle."""
        votes = [
            rectangle_logits(
                net, image, rows, columns, partial(self._look, net, normalize, view)
            ).float()
            for net, normalize in zip(self.nets, self._normalizers, strict=True)
            for view in self._views
        ]
        return votes[0] if len(votes) == 1 else _logits_of_mean(votes)

    def _look(
        self,
        net: nn.Module,
        normalize: Callable[[Tensor], Tensor],
        view: tuple[int, ...],
        image: Tensor,
    ) -> Tensor:
        """Return what a network finds in a view of an image, turned back."""
        seen = transforms.to_dtype(image.flip(view) if view else image, torch.float32, scale=True)
        seen = normalize(seen).contiguous(memory_format=torch.channels_last).to(_dtype_of(net))
        logits = logits_one_by_one(net, seen)
        return logits.flip(view) if view else logits


def _dtype_of(net: nn.Module) -> torch.dtype:
    """Return the type in which a network computes."""
    return next((one.dtype for one in net.parameters() if one.is_floating_point()), torch.float32)


def _logits_of_mean(votes: Sequence[Tensor]) -> Tensor:
    """Return the logits of averaged probabilities, without a probability that rounds to 0 or 1."""
    stacked = torch.stack(tuple(votes))  # (votes, N, K, H, W)
    if stacked.shape[2] == 1:
        for_it, against = (functional.logsigmoid(sign * stacked) for sign in (1, -1))
        return for_it.logsumexp(dim=0) - against.logsumexp(dim=0)
    return stacked.log_softmax(dim=2).logsumexp(dim=0) - torch.tensor(float(len(votes))).log()
