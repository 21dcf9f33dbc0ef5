import pickle
import re
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor, tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask as MaskTensor

from liverseg.data.transforms import Augment, Normalize


def fixture_mask(pair_root) -> MaskTensor:
    with Image.open(pair_root / "train" / "patient001_slice01_mask.png") as picture:
        mask = v2.functional.pil_to_tensor(picture)[0] // 255
    mask[4:7, 20:31] = 255  # some ignored pixels
    return MaskTensor(mask)


# Normalisation


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (0.5, 0.25, [[-2, 0], [2, -1], [0, 1]]),
        ([0.5], [0.5], [[-1, 0], [1, -0.5], [0, 0.5]]),
        ([0.0, 0.5, 0.25], [1.0, 0.5, 0.25], [[0, 0.5], [1, -0.5], [1, 2]]),
    ],
)
def test_an_image_loses_the_mean_and_is_divided_by_the_deviation(mean, std, expected):
    normalize = Normalize(mean=mean, std=std, channels=3)
    image = tensor([[[0, 0.5]], [[1, 0.25]], [[0.5, 0.75]]])
    normalised = normalize(image)
    assert normalised.tolist() == [[row] for row in expected]
    assert (normalised.dtype, normalised.shape) == (torch.float32, (3, 1, 2))
    assert normalize.undo(normalised).equal(image)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"mean": [0, 0], "std": 1, "channels": 3},
            "data.mean=[0, 0] must be one number, or one per channel (3)",
        ),
        (
            {"mean": 0, "std": [1, 1, 1], "channels": 1},
            "data.std=[1, 1, 1] must be one number, or one per channel (1)",
        ),
        (
            {"mean": [], "std": 1, "channels": 1},
            "data.mean=[] must be one number, or one per channel (1)",
        ),
        ({"mean": 0, "std": 0, "channels": 1}, "data.std=0 must be greater than 0"),
        (
            {"mean": 0, "std": [1, -1, 1], "channels": 3},
            "data.std=[1, -1, 1] must be greater than 0",
        ),
    ],
)
def test_a_wrong_mean_or_deviation_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Normalize(**settings)


# Geometry


@pytest.mark.parametrize(
    "flip", [v2.RandomHorizontalFlip(p=1), v2.RandomVerticalFlip(p=1)], ids=["sideways", "upside"]
)
def test_a_flip_moves_image_and_mask_together(pair_root, flip):
    mask = fixture_mask(pair_root)
    image, moved = Augment({"flip": flip})(ImageTensor(mask[None] / 255), mask)
    assert moved.equal(mask.flip(1 if isinstance(flip, v2.RandomHorizontalFlip) else 0))
    assert not moved.equal(mask)
    assert (image[0] * 255).round().equal(moved.float())


# Intensities


@pytest.mark.parametrize(
    "transform",
    [
        v2.ColorJitter(brightness=(2, 2)),
        v2.GaussianNoise(mean=0.5, clip=False),
        v2.GaussianNoise(mean=-0.5, clip=False),
        v2.GaussianBlur(3),
    ],
    ids=["brightness", "light", "dark", "blur"],
)
def test_changes_of_intensity_stay_in_range_and_leave_the_mask_alone(pair_root, transform):
    mask = fixture_mask(pair_root)
    image = ImageTensor(torch.rand(1, 32, 32))
    changed, same = Augment({"intensity": transform})(image, mask)
    assert not changed.equal(image)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert same.equal(mask)


class Plus(torch.nn.Module):
    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return (image + self.number) / 2, mask


def test_transforms_follow_the_order_of_their_names_and_are_clamped_last():
    first, second = Plus(3.0), Plus(-2.0)
    image, mask = ImageTensor(torch.zeros(1, 1, 1)), MaskTensor(torch.zeros(1, 1))
    assert Augment({"b": first, "a": second})(image, mask)[0].item() == 0  # (1.5 - 2) / 2
    assert Augment({"a": second, "b": first})(image, mask)[0].item() == 1  # (-1 + 3) / 2
    assert Augment({"a": Plus(3.0), "b": Plus(0.0)})(image, mask)[0].item() == 0.75


def test_no_transform_changes_nothing():
    image, mask = ImageTensor(torch.rand(1, 2, 2)), MaskTensor(torch.ones(2, 2))
    same_image, same_mask = Augment({})(image, mask)
    assert same_image.equal(image)
    assert same_mask.equal(mask)


def test_a_transform_that_fails_is_named_with_the_size_that_it_met() -> None:
    augment = Augment({"flip": v2.RandomHorizontalFlip(), "crop": v2.RandomCrop(64)})
    sentence = (
        "data.augment.crop fails on an image of 4 x 6 (Required crop size (64, 64) is larger than "
        "input image size (4, 6)); change it, or leave it out with ~data.augment.crop"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        augment(ImageTensor(torch.zeros(1, 4, 6)), MaskTensor(torch.zeros(4, 6)))


@pytest.mark.parametrize(
    ("transform", "fault"),
    [
        (lambda image, mask: {"image": image, "mask": mask}, "it returns a dict, not image and"),
        (lambda image, mask: None, "it returns a NoneType, not image and mask"),
        (lambda image, mask: (image, mask, 1), "it returns a tuple, not image and mask"),
        (lambda image, mask: (image.numpy(), mask), "it returns the image as ndarray, not as a"),
        (lambda image, mask: (image[0], mask), "it returns the image in shape 4 x 6, for one of"),
        (lambda image, mask: (image, mask[None]), "it returns the mask in shape 1 x 4 x 6, for"),
        (lambda image, mask: (image.byte(), mask), "it returns the image as torch.uint8, not as"),
        (lambda image, mask: (image, mask / 2), "it returns the mask as torch.float32, not as"),
        (lambda image, mask: (image[..., :3], mask), "it returns an image of 1 x 4 x 3 with a"),
        (lambda image, mask: (image / 0, mask), "it returns an image with values that are not"),
        (lambda image, mask: (image, mask * 3), "it returns a mask that holds 3, which is no"),
        (lambda image, mask: (image, mask * 254), "it returns a mask that holds 254, which is no"),
    ],
)
def test_a_result_that_is_not_image_and_mask_is_refused(
    transform: Callable[[Tensor, Tensor], object], fault: str
) -> None:
    mask = MaskTensor(torch.ones(4, 6, dtype=torch.uint8))
    mask[0] = 0
    sentence = (
        rf"^data\.augment\.own fails on an image of 4 x 6 \({re.escape(fault)}.*\); change it"
    )
    with pytest.raises(ValueError, match=sentence):
        Augment({"own": transform}, num_classes=1)(ImageTensor(torch.zeros(1, 4, 6)), mask)


@pytest.mark.parametrize(("num_classes", "last"), [(1, 1), (2, 1), (3, 2), (None, 254)])
def test_all_classes_and_ignored_pixels_may_come_out(num_classes: int | None, last: int) -> None:
    mask = MaskTensor(torch.zeros(4, 6, dtype=torch.uint8))

    def lesion(image: Tensor, mask: Tensor) -> list[Tensor]:
        mask[0], mask[1] = last, 255
        return [image[..., :2, :], mask[:2]]

    augment = Augment({"own": lesion}, num_classes=num_classes)
    _, changed = augment(ImageTensor(torch.zeros(1, 4, 6)), mask)
    assert changed.tolist() == [[last] * 6, [255] * 6]


def test_another_process_is_given_no_copies_on_a_device() -> None:
    normalize = Normalize(mean=[0.1, 0.2, 0.3], std=0.5, channels=3)
    image = torch.rand(2, 3, 4, 4)
    expected = normalize(image)
    assert normalize(image.to("meta")).device.type == "meta"
    again = pickle.loads(pickle.dumps(normalize))
    assert again._copies == {}
    assert torch.equal(again(image), expected)
