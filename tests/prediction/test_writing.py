from pathlib import Path

import pytest
import torch
from PIL import Image

from liverseg.data.pairs import MaskReader
from liverseg.prediction.writing import ImageDataset, PredictionWriter, find_images


def save(path: Path, value: int = 100, size: tuple[int, int] = (6, 4)) -> Path:
    Image.new("L", size, value).save(path)
    return path


def test_a_folder_gives_its_images_without_masks_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "a_mask.png", ".hidden.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.png"]


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_images(save(tmp_path / "scan.tif")) == [tmp_path / "scan.tif"]


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^source=.*none does not exist; name an image or"):
        find_images(tmp_path / "none")


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no image")
    with pytest.raises(ValueError, match=r"^source=.*notes\.md is no image that can be read; name"):
        find_images(tmp_path / "notes.md")


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^source=.* holds no \.png image; name an image or"):
        find_images(tmp_path)


def test_an_image_is_resized_and_normalised_and_keeps_its_own_size_beside(tmp_path: Path) -> None:
    dataset = ImageDataset(
        [save(tmp_path / "a.png", value=255)],
        channels=3,
        image_size=(8, 16),
        normalize=lambda image: image * 2,
    )
    sample = dataset[0]
    assert sample["image"].shape == (3, 8, 16)
    assert (sample["image"] == 2).all()
    assert (sample["size"], sample["index"], len(dataset)) == ((4, 6), 0, 1)


@pytest.mark.parametrize(("num_classes", "stored"), [(1, {0, 255}), (2, {0, 255}), (3, {0, 1})])
def test_two_classes_are_written_as_0_and_255_and_more_as_indices(
    num_classes: int, stored: set[int], tmp_path: Path
) -> None:
    writer = writer_for(save(tmp_path / "a.png"), tmp_path / "out", num_classes)
    prediction = torch.zeros(1, 4, 6, dtype=torch.uint8)
    prediction[0, 0, 0] = 1
    writer.on_predict_batch_end(None, None, prediction, {"index": torch.tensor([0])}, 0)
    with Image.open(tmp_path / "out" / "a_prediction.png") as written:
        assert set(written.get_flattened_data()) == stored
        assert written.getpixel((0, 0)) > 0


def test_a_truth_of_another_size_is_refused(tmp_path: Path) -> None:
    writer = writer_for(save(tmp_path / "a.png"), tmp_path / "out", 1)
    save(tmp_path / "a_mask.png", value=0, size=(3, 3))
    prediction = torch.zeros(1, 4, 6, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"a_mask\.png differs in size from its image"):
        writer.on_predict_batch_end(None, None, prediction, {"index": torch.tensor([0])}, 0)


def writer_for(image: Path, folder: Path, num_classes: int) -> PredictionWriter:
    dataset = ImageDataset([image], channels=1, image_size=None, normalize=lambda image: image)
    reader = MaskReader(num_classes=num_classes)
    return PredictionWriter(
        folder=folder,
        dataset=dataset,
        mask_reader=reader,
        num_classes=num_classes,
        class_names=["liver"],
    )
