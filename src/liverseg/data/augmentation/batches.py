"""A whole batch at once: all geometry in one resampling, then intensities, then normalisation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import to_dtype

from liverseg.data.augmentation.draws import Draws
from liverseg.data.augmentation.geometry import CropToForeground, Elastic, Flip, Geometry
from liverseg.data.augmentation.intensity import Intensity
from liverseg.labels import IGNORED

Drawn = dict[str, dict[str, Tensor]]
_DRAWN, _MOVED, _IS_WHOLE = "drawn", "moved", "is_whole"  # keys of a batch until it is augmented


def is_for_batches(transform: nn.Module) -> bool:
    """Tell whether a transform is one of this package, which take whole batches."""
    return isinstance(transform, Geometry | Intensity)


class BatchAugment:
    """Augments batches of images in [0, 1] and masks.

    What a sample gets is drawn from (seed, epoch, index, name of the transform), on the CPU, before
    the batch travels; applied it is where the batch is. Moves come first, whatever the order of the
    names; intensities follow in that order.

    Args:
        transforms: By name, all of this package.
        normalize: Maps images in [0, 1], of shape (N, C, H, W), to what the network takes.
        seed: Seed of the draws.
        outside: What a mask holds where a move shows what lies outside of the sample.
        slices: How many slices an image stacks as channels, see :mod:`liverseg.data.slices`.
    """

    def __init__(
        self,
        transforms: Mapping[str, nn.Module],
        *,
        normalize: Callable[[Tensor], Tensor],
        seed: int,
        outside: int = 0,
        slices: int = 1,
    ) -> None:
        moves = {key: one for key, one in transforms.items() if isinstance(one, Geometry)}
        # What looks at the mask sees it as it was: the others move what is cropped.
        self._moves = dict(
            sorted(moves.items(), key=lambda item: not isinstance(item[1], CropToForeground))
        )
        self._intensities = {
            key: one for key, one in transforms.items() if isinstance(one, Intensity)
        }
        for intensity in self._intensities.values():
            intensity.slices = slices
        self._normalize = normalize
        self._seed = seed
        self._outside = outside

    def draw(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add to a batch on the CPU what is drawn for it: see :class:`Draws`.

        Args:
            batch: ``index`` and ``epoch``, integers of shape (N,), among others.
        """
        draws = Draws(self._seed, batch["epoch"], batch["index"])
        transforms: dict[str, Geometry | Intensity] = {**self._moves, **self._intensities}
        drawn = {name: one.draw(draws.of(name)) for name, one in transforms.items()}
        moved = torch.zeros(len(draws), dtype=torch.bool)
        for name in self._moves:
            moved |= drawn[name]["on"]
        is_whole = bool((batch["sizes"] == torch.tensor(batch["mask"].shape[1:])).all())
        return {**batch, _DRAWN: drawn, _MOVED: moved.nonzero().squeeze(1), _IS_WHOLE: is_whole}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Apply to a batch what was drawn for it.

        Args:
            batch: ``image``, uint8 or float32 in [0, 1], of shape (N, C, H, W), ``mask``, uint8 (N,
                H, W), and ``sizes``, integers (N, 2): smaller samples lie upper left, the rest of
                their mask being IGNORED.
        """
        batch = dict(batch)
        drawn: Drawn = batch.pop(_DRAWN)
        moved, is_whole = batch.pop(_MOVED), batch.pop(_IS_WHOLE)
        sizes = batch["sizes"].float()
        image, mask = batch["image"], batch["mask"]
        image = to_dtype(image, torch.float32, scale=True)
        with torch.autocast(image.device.type, enabled=False):
            if len(moved):
                image, mask = self._moved(image, mask, drawn, sizes, moved, is_whole)
            is_sample = None
            if not is_whole:
                is_sample = _inside(sizes, mask.shape[1], mask.shape[2])
                image = torch.where(is_sample[:, None], image, 0.0)  # moves have filled the rest
            for name, one in self._intensities.items():
                its = drawn[name]
                which = its["which"]
                if len(which) == len(image):
                    image = one.change(image, its, sizes)
                elif len(which):
                    changed = one.change(image[which], its, sizes[which])
                    image = image.index_copy(0, which, changed)
                if is_sample is not None:
                    image = torch.where(is_sample[:, None], image, 0.0)
            image = self._normalize(image)
        if is_sample is not None:
            image = torch.where(is_sample[:, None], image, 0.0)
            mask = torch.where(is_sample, mask, IGNORED)
        return {**batch, "image": image, "mask": mask}

    def _moved(
        self,
        image: Tensor,
        mask: Tensor,
        drawn: Drawn,
        sizes: Tensor,
        moved: Tensor,
        is_whole: bool,
    ) -> tuple[Tensor, Tensor]:
        """Move pixels of some samples."""
        if is_whole and all(isinstance(one, Flip) for one in self._moves.values()):
            return self._mirrored(image, mask, drawn)
        is_some = len(moved) < len(image)
        some, its_mask, its_size = image, mask, sizes
        if is_some:
            some, its_mask, its_size = image[moved], mask[moved], sizes[moved]
        last_row = torch.eye(3, device=image.device)[2:].expand(len(some), 1, 3)
        middle = its_size.flip(1)[..., None, None] / 2  # (n, 2, 1, 1), x first
        height, width = mask.shape[1:]
        x = torch.arange(width, device=image.device).view(1, 1, -1) + 0.5 - middle[:, 0]
        y = torch.arange(height, device=image.device).view(1, -1, 1) + 0.5 - middle[:, 1]
        matrix: Tensor | None = None
        for name, one in self._moves.items():
            its = {key: value[moved] if is_some else value for key, value in drawn[name].items()}
            if (found := one.matrix(its, its_mask, its_size)) is not None:
                found = torch.cat([found, last_row], dim=1)
                matrix = found if matrix is None else _product(matrix, found)
            if isinstance(one, Elastic):
                whole = torch.broadcast_tensors(x / middle[:, 0], y / middle[:, 1])
                field = one.field(its, torch.stack(whole, dim=-1))
                x, y = x + 2 * middle[:, 0] * field[:, 0], y + 2 * middle[:, 1] * field[:, 1]
        if matrix is not None:
            # Written out, lest rounding depend on the size of the batch.
            a, b, c, d, e, f = matrix[:, :2, :, None, None].flatten(1, 2).unbind(dim=1)
            x, y = a * x + (b * y + c), d * x + (e * y + f)
        grid = torch.stack(torch.broadcast_tensors(x / middle[:, 0], y / middle[:, 1]), dim=-1)
        some, its_mask = self._resampled(some, its_mask, grid, its_size, is_whole)
        if not is_some:
            return some, its_mask
        return image.index_copy(0, moved, some), mask.index_copy(0, moved, its_mask)

    def _mirrored(self, image: Tensor, mask: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Mirror samples, which needs no interpolation."""
        for name, one in self._moves.items():
            axis = -1 if isinstance(one, Flip) and one.axis == "horizontal" else -2
            on = drawn[name]["on"].view(-1, 1, 1)
            image = torch.where(on[:, None], image.flip(axis), image)
            mask = torch.where(on, mask.flip(axis), mask)
        return image, mask

    def _resampled(
        self, image: Tensor, mask: Tensor, grid: Tensor, sizes: Tensor, is_whole: bool
    ) -> tuple[Tensor, Tensor]:
        """Take each pixel of the result from a place: bilinear, and the nearest in the mask.

        Args:
            image: Samples, float32 (n, C, H, W).
            mask: Their masks, uint8 (n, H, W).
            grid: Places in the samples, (n, H, W, 2): -1 and 1 are their edges; x first.
            sizes: Heights and widths of the samples, (n, 2).
            is_whole: Whether all samples fill the batch.
        """
        is_inside = torch.maximum(grid[..., 0].abs(), grid[..., 1].abs()) < 1
        if not is_whole:
            # Between the middles of the outermost pixels and the edge, as at these middles.
            sides = sizes.flip(1)[:, None, None]
            part = torch.stack(
                [sides[..., 0] / mask.shape[2], sides[..., 1] / mask.shape[1]], dim=-1
            )
            grid = grid.clamp(min=-1).maximum(1 / sides - 1).minimum(1 - 1 / sides)
            grid = grid * part + (part - 1)
        moved, its = (
            functional.grid_sample(values, grid, mode, "border", align_corners=False)
            for values, mode in ((image, "bilinear"), (mask[:, None].float(), "nearest"))
        )
        return (
            torch.where(is_inside[:, None], moved, 0.0),
            torch.where(is_inside, its[:, 0].to(mask.dtype), self._outside),
        )


def _inside(sizes: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels of a batch are those of a sample, bool (N, H, W)."""
    rows = torch.arange(height, device=sizes.device).view(1, -1, 1)
    columns = torch.arange(width, device=sizes.device).view(1, 1, -1)
    return (rows < sizes[:, 0].view(-1, 1, 1)) & (columns < sizes[:, 1].view(-1, 1, 1))


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Return products of matrices (N, 3, 3), summed in one order whatever N is."""
    return (first[:, :, :, None] * second[:, None]).sum(dim=2)
