from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from liverseg.data.augmentation import (
    Affine,
    BatchAugment,
    Blur,
    CropToForeground,
    Elastic,
    Flip,
    Gamma,
    Jitter,
    LowResolution,
    Noise,
    WindowJitter,
)
from liverseg.data.augmentation.draws import Draws, normal_field
from liverseg.labels import IGNORED

ROOT = Path(__file__).parents[3]
GROUPS = sorted(path.stem for path in (ROOT / "configs" / "augment").glob("*.yaml"))
ALL: dict[str, nn.Module] = {
    "flip": Flip(axis="horizontal"),
    "move": Affine(degrees=15, translate=[0.1, 0.1], scale=[0.8, 1.2], chance=0.7),
    "elastic": Elastic(chance=0.5),
    "crop": CropToForeground(chance=0.5),
    "light": Jitter(brightness=0.2, contrast=0.2, saturation=0.2, tint=0.1),
    "window": WindowJitter(chance=0.5),
    "gamma": Gamma(inverted_chance=0.5, chance=0.5),
    "noise": Noise(chance=0.5),
    "blur": Blur(chance=0.5),
    "low": LowResolution(chance=0.5),
}


def batch_of(
    indices: list[int],
    *,
    channels: int = 1,
    sizes: tuple[int, int] = (24, 20),
    canvas: tuple[int, int] | None = None,
    epoch: int = 0,
) -> dict[str, Any]:
    """Return a batch whose samples depend on their indices alone, in the corner of a canvas."""
    rows, columns = canvas or sizes
    images, masks = [], []
    for index in indices:
        random = torch.Generator().manual_seed(index)
        image = torch.zeros(channels, rows, columns, dtype=torch.uint8)
        inside = torch.randint(256, (channels, *sizes), generator=random, dtype=torch.uint8)
        image[:, : sizes[0], : sizes[1]] = inside
        mask = torch.full((rows, columns), IGNORED, dtype=torch.uint8)
        mask[: sizes[0], : sizes[1]] = 0
        mask[3:9, 4 : 8 + index % 5] = 1
        images.append(image)
        masks.append(mask)
    return {
        "image": torch.stack(images),
        "mask": torch.stack(masks),
        "index": torch.tensor(indices),
        "epoch": torch.full((len(indices),), epoch),
        "sizes": torch.tensor([sizes] * len(indices)),
    }


def augmented(
    transforms: dict[str, nn.Module], batch: dict[str, Any], **settings: Any
) -> dict[str, Any]:
    augment = BatchAugment(transforms, **{"normalize": lambda image: image, "seed": 0, **settings})
    return augment(augment.draw(batch))


def only(transform: nn.Module, batch: dict[str, Any], **settings: Any) -> tuple[Tensor, Tensor]:
    found = augmented({"one": transform}, batch, **settings)
    return found["image"], found["mask"]


def test_draws_are_uniform_independent_and_repeat() -> None:
    epochs, indices = torch.arange(100).repeat(100), torch.arange(100).repeat_interleave(100)
    draws = Draws(7, epochs, indices, "a")
    numbers = draws.uniform(0, 20)
    assert abs(numbers.mean() - 0.5) < 0.003
    assert abs(numbers.std() - 12**-0.5) < 0.002
    related = np.corrcoef(np.hstack([numbers, np.roll(numbers, 1, axis=0)]).T)
    assert abs(related - np.eye(40)).max() < 0.05
    assert len(np.unique(numbers)) == numbers.size
    assert np.array_equal(Draws(7, epochs[3:5], indices[3:5], "a").uniform(2, 2), numbers[3:5, 2:4])
    for other in (Draws(8, epochs, indices, "a"), draws.of("b")):
        assert abs(np.corrcoef(other.uniform()[:, 0], numbers[:, 0])[0, 1]) < 0.05


def test_draws_of_one_seed_never_change() -> None:
    draws = Draws(0, torch.tensor([0, 1]), torch.tensor([0, 5]), "flip")
    assert draws.uniform(0, 2).round(6).tolist() == [[0.528406, 0.429235], [0.690802, 0.775508]]


def test_a_field_of_noise_is_normal() -> None:
    keys = Draws(0, torch.zeros(3, dtype=torch.int64), torch.arange(3)).keys()
    field = normal_field(keys, torch.arange(40_000).view(200, 200))
    assert field.shape == (3, 200, 200)
    assert abs(field.mean()) < 0.01
    assert abs(field.std() - 1) < 0.01
    assert abs(field.pow(4).mean() - 3) < 0.1
    assert abs(np.corrcoef(field.flatten(1).numpy()) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("canvas", [(24, 20), (32, 32)])
def test_what_a_sample_gets_depends_on_no_other_one(channels: int, canvas: tuple[int, int]) -> None:
    settings = {"channels": channels, "canvas": canvas, "epoch": 2}
    together = augmented(ALL, batch_of(list(range(12)), **settings))
    for indices in ([3], [11, 0], [5, 4, 3, 2, 1]):
        apart = augmented(ALL, batch_of(indices, **settings))
        for key in ("image", "mask"):
            assert torch.equal(apart[key], together[key][indices])


def test_padding_changes_nothing_but_the_last_bits() -> None:
    alone = augmented(ALL, batch_of([0, 1, 2, 3, 4, 5]))
    padded = augmented(ALL, batch_of([0, 1, 2, 3, 4, 5], canvas=(40, 28)))
    image, mask = padded["image"], padded["mask"]
    torch.testing.assert_close(image[..., :24, :20], alone["image"], rtol=0, atol=0.02)
    assert (mask[..., :24, :20] != alone["mask"]).float().mean() < 0.01
    assert (mask[..., 24:, :] == IGNORED).all()
    assert (mask[..., 20:] == IGNORED).all()
    assert (image[..., 24:, :] == 0).all()


def test_the_mean_that_contrast_is_about_is_that_of_the_sample_alone() -> None:
    transforms = {
        "crop": CropToForeground(part=[0.5, 0.6], chance=1),  # what lies outside is more image
        "contrast": Jitter(contrast=0.9, chance=1),
    }
    alone = augmented(transforms, batch_of([0, 1, 2, 3, 4, 5]))
    padded = augmented(transforms, batch_of([0, 1, 2, 3, 4, 5], canvas=(80, 60)))
    torch.testing.assert_close(padded["image"][..., :24, :20], alone["image"], rtol=0, atol=1e-3)


def test_epochs_and_seeds_and_names_draw_differently() -> None:
    found = [
        augmented(ALL, batch_of([0, 1], epoch=epoch), seed=seed)["image"]
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("group", GROUPS)
def test_shipped_recipes_keep_the_range_and_the_values_of_masks(group: str, compose: Any) -> None:
    transforms = instantiate(compose([f"augment={group}"]).data.augment, _convert_="all")
    for channels in (1, 3, 4):
        before = batch_of(list(range(30)), channels=channels)
        before["mask"][:, 15:17, 3:9] = IGNORED
        after = augmented(transforms, dict(before)) if transforms else None
        if after is None:
            continue
        assert after["image"].dtype == torch.float32
        assert after["mask"].dtype == torch.uint8
        assert 0 <= after["image"].min() <= after["image"].max() <= 1
        assert set(after["mask"].unique().tolist()) <= {0, 1, IGNORED}
        changed = (after["image"] != to_dtype(before["image"], scale=True)).flatten(1).any(dim=1)
        assert changed.any()


def test_a_flip_is_exact_and_moves_image_and_mask_together() -> None:
    before = batch_of([0, 1, 2])
    for axis, dimension in (("horizontal", -1), ("vertical", -2)):
        image, mask = only(Flip(axis=axis, chance=1), dict(before))
        assert torch.equal(image, to_dtype(before["image"].flip(dimension), scale=True))
        assert torch.equal(mask, before["mask"].flip(dimension))


def test_a_flip_of_a_padded_sample_stays_in_its_corner() -> None:
    before = batch_of([0, 1, 2], canvas=(30, 33))
    image, mask = only(Flip(axis="horizontal", chance=1), dict(before))
    expected = before["image"][..., :24, :20].flip(-1) / 255
    torch.testing.assert_close(image[..., :24, :20], expected, rtol=0, atol=1e-4)
    assert torch.equal(mask[..., :24, :20], before["mask"][..., :24, :20].flip(-1))


def test_chances_are_as_declared() -> None:
    before = batch_of(list(range(2000)), sizes=(12, 14))
    image, _ = only(Flip(axis="horizontal", chance=0.25), dict(before))
    share = (image != to_dtype(before["image"], scale=True)).flatten(1).any(dim=1).float().mean()
    assert abs(share - 0.25) < 0.03


def marked(row: int, column: int) -> dict[str, Any]:
    batch = batch_of([0], sizes=(41, 31))
    batch["image"].zero_()
    batch["mask"].zero_()
    batch["image"][..., row - 1 : row + 2, column - 1 : column + 2] = 255
    batch["mask"][..., row - 1 : row + 2, column - 1 : column + 2] = 1
    return batch


def centre(weights: Tensor) -> tuple[float, float]:
    """Return row and column of the middle of what is there."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in weights.shape), indexing="ij")
    total = weights.sum()
    return float((rows * weights).sum() / total), float((columns * weights).sum() / total)


# A mark 10 right of the middle (20, 15) of 41 x 31.
@pytest.mark.parametrize(
    ("angle", "place"), [(90, (30, 15)), (-90, (10, 15)), (180, (20, 5)), (30, (25, 23.66))]
)
def test_a_turn_is_about_the_middle_and_clockwise(
    angle: float, place: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Affine(degrees=180)
    drawn = {"on": torch.tensor([True]), "numbers": torch.tensor([[np.radians(angle), 1, 0, 0]])}
    drawn["numbers"] = drawn["numbers"].float()
    monkeypatch.setattr(turn, "draw", lambda draws: drawn)
    image, mask = only(turn, marked(20, 25))
    assert centre(image[0, 0]) == pytest.approx(place, abs=0.1)
    assert centre(mask[0].float()) == pytest.approx(place, abs=0.4)


def test_scale_and_move_are_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Affine()
    numbers = torch.tensor([[0, 1.5, 0.1, -0.2]])
    monkeypatch.setattr(
        move, "draw", lambda draws: {"on": torch.tensor([1]) > 0, "numbers": numbers}
    )
    image, mask = only(move, marked(20, 17))
    expected = (20 - 0.2 * 41, 15 + 1.5 * 2 + 0.1 * 31)
    assert centre(image[0, 0]) == pytest.approx(expected, abs=0.1)
    assert float(mask.sum()) == pytest.approx(9 * 1.5**2, abs=5)


def test_what_comes_from_outside_is_black_and_background_or_ignored() -> None:
    before = batch_of(list(range(4)))
    before["image"].fill_(255)
    for outside in (0, IGNORED):
        before["mask"].fill_(1)
        small = Affine(scale=[0.5, 0.5])
        image, mask = only(small, dict(before), outside=outside)
        assert image[:, :, 0, 0].max() == 0
        assert set(mask.unique().tolist()) == {1, outside}
        assert float((mask == 1).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_crop_shows_foreground_larger_and_stays_inside() -> None:
    before = batch_of(list(range(200)), sizes=(40, 30))
    before["image"].fill_(255)
    image, mask = only(CropToForeground(part=[0.5, 0.5], chance=1), dict(before))
    assert image.min() > 0.99  # nothing from outside
    assert (mask == 1).flatten(1).any(dim=1).all()
    share_before = (before["mask"] == 1).float().mean()
    assert (mask == 1).float().mean() > 2 * share_before
    before["mask"].zero_()
    image, mask = only(CropToForeground(part=[0.5, 0.5], chance=1), dict(before))
    assert image.min() > 0.99
    assert mask.max() == 0


def test_elastic_bends_by_what_it_says() -> None:
    before = batch_of(list(range(50)), sizes=(64, 64))
    ramp = torch.arange(64, dtype=torch.uint8).expand(50, 1, 64, 64)
    image, _ = only(Elastic(strength=0.03, chance=1), {**before, "image": ramp})
    moved = (image * 255 - ramp)[:, :, 12:52, 12:52]
    assert 0.5 * 0.03 * 64 < moved.std() < 1.1 * 0.03 * 64
    steps = (image * 255).diff(dim=-1)[:, :, 12:52, 12:52]
    assert (steps > 0).float().mean() > 0.95  # it does not fold


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Jitter(), [0.2, 0.4, 0.6, 0.8]),
        (Gamma(gamma=[2, 2], chance=1), [0.04, 0.16, 0.36, 0.64]),
        (Gamma(gamma=[2, 2], inverted_chance=1, chance=1), [0.36, 0.64, 0.84, 0.96]),
        (Noise(std=[0, 0], chance=1), [0.2, 0.4, 0.6, 0.8]),
        (LowResolution(scale=[1, 1], chance=1), [0.2, 0.4, 0.6, 0.8]),
        (LowResolution(scale=[0.5, 0.5], chance=1), [0.4, 0.5, 0.7, 0.8]),
        (Blur(sigma=[0.01, 0.01], chance=1), [0.2, 0.4, 0.6, 0.8]),
        # weights 0.3990, 0.2420, 0.0540, 0.0044 at the distances 0 ... 3: e^(-d^2 / 2) by their sum
        (Blur(sigma=[1, 1], chance=1), [0.2727, 0.4117, 0.5883, 0.7273]),
    ],
    ids=str,
)
def test_worked_intensities(transform: nn.Module, expected: list[float]) -> None:
    before = batch_of([0], sizes=(1, 4))
    before["image"] = torch.tensor([[[[51, 102, 153, 204]]]], dtype=torch.uint8)
    image, mask = only(transform, dict(before))
    assert image.flatten().tolist() == pytest.approx(expected, abs=1e-3)
    assert torch.equal(mask, before["mask"])


def test_noise_is_as_strong_as_drawn_and_a_window_moves_all_values() -> None:
    before = batch_of(list(range(20)), sizes=(64, 64))
    before["image"].fill_(128)
    image, _ = only(Noise(std=[0.05, 0.05], chance=1), dict(before))
    assert (image - 128 / 255).std() == pytest.approx(0.05, rel=0.02)
    image, _ = only(WindowJitter(level=0.1, width=0.2), dict(before))
    means = image.mean(dim=(1, 2, 3))
    assert image.std(dim=(1, 2, 3)).max() < 1e-5
    assert 0.38 < means.min() < means.max() < 0.63
    assert means.std() > 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbouring_slices_are_jittered_as_the_slice_alone(channels: int) -> None:
    alone = batch_of(list(range(8)), channels=channels)
    alone["image"] = alone["image"] // 2 + 64  # nothing is clipped
    stacked = {**alone, "image": alone["image"].repeat(1, 3, 1, 1)}
    jitter = Jitter(brightness=0.1, contrast=0.1, saturation=0.3, tint=0.1)
    wanted, _ = only(jitter, dict(alone))
    found, _ = only(jitter, stacked, slices=3)
    torch.testing.assert_close(found, wanted.repeat(1, 3, 1, 1))
    assert channels == 1 or (wanted - alone["image"] / 255).std(dim=(0, 2, 3)).min() > 0.01


def test_saturation_takes_slices_of_grey_for_no_colours() -> None:
    before = batch_of([0, 1], channels=3)
    image, _ = only(Jitter(saturation=0.9), dict(before), slices=3)
    torch.testing.assert_close(image, before["image"] / 255)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Affine(scale=[2, 1]),
        lambda: Affine(scale=[1, 2, 3]),
        lambda: Gamma(gamma=[-1, 1]),
        lambda: LowResolution(scale=[0.5, 1.5]),
        lambda: CropToForeground(part=[0, 1]),
    ],
)
def test_a_range_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must be two numbers"):
        wrong()
