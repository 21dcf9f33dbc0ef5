"""Measure augmentation: whole batches at once against torchvision, image by image, interleaved.

The recipe is that of ``augment=upright``: turn, move and scale, brightness and contrast. Both get
the same decoded images and end with a normalised batch. The ratio is of medians over rounds.

    python benchmarks/augmentation.py [--size 256] [--batch 8] [--rounds 9] [--threads 2]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image, Mask

from liverseg.data.augmentation import Affine, BatchAugment, Jitter

_MOVES = {"degrees": 10, "translate": [0.05, 0.05], "scale": [0.85, 1.15]}
_LIGHT = {"brightness": 0.2, "contrast": 0.2}


def normalize(image: Tensor) -> Tensor:
    """Return what a network would take."""
    return (image - 0.5) / 0.5


def of_batches(image: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    """Return what augments a batch at once."""
    transforms = {"move": Affine(**_MOVES), "intensity": Jitter(**_LIGHT)}
    augment = BatchAugment(transforms, normalize=normalize, seed=0)
    count = len(image)
    batch = {
        **{"image": image, "mask": mask, "index": torch.arange(count)},
        **{"epoch": torch.zeros(count, dtype=torch.int64)},
        "sizes": torch.tensor([mask.shape[1:]] * count),
    }
    return lambda: augment(augment.draw(batch))["image"]


def of_samples(image: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    """Return what augments image by image, as loaders do."""
    transforms = [v2.RandomAffine(**_MOVES, interpolation=2), v2.ColorJitter(**_LIGHT)]

    def one(number: int) -> Tensor:
        torch.manual_seed(number)
        seen = Image(functional.to_dtype(image[number], torch.float32, scale=True))
        its = Mask(mask[number])
        for transform in transforms:
            seen, its = transform(seen, its)
        return normalize(seen.clamp(0, 1).as_subclass(Tensor))

    return lambda: torch.stack([one(number) for number in range(len(image))])


def main() -> None:
    """Measure, and print images per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("size", 256), ("batch", 8), ("rounds", 9), ("threads", 2), ("repeat", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    image = torch.randint(256, (given.batch, 1, given.size, given.size), dtype=torch.uint8)
    mask = (image[:, 0] > 200).to(torch.uint8)
    ways = {"image by image": of_samples(image, mask), "whole batches": of_batches(image, mask)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds + 1):  # the first one warms up
        for name, run in ways.items():
            begun = time.perf_counter()
            for _ in range(given.repeat):
                run()
            if number:
                taken = time.perf_counter() - begun
                speeds[name].append(given.repeat * given.batch / taken)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in medians.items():
        sys.stdout.write(f"{name:15} {found:7.0f} images/s of {given.size} x {given.size}\n")
    ratio = medians["whole batches"] / medians["image by image"]
    sys.stdout.write(f"ratio           {ratio:7.2f}\n")


if __name__ == "__main__":
    main()
