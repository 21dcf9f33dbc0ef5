"""An exported file held against the network that it came from, on images of many sizes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from liverseg.prediction import ExportedNetwork

ODD_SIZES = ((1, 1), (2, 3), (17, 130), (101, 257))
BATCHES = (1, 3, 5)
TOLERANCE = 1e-5  # of a probability
_MOST = 1e-3  # likewise, however a network rounds
_LARGEST = 1024  # pixels of a side that are compared
Reference = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
Exact = Callable[[Tensor], Tensor]


@dataclass
class Parity:
    """What a comparison has found."""

    images: int = 0  # compared whole
    crops: int = 0  # batches of odd sizes
    pixels: int = 0
    different: int = 0  # pixels of another class
    probability: float = 0.0  # the largest difference
    rounding: float = 0.0  # of the network itself, where it is looked at
    refused: int = 0  # sizes that the network itself does not take

    def sentence(self) -> str:
        """Return the finding in words."""
        same = "all equal" if not self.different else f"{self.different} not, each of them a tie"
        rounding = (
            f" (float32 itself rounds those of the checkpoint by {self.rounding:.0e})"
            if self.rounding
            else ""
        )
        refused = f"; {self.refused} sizes are refused by the network itself" * bool(self.refused)
        return (
            f"{self.images} images and {self.crops} batches of odd sizes, {self.pixels:,} pixels: "
            f"classes {same}, probabilities within {self.probability:.0e}{rounding}{refused}"
        )


def compare(
    exported: ExportedNetwork,
    reference: Reference,
    images: Iterable[Tensor],
    exact: Exact | None = None,
) -> Parity:
    """Hold an exported file against its network.

    Args:
        exported: The file.
        reference: Returns classes, probabilities and logits of a batch of images in [0, 1].
        images: Images in [0, 1] of shape (C, H, W). The middle of each is compared; from the first
            ones, batches of odd sizes are cut, see :data:`ODD_SIZES` and :data:`BATCHES`.
        exact: Returns probabilities in float64. A deep network with many norms rounds by more than
            the tolerance: then the file may differ by twice as much as the network does from these.

    Raises:
        ValueError: If a probability differs by more than :data:`TOLERANCE`, and by more than
            rounding explains. A class can then differ only where it is a tie.
    """
    found = Parity()
    first: list[Tensor] = []
    for image in images:
        height, width = (min(side, _LARGEST) for side in image.shape[-2:])
        _compare(exported, reference, _cut(image, height, width)[None], found, exact)
        found.images += 1
        first = [*first, image][: max(BATCHES)]
    for batch in _crops(first):
        _compare(exported, reference, batch, found, exact)
        found.crops += 1
    return found


def made_up(channels: int, count: int = 4, side: int = 96) -> list[Tensor]:
    """Return smooth noise in 8 bits, float32 in [0, 1], where there are no images to compare on."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 7, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side + 8), mode="bilinear")
    return list((smooth * 255).round() / 255)


def _crops(images: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield batches of every odd size, images being repeated where they are too small."""
    for height, width in ODD_SIZES:
        for count in BATCHES:
            yield torch.stack(
                [_cut(images[place % len(images)], height, width) for place in range(count)]
            )


def _cut(image: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of an image, which is continued by itself."""
    rows = (torch.arange(height) + (image.shape[-2] - height) // 2) % image.shape[-2]
    columns = (torch.arange(width) + (image.shape[-1] - width) // 2) % image.shape[-1]
    return image[:, rows][:, :, columns]


def _compare(
    exported: ExportedNetwork,
    reference: Reference,
    batch: Tensor,
    found: Parity,
    exact: Exact | None,
) -> None:
    try:
        with torch.inference_mode():
            classes, probabilities, logits = reference(batch)
    except ValueError:  # a norm that would see one value, say
        found.refused += 1
        return
    given = exported.outputs(batch)
    size = " x ".join(map(str, batch.shape))
    if given["logits"].shape != logits.shape or given["classes"].shape != classes.shape:
        raise ValueError(f"the exported file gives other sizes than the checkpoint for {size}")
    apart = float((given["probabilities"] - probabilities).abs().max())
    tolerance = TOLERANCE
    if apart > TOLERANCE and exact is not None:
        found.rounding = max(
            found.rounding, float((exact(batch) - probabilities.double()).abs().max())
        )
        tolerance = max(TOLERANCE, min(2 * found.rounding, _MOST))
    if not apart <= tolerance:  # nor a number at all
        raise ValueError(
            f"the exported file gives probabilities that differ by {apart:.1e} from those of the "
            f"checkpoint, more than {tolerance:.0e}, on an image of {size}; it is not kept"
        )
    found.pixels += classes.numel()
    found.different += int((given["classes"] != classes).sum())
    found.probability = max(found.probability, apart)
