"""What may be chosen when a network is put to use, under the names of ``configs/prediction``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Flip = Literal["horizontal", "vertical"]
Threshold = Annotated[float, Field(gt=0, lt=1)]
_Count = Annotated[int, Field(ge=0)]
_Pixels = Annotated[
    _Count | Mapping[str, _Count],
    Field(description="a whole number from 0 up, or a mapping of classes to such"),
]
_Classes = Annotated[bool | Sequence[str], Field(description="true, false or a list of classes")]


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

    threshold: Threshold | None = None
    flips: (
        Annotated[Sequence[Flip], Field(description="a list of horizontal and vertical")] | None
    ) = None
    min_pixels: _Pixels | None = None
    largest_component: _Classes | None = None
    fill_holes: _Classes | None = None
    tile_size: Annotated[int, Field(ge=1)] | None = None
