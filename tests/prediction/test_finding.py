import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor, nn

from liverseg.data import MaskReader
from liverseg.network import UNet
from liverseg.prediction import Cleaning, Found, ImageDataset, PredictionTask, Predictor, Voter

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*custom batch sampler", "ignore:.*does not have many workers"
)  # as liverseg.inference ignores them


def predictor_of(net: nn.Module, **settings: Any) -> Predictor:
    given: dict[str, Any] = {"channels": 1, "image_size": None, "num_classes": 1, **settings}
    return Predictor(
        [Voter(net, lambda image: image - 0.5)],
        white_value=None,
        class_names=[f"class_{index}" for index in range(1, max(given["num_classes"], 2))],
        mask_reader=MaskReader(num_classes=given["num_classes"]),
        **given,
    ).eval()


def save(path: Path, value: int = 100, size: tuple[int, int] = (6, 4)) -> Path:
    Image.new("L", size, value).save(path)
    return path


def noise(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(
    predictor: Predictor, images: list[Path], **settings: Any
) -> tuple[list[Found], dict[Path, str], list[int]]:
    """Return what is found, what is refused, and how many images each batch held."""
    task = PredictionTask(predictor, ImageDataset(images, predictor), **settings)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    batches = trainer.predict(task)
    assert batches is not None
    found = sorted((one for batch in batches for one in batch), key=lambda one: one.number)
    return found, task.refused, [len(batch) for batch in batches]


def test_an_image_is_resized_and_keeps_its_own_size_beside(tmp_path: Path) -> None:
    predictor = predictor_of(nn.Identity(), channels=3, image_size=(8, 16))
    dataset = ImageDataset([save(tmp_path / "a.png", value=255)], predictor)
    sample = dataset[0]
    assert sample["image"].shape == (3, 8, 16)
    assert (sample["image"] == 1).all()  # resized, white is 1
    assert (sample["size"], sample["index"], len(dataset)) == ((4, 6), 0, 1)


def test_images_of_8_and_16_bits_are_predicted_alike_in_one_batch(tmp_path: Path) -> None:
    images = [noise(tmp_path / "a.png", (8, 8)), tmp_path / "b.png"]
    deep = np.asarray(Image.open(images[0])).astype(np.uint16) * 257  # the same picture
    Image.fromarray(deep).save(images[1])
    found, _, batches = run(predictor_of(nn.Identity()), images, batch_size=2)
    assert batches == [2]
    assert found[0].classes.equal(found[1].classes)
    assert 0 < found[0].classes.sum() < 64


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_predicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [save(tmp_path / "a.png"), tmp_path / "b.png", save(tmp_path / "c.png")]
    images[1].touch()
    found, refused, _ = run(predictor_of(nn.Identity()), images)
    assert [one.number for one in found] == [0, 2]
    assert list(refused) == [images[1]]
    assert refused[images[1]].startswith(f"{images[1]} cannot be read as an image")
    assert refused[images[1]] in caplog.text


def test_an_image_that_the_network_cannot_take_is_named_and_its_neighbours_are_predicted(
    tmp_path: Path,
) -> None:
    class Picky(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            if bool((image > 0.49).any()):
                raise RuntimeError("Kernel size can't be greater than actual input size")
            return image

    images = [save(tmp_path / f"{value}.png", value) for value in (100, 255, 101)]
    found, refused, _ = run(predictor_of(Picky()), images, batch_size=3)
    assert [one.number for one in found] == [0, 2]
    sentence = "cannot be predicted (Kernel size can't be greater than actual input size)"
    assert refused == {images[1]: f"{images[1]} {sentence}"}


def test_images_that_were_too_many_at_once_are_predicted_after_their_maps_are_gone(
    tmp_path: Path,
) -> None:
    maps: list[weakref.ref[Tensor]] = []

    class Large(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            features = image + 0
            if not maps:
                maps.append(weakref.ref(features))
                raise torch.OutOfMemoryError("CUDA out of memory")
            assert [one() for one in maps] == [None]
            return features

    images = [save(tmp_path / f"{value}.png", value) for value in (100, 101)]
    found, refused, _ = run(predictor_of(Large()), images, batch_size=2)
    assert ([one.number for one in found], refused) == ([0, 1], {})


def test_batches_hold_images_of_one_size_and_change_no_pixel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = [(20, 30), (30, 20), (20, 30), (20, 30), (30, 20)]
    images = [noise(tmp_path / f"{n}.png", size, n) for n, size in enumerate(sizes)]
    for net in (UNet(1, 1, 2, 4, norm="group"), UNet(1, 1, 2, 4, padding="valid", norm="none")):
        predictor = predictor_of(net)
        kept: dict[str, Any] = {"probabilities": np.float32}
        alone, _, _ = run(predictor, images, **kept)
        together, _, counts = run(predictor, images, batch_size=8, **kept)
        assert counts == [2, 3] or counts == [3, 2]
        for one, other in zip(alone, together, strict=True):
            assert one.classes.equal(other.classes)
            assert one.classes.shape == sizes[one.number][::-1]
            assert np.allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_strips_of_a_large_image_are_put_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = UNet(1, 3, depth=2, width=4, norm="none")
    image = noise(tmp_path / "a.png", (700, 1200))
    kept: dict[str, Any] = {"probabilities": np.uint16}
    cleaning = Cleaning(largest_component=[1, 2])
    options = {"num_classes": 3, "cleaning": cleaning}
    (whole,), _, _ = run(predictor_of(net, **options), [image], **kept)
    (tiled,), _, _ = run(predictor_of(net, tile_size=512, **options), [image], **kept)
    assert whole.probabilities is not None
    assert tiled.probabilities is not None
    difference = whole.probabilities.astype(int) - tiled.probabilities.astype(int)
    assert abs(difference).max() <= 1
    assert (whole.classes != tiled.classes).float().mean() < 1e-4  # of equal probabilities
    assert 0 < whole.classes.float().mean() < 2
