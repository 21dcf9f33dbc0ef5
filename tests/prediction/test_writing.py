import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from liverseg.data import MaskReader
from liverseg.pictures import class_colour
from liverseg.prediction import (
    Found,
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
    images = [save(tmp_path / "a.png")]
    write(writer_for(images, tmp_path / "out", num_classes=1), PREDICTION)
    without = (tmp_path / "out" / "a_picture.png").read_bytes()
    truth.save(tmp_path / "a_mask.png")
    write(writer_for(images, tmp_path / "out", num_classes=1), PREDICTION)
    assert (tmp_path / "out" / "a_picture.png").read_bytes() == without
    assert "left out of the picture: " in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize("place", ["a_seg.tif", "../masks/a.png", "../masks/a_seg.png"])
def test_the_truth_of_a_picture_is_found_as_pairs_are(place: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    if "masks" in place:
        (tmp_path / "masks").mkdir()
    image = save(tmp_path / "images" / "a.png")
    size = picture_of(image, tmp_path / "without").size
    Image.new("L", (6, 4)).save(tmp_path / "images" / place)
    assert picture_of(image, tmp_path / "with").width > size[0]  # truth and errors too


def picture_of(image: Path, folder: Path) -> Image.Image:
    predictor = predictor_for(nn.Identity())
    writer = PredictionWriter(
        folder=folder, images=[image], predictor=predictor, mask_suffix="_seg"
    )
    write(writer, PREDICTION)
    with Image.open(folder / "a_picture.png") as picture:
        picture.load()
    return picture


def test_a_picture_of_a_very_large_image_shows_each_row_that_is_predicted(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", size=(4, 4104))
    prediction = torch.zeros(1, 4104, 4, dtype=torch.uint8)
    prediction[0, 2053] = 1  # of the image every second row is drawn
    predictor = predictor_for(nn.Identity())
    picture = PredictionWriter(folder=tmp_path, images=[image], predictor=predictor)._draw(
        image, prediction[0], "a"
    )
    yellow = torch.tensor(class_colour(1), dtype=torch.uint8)[:, None, None]
    found = (picture == yellow).all(dim=0).any(dim=1).nonzero()[:, 0]
    assert (found < 2048).sum() == 1  # all others are the legend's


def test_pictures_and_probabilities_are_written_by_choice(tmp_path: Path) -> None:
    images = [save(tmp_path / "a.png")]
    probability = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6)
    for kind, content in {
        None: None,
        "png": np.rint(probability * 65535).astype(np.uint16),
        "npy": probability,
    }.items():
        folder = tmp_path / str(kind)
        writer = PredictionWriter(
            folder=folder,
            images=images,
            predictor=predictor_for(nn.Identity()),
            pictures=False,
            probabilities=kind,
        )
        write(writer, PREDICTION, content)
        names = {"a_prediction.png"} | ({f"a_probability.{kind}"} if kind else set())
        assert {file.name for file in folder.iterdir()} == names
    with Image.open(tmp_path / "png" / "a_probability.png") as written:
        assert written.mode == "I;16"
        assert np.abs(np.asarray(written) / 65535 - probability[0]).max() < 1e-5
    assert (np.load(tmp_path / "npy" / "a_probability.npy") == probability).all()
    assert find_images(tmp_path / "png" / "..") == [tmp_path / "png" / ".." / "a.png"]
    with pytest.raises(ValueError, match="holds no image"):  # all are a prediction's
        find_images(tmp_path / "png")


def test_each_scored_class_has_a_picture_of_its_probability(tmp_path: Path) -> None:
    predictor = predictor_for(nn.Identity(), num_classes=3, class_names=["liver", "left/kidney"])
    writer = PredictionWriter(
        folder=tmp_path / "out",
        images=[save(tmp_path / "a.png")],
        predictor=predictor,
        pictures=False,
        probabilities="png",
    )
    planes = np.arange(3 * 24, dtype=np.uint16).reshape(3, 4, 6)
    write(writer, PREDICTION, planes)
    for place, name in ((1, "liver"), (2, "left-kidney")):
        with Image.open(tmp_path / "out" / f"a_probability_{name}.png") as written:
            assert (np.asarray(written) == planes[place]).all()
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_name_that_is_too_long_for_the_files_is_named(tmp_path: Path) -> None:
    image = save(tmp_path / f"{'n' * 245}.png")
    writer = writer_for([image], tmp_path / "out", num_classes=1)
    task = PredictionTask(predictor_for(nn.Identity()), ImageDataset([image], predictor_for()))
    found = [Found(0, PREDICTION[0], None)]
    writer.on_predict_batch_end(None, task, found, {}, 0)  # type: ignore[arg-type]
    assert task.refused[image].endswith("_prediction.png is too long a name")
    assert list((tmp_path / "out").iterdir()) == []


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


def write(writer: PredictionWriter, prediction: torch.Tensor, probabilities: Any = None) -> None:
    found = [Found(0, prediction[0], probabilities)]
    writer.on_predict_batch_end(None, None, found, {}, 0)  # type: ignore[arg-type]


def predictor_for(
    net: nn.Module | None = None, class_names: Sequence[str] = ("liver",), **settings: Any
) -> Predictor:
    readers = {"num_classes": 1, **settings}
    return Predictor(
        [Voter(net or nn.Identity(), lambda image: image)],
        channels=1,
        image_size=None,
        white_value=None,
        num_classes=readers["num_classes"],
        class_names=class_names,
        mask_reader=MaskReader(**readers),
    )


def writer_for(images: list[Path], folder: Path, **settings: Any) -> PredictionWriter:
    predictor = predictor_for(nn.Identity(), **settings)
    return PredictionWriter(folder=folder, images=images, predictor=predictor)
