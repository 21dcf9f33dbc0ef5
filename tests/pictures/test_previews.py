from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from liverseg.data import PairDataModule
from liverseg.pictures import draw_augmentation


def data_of(compose: Any, *typed: str) -> PairDataModule:
    made: PairDataModule = instantiate(compose(list(typed)).data, _convert_="all")
    return made


def test_a_sheet_shows_images_and_draws_of_the_recipe(compose: Any) -> None:
    same, other = (
        np.asarray(draw_augmentation(data_of(compose, augment), num_images=2, num_draws=3))
        for augment in ("augment=none", "augment=strong")
    )
    assert same.shape == other.shape
    width = 192 + 4
    assert (same[20:200, :192] == same[20:200, width : width + 192]).mean() > 0.99
    assert (other[20:200, :192] != other[20:200, width : width + 192]).mean() > 0.05


def test_what_training_sees_is_what_is_drawn(compose: Any, pair_root: Path) -> None:
    data = data_of(compose, "augment=ct", "data.image_size=[16,16]")
    images, masks = data.augmented(2, range(4))
    assert (images.shape, masks.shape) == ((4, 1, 16, 16), (4, 16, 16))
    assert not torch.equal(images[0], images[1])
    again, _ = data.augmented(2, [1])
    assert torch.equal(again[0], images[1])


def test_transforms_of_torchvision_and_ours_go_together(compose: Any) -> None:
    noise = "+data.augment.noise={_target_:torchvision.transforms.v2.GaussianNoise}"
    images, _ = data_of(compose, "augment=ct", noise).augmented(0, range(6))
    assert 0 <= images.min() <= images.max() <= 1
    assert len({str(one.tolist()) for one in images}) == 6
