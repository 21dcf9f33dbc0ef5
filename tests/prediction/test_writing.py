import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from liverseg.data import MaskReader
from liverseg.prediction import (
    ImageDataset,
    PredictionTask,
    PredictionWriter,
    Predictor,
    Voter,
    find_images,
)

PREDICTION = torch.zeros(1, 4, 6, dtype=torch.uint8)
PREDICTION[0, 0, 0] = 1


def save(path: Path, value: int = 100, size: tuple[int, int] = (6, 4)) -> Path:
    Image.new("L", size, value).save(path)
    return path


def test_an_image_is_resized_and_keeps_its_own_size_beside(tmp_path: Path) -> None:
    images = [save(tmp_path / "a.png", value=255)]
    dataset = ImageDataset(images, predictor_for(nn.Identity(), channels=3, image_size=(8, 16)))
    sample = dataset[0]
    assert sample["image"].shape == (3, 8, 16)
    assert (sample["image"] == 255).all()
    assert (sample["size"], sample["index"], len(dataset)) == ((4, 6), 0, 1)


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({"num_classes": 1}, [0, 255]),
        ({"num_classes": 2}, [0, 255]),
        ({"num_classes": 2, "ignore_index": 255}, [0, 1]),
        ({"num_classes": 1, "mask_threshold": 128}, [0, 255]),
        ({"num_classes": 1, "mask_values": [7, [9, 11]]}, [7, 9]),
        ({"num_classes": 3}, [0, 1, 2]),
        ({"num_classes": 3, "mask_values": [0, 63, 126]}, [0, 63, 126]),
        ({"num_classes": 3, "mask_values": [0, 1000, 40000]}, [0, 1000, 40000]),
    ],
)
def test_a_mask_is_written_in_the_values_that_masks_of_the_data_set_have(
    settings: dict[str, Any], stored: list[int], tmp_path: Path
) -> None:
    prediction = torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6) % len(stored)
    writer = writer_for([save(tmp_path / "a.png")], tmp_path / "out", **settings)
    write(writer, prediction)
    with Image.open(tmp_path / "out" / "a_prediction.png") as written:
        assert [written.getpixel((place, 0)) for place in range(len(stored))] == stored
    again = MaskReader(**settings).read(tmp_path / "out" / "a_prediction.png")
    assert again.equal(prediction[0])


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (Image.new("L", (3, 3)), "a_mask.png differs in size from its image"),
        (Image.new("RGB", (6, 4), (255, 0, 0)), "a_mask.png is a coloured mask (RGB)"),
        (Image.linear_gradient("L").resize((6, 4)), "a_mask.png holds undeclared values"),
    ],
)
def test_a_truth_of_no_use_is_left_out_of_the_picture_with_a_word(
    truth: Image.Image, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = writer_for([save(tmp_path / "a.png")], tmp_path / "out", num_classes=1)
    write(writer, PREDICTION)
    without = (tmp_path / "out" / "a_picture.png").read_bytes()
    truth.save(tmp_path / "a_mask.png")
    write(writer, PREDICTION)
    assert (tmp_path / "out" / "a_picture.png").read_bytes() == without
    assert "left out of the picture: " in caplog.text
    assert reason in caplog.text


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_predicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [save(tmp_path / "a.png"), tmp_path / "b.png", save(tmp_path / "c.png")]
    images[1].touch()
    predictor = task_for(images, nn.Identity())
    predicted = [
        predictor.predict_step(batch, 0)
        for batch in DataLoader(ImageDataset(images, predictor.predictor))
    ]
    assert [one is None for one in predicted] == [False, True, False]
    assert list(predictor.refused) == [images[1]]
    assert predictor.refused[images[1]].startswith(f"{images[1]} cannot be read as an image")
    assert predictor.refused[images[1]] in caplog.text


def test_an_image_that_the_network_cannot_take_is_named(tmp_path: Path) -> None:
    class Picky(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("Kernel size can't be greater than actual input size")

    image = save(tmp_path / "a.png")
    predictor = task_for([image], Picky())
    batch = next(iter(DataLoader(ImageDataset([image], predictor.predictor))))
    assert predictor.predict_step(batch, 0) is None
    sentence = f"{image} cannot be predicted (Kernel size can't be greater than actual input size)"
    assert predictor.refused == {image: sentence}


def test_a_name_that_is_too_long_for_the_files_is_named(tmp_path: Path) -> None:
    image = save(tmp_path / f"{'n' * 245}.png")
    writer = writer_for([image], tmp_path / "out", num_classes=1)
    predictor = task_for([image], nn.Identity())
    batch = {"index": torch.tensor([0])}
    writer.on_predict_batch_end(None, predictor, PREDICTION, batch, 0)  # type: ignore[arg-type]
    assert predictor.refused[image].endswith("_prediction.png is too long a name")


def test_what_was_written_is_known_again_and_a_file_of_ones_own_is_not_replaced(
    tmp_path: Path,
) -> None:
    images = [save(tmp_path / "a.png"), save(tmp_path / "b.png")]
    for _ in range(2):
        writer = writer_for(find_images(tmp_path), tmp_path, num_classes=1)
        write(writer, PREDICTION)
        assert find_images(tmp_path) == images
    save(tmp_path / "b_picture.png")
    assert find_images(tmp_path) == [*images, tmp_path / "b_picture.png"]
    sentence = f"{tmp_path}/b_picture.png exists and was not written by predict.py; choose another"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)} output_dir$"):
        writer_for(images, tmp_path, num_classes=1)


def write(writer: PredictionWriter, prediction: torch.Tensor) -> None:
    batch = {"index": torch.tensor([0])}
    writer.on_predict_batch_end(None, None, prediction, batch, 0)  # type: ignore[arg-type]


def predictor_for(net: nn.Module, **settings: Any) -> Predictor:
    readers = {"num_classes": 1, **settings}
    return Predictor(
        [Voter(net, lambda image: image)],
        channels=readers.pop("channels", 1),
        image_size=readers.pop("image_size", None),
        white_value=None,
        num_classes=readers["num_classes"],
        class_names=["liver"],
        mask_reader=MaskReader(**readers),
    )


def task_for(images: list[Path], net: nn.Module) -> PredictionTask:
    predictor = predictor_for(net)
    return PredictionTask(predictor, ImageDataset(images, predictor))


def writer_for(images: list[Path], folder: Path, **settings: Any) -> PredictionWriter:
    predictor = predictor_for(nn.Identity(), **settings)
    dataset = ImageDataset(images, predictor)
    return PredictionWriter(folder=folder, dataset=dataset, predictor=predictor)
