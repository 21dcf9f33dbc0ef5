"""Measure how far a single window of intensities gets on the phantom: it must not be far.

A window [low, high] marks every pixel between two grey values as liver. The best one is chosen on
the very split it is scored on, by pooled Dice: once as it is (all windows are tried), and once with
only the largest connected component of each slice kept (a grid of windows is tried, then all around
the best one in ever smaller steps). Exits with 1 if the latter reaches 0.6.

    python benchmarks/phantom_window.py [--root data/phantom] [--split test]
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

from liverseg.data import SPLITS, write_phantom

LIMIT = 0.6
NUM_GREYS = 256


def read_split(folder: Path) -> tuple[Tensor, Tensor]:
    """Return all images (uint8) and masks (bool) of a split, both (N, H, W)."""
    mask_paths = sorted(folder.glob("*_mask.png"))
    images = [read_png(path.with_name(path.name.replace("_mask", ""))) for path in mask_paths]
    return torch.stack(images), torch.stack([read_png(path) for path in mask_paths]) > 0


def read_png(path: Path) -> Tensor:
    """Return the grey values of a file, uint8 of shape (H, W)."""
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
    """Return how many pixels every window (low, high) holds."""
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


def dice_of_component(images: Tensor, masks: Tensor, window: tuple[int, int]) -> float:
    """Return the pooled Dice of a window when only largest components are kept."""
    low, high = window
    prediction = largest_components((images >= low) & (images <= high))
    both = (prediction & masks).sum().item()
    return 2 * both / max(1, prediction.sum().item() + masks.sum().item())


def best_component_window(images: Tensor, masks: Tensor) -> tuple[tuple[int, int], float]:
    """Return the window with the best Dice of largest components, and that Dice."""
    step = 16
    windows = [(low, high) for low in range(0, 256, step) for high in range(low + 15, 256, step)]
    scores = {window: dice_of_component(images, masks, window) for window in windows}
    best = max(scores, key=scores.__getitem__)
    while step > 1:
        step //= 2
        centre = None
        while centre != best:
            centre = best
            for low in range(centre[0] - step, centre[0] + step + 1, step):
                for high in range(centre[1] - step, centre[1] + step + 1, step):
                    window = (max(low, 0), min(high, NUM_GREYS - 1))
                    if window not in scores:
                        scores[window] = dice_of_component(images, masks, window)
            best = max(scores, key=scores.__getitem__)
    return best, scores[best]


def main() -> int:
    """Print the table; return 1 if the phantom is too easy."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("data/phantom"))
    parser.add_argument("--split", choices=SPLITS, default="test")
    arguments = parser.parse_args()
    if not arguments.root.exists():
        write_phantom(
            arguments.root, num_patients=(24, 6, 6), slices_per_patient=8, image_size=128, seed=0
        )
    images, masks = read_split(arguments.root / arguments.split)
    dice = dice_of_windows(images, masks)
    low, high = divmod(int(dice.argmax()), NUM_GREYS)
    (component_low, component_high), component_dice = best_component_window(images, masks)
    print(f"{arguments.root / arguments.split}: {len(images)} slices")
    print(f"{'prediction':<28}{'best window':>12}{'pooled Dice':>13}")
    window = f"{low}-{high}"
    print(f"{'window':<28}{window:>12}{dice.max().item():>13.3f}")
    window = f"{component_low}-{component_high}"
    print(f"{'window, largest component':<28}{window:>12}{component_dice:>13.3f}")
    if component_dice >= LIMIT:
        print(f"too easy: a window alone must stay under {LIMIT}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
