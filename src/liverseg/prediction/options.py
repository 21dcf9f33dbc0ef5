"""What may be chosen when a network is put to use, under the names of ``configs/prediction``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Flip = Literal["horizontal", "vertical"]


@dataclass(frozen=True)
class Options:
    """How logits are found and become classes; None is as in training.

    Attributes:
        threshold: With one logit, a pixel is foreground where its probability exceeds this.
        flips: Views of an image that vote besides the image itself.
        min_pixels: Smaller components of a class are removed: one number, or one by class.
        largest_component: Of which classes only the largest component stays; True for all.
        fill_holes: Of which classes holes are filled; True for all.
        tile_size: Larger images are computed in tiles of about this many pixels.
    """

    threshold: float | None = None
    flips: Sequence[Flip] | None = None
    min_pixels: int | Mapping[str, int] | None = None
    largest_component: bool | Sequence[str] | None = None
    fill_holes: bool | Sequence[str] | None = None
    tile_size: int | None = None
