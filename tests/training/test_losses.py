"""Worked values for two-by-two masks, whose probabilities are round numbers."""

import re
from math import log

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from liverseg.labels import IGNORED
from liverseg.training.losses import BinaryCrossEntropy, CrossEntropy, SoftDiceLoss, SumLoss

# One image, one logit: truth 1 1 / 0 0 against the probabilities below.
LOGITS = torch.tensor([[[[0.5, 0.75], [0.25, 0.9]]]]).logit()
MASK = torch.tensor([[[1, 1], [0, 0]]], dtype=torch.uint8)

# One image, three classes: the probabilities of each pixel, in the order of the mask's pixels.
CLASS_LOGITS = (
    torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    .log()
    .T.reshape(1, 3, 2, 2)
)
CLASS_MASK = torch.tensor([[[0, 1], [2, 2]]], dtype=torch.uint8)

LOSSES = [BinaryCrossEntropy(), CrossEntropy(), SoftDiceLoss(), SoftDiceLoss(batch=True)]
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=["bce", "ce", "dice", "batch dice"])


def mask_of(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("loss", "worked"),
    [
        (BinaryCrossEntropy(), (log(2) + 2 * log(4 / 3) + log(10)) / 4),
        (BinaryCrossEntropy([1, 3]), (3 * log(2) + 4 * log(4 / 3) + log(10)) / 8),
        (CrossEntropy(), (log(2) + 2 * log(4 / 3) + log(10)) / 4),
        (CrossEntropy([1, 3]), (3 * log(2) + 4 * log(4 / 3) + log(10)) / 8),
        (SoftDiceLoss(), 1 - (2 * 1.25 + 1) / (2.4 + 2 + 1)),
        (SoftDiceLoss(smooth=0.1), 1 - (2 * 1.25 + 0.1) / (2.4 + 2 + 0.1)),
        (SoftDiceLoss(class_weights=[7]), 1 - (2 * 1.25 + 1) / (2.4 + 2 + 1)),
    ],
)
def test_one_logit_costs_what_was_worked_by_hand(loss: nn.Module, worked: float) -> None:
    assert loss(LOGITS, MASK).item() == pytest.approx(worked, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "worked"),
    [
        (CrossEntropy(), -log(0.5 * 0.7 * 0.1 * 0.5) / 4),
        (CrossEntropy([1, 2, 4]), -(log(0.5) + 2 * log(0.7) + 4 * log(0.1 * 0.5)) / 11),
        (SoftDiceLoss(), ((1 - 2.4 / 4) + (1 - 2.2 / 3.95)) / 2),
        (SoftDiceLoss(class_weights=[3, 1]), (3 * (1 - 2.4 / 4) + (1 - 2.2 / 3.95)) / 4),
    ],
)
def test_three_classes_cost_what_was_worked_by_hand(loss: nn.Module, worked: float) -> None:
    # Class 1: overlap 0.7, probabilities 2.0, truth 1. Class 2: overlap 0.6, 0.95 and 2.
    assert loss(CLASS_LOGITS, CLASS_MASK).item() == pytest.approx(worked, rel=1e-6)


def test_batch_dice_sums_over_the_images_of_a_batch() -> None:
    # The second image is empty; its probabilities add 2.0 to the sum.
    logits = torch.cat([LOGITS, torch.full((1, 1, 2, 2), 0.5).logit()])
    masks = torch.cat([MASK, mask_of(0, 0, 0, 0)])
    loss = SoftDiceLoss(batch=True)(logits, masks)
    assert loss.item() == pytest.approx(1 - (2 * 1.25 + 1) / (2.4 + 2.0 + 2 + 1), rel=1e-6)
    both = torch.cat([CLASS_LOGITS, CLASS_LOGITS]), torch.cat([CLASS_MASK, mask_of(0, 1, 2, 1)])
    # Class 1: overlap 0.7 + 0.95, truth 1 + 2. Class 2: overlap 0.6 + 0.1, truth 2 + 1.
    worked = ((1 - 4.3 / 8) * 3 + (1 - 2.4 / 5.9)) / 4
    loss = SoftDiceLoss(class_weights=[3, 1], batch=True)(*both)
    assert loss.item() == pytest.approx(worked, rel=1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_a_batch_of_one_image_has_the_dice_of_that_image(batch: bool) -> None:
    loss = SoftDiceLoss(batch=batch)(CLASS_LOGITS, CLASS_MASK)
    assert loss.item() == SoftDiceLoss()(CLASS_LOGITS, CLASS_MASK).item()


@EVERY_LOSS
def test_an_ignored_pixel_changes_nothing_and_gets_no_gradient(loss: nn.Module) -> None:
    mask = mask_of(1, 1, 0, IGNORED)
    results = []
    for stray in (-8.0, 3.0):
        logits = LOGITS.clone()
        logits[..., 1, 1] = stray
        value = loss(logits.requires_grad_(), mask)
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient[..., 1, 1].item() == 0
        assert gradient.count_nonzero() == 3
        results.append(value.item())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("loss", "worked"),
    [
        (BinaryCrossEntropy(), (log(2) + 2 * log(4 / 3)) / 3),
        (BinaryCrossEntropy([1, 3]), (3 * log(2) + 4 * log(4 / 3)) / 7),
        (CrossEntropy([1, 3]), (3 * log(2) + 4 * log(4 / 3)) / 7),
        (SoftDiceLoss(), 1 - (2 * 1.25 + 1) / (1.5 + 2 + 1)),
    ],
)
def test_the_mean_runs_over_the_pixels_that_count(loss: nn.Module, worked: float) -> None:
    assert loss(LOGITS, mask_of(1, 1, 0, IGNORED)).item() == pytest.approx(worked, rel=1e-6)


@EVERY_LOSS
def test_an_image_that_is_all_ignored_costs_nothing(loss: nn.Module) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, torch.full_like(MASK, IGNORED))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert gradient.count_nonzero() == 0  # not a number would count


@EVERY_LOSS
def test_the_gradient_is_finite_however_sure_and_wrong_the_logits_are(loss: nn.Module) -> None:
    logits = torch.tensor([[[[-200.0, 200.0], [200.0, -200.0]]]], requires_grad=True)
    value = loss(logits, MASK)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES[:3], ids=["bce", "ce", "dice"])
def test_a_batch_costs_the_mean_of_its_images(loss: nn.Module) -> None:
    logits = torch.cat([LOGITS, -LOGITS, 2 * LOGITS])
    masks = torch.cat([MASK, mask_of(0, IGNORED, IGNORED, 1), torch.full_like(MASK, IGNORED)])
    alone = [loss(logits[i : i + 1], masks[i : i + 1]).item() for i in range(3)]
    assert loss(logits, masks).item() == pytest.approx(sum(alone) / 3, rel=1e-6)
    assert len({round(value, 3) for value in alone}) == 3


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 4.0)])
def test_cross_entropy_of_one_logit_is_the_binary_one(weights: tuple[float, float]) -> None:
    torch.manual_seed(0)
    logits, mask = 3 * torch.randn(4, 1, 5, 6), torch.randint(0, 2, (4, 5, 6))
    mask[:, 0] = IGNORED
    one, two = CrossEntropy(weights)(logits, mask), BinaryCrossEntropy(weights)(logits, mask)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0, 0.1)])
def test_cross_entropy_of_each_image_is_the_one_of_torch(weights: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    mask[0, 1:3] = mask[1, 0] = IGNORED
    per_image = [
        functional.cross_entropy(
            logits[i : i + 1],
            mask[i : i + 1],
            weight=torch.tensor(weights) if weights else None,
            ignore_index=IGNORED,
        )
        for i in range(3)
    ]
    loss = CrossEntropy(weights)
    torch.testing.assert_close(loss(logits[:1], mask[:1]), per_image[0])
    torch.testing.assert_close(loss(logits, mask), torch.stack(per_image).mean())


def test_dice_punishes_a_false_positive_on_an_empty_image_and_nothing_else_there() -> None:
    empty = torch.zeros(1, 64, 64, dtype=torch.uint8)
    positive, negative = torch.full((1, 1, 64, 64), 20.0), torch.full((1, 1, 64, 64), -20.0)
    assert SoftDiceLoss()(positive, empty).item() == pytest.approx(1 - 1 / 4097)
    assert SoftDiceLoss()(negative, empty).item() == pytest.approx(0, abs=1e-4)


def test_background_does_not_enter_the_dice() -> None:
    right_background = torch.tensor([9.0, 0.0, 0.0]).reshape(1, 3, 1, 1).repeat(1, 1, 40, 40)
    mask = torch.zeros(1, 40, 40, dtype=torch.uint8)
    mask[:, 0, :2], mask[:, 1, :2] = 1, 2  # two pixels of each class, both missed
    assert SoftDiceLoss(smooth=0.01)(right_background, mask).item() > 0.99


def test_a_sum_weighs_its_losses() -> None:
    loss = SumLoss([SoftDiceLoss(), BinaryCrossEntropy()], [2, 0.5])
    worked = 2 * (1 - 3.5 / 5.4) + 0.5 * (log(2) + 2 * log(4 / 3) + log(10)) / 4
    assert loss(LOGITS, MASK).item() == pytest.approx(worked, rel=1e-6)
    assert loss.losses[0] in loss.modules()  # registered, so that it moves to the device


@pytest.mark.parametrize("loss", [*LOSSES, SumLoss(LOSSES, [1, 1, 1, 1])])
def test_half_precision_logits_cost_what_they_cost_in_float32(loss: nn.Module) -> None:
    half = LOGITS.bfloat16()
    value = loss(half, MASK)
    assert value.dtype == torch.float32
    assert value.item() == loss(half.float(), MASK).item()


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), CrossEntropy([1, 2]), SoftDiceLoss()])
def test_a_loss_moves_to_the_device_of_its_logits_and_adds_nothing_to_checkpoints(
    loss: nn.Module,
) -> None:
    assert loss.to("meta")(LOGITS.to("meta"), MASK.to("meta")).device.type == "meta"
    assert not loss.state_dict()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: BinaryCrossEntropy([1]),
            "loss.class_weights=[1] must hold 2 positive numbers",
        ),
        (
            lambda: BinaryCrossEntropy([1, 0]),
            "loss.class_weights=[1, 0] must hold 2 positive numbers",
        ),
        (
            lambda: CrossEntropy([1, -2, 3]),
            "loss.class_weights=[1, -2, 3] must hold one positive number per class",
        ),
        (
            lambda: SoftDiceLoss(class_weights=[0]),
            "loss.class_weights=[0] must hold one positive number per class",
        ),
        (lambda: SoftDiceLoss(smooth=0), "loss.smooth=0 must be greater than 0"),
        (
            lambda: SumLoss([SoftDiceLoss(), CrossEntropy()], [1]),
            "loss.weights=[1] must hold one factor for each of the 2 losses",
        ),
        (
            lambda: BinaryCrossEntropy()(CLASS_LOGITS, CLASS_MASK),
            "loss=bce takes one logit per pixel, the network gives 3; set data.num_classes=1 or "
            "loss=cross_entropy",
        ),
        (
            lambda: CrossEntropy([1, 2])(CLASS_LOGITS, CLASS_MASK),
            "loss.class_weights=[1.0, 2.0] must hold 3 numbers, one per class",
        ),
        (
            lambda: SoftDiceLoss(class_weights=[1, 2])(LOGITS, MASK),
            "loss.class_weights=[1.0, 2.0] must hold 1 numbers, one per class",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(build, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        build()


def test_soft_dice_of_all_classes_takes_background_in() -> None:
    # p(1) is 0.8 and 0.4, truth is 1 and 0: Dice of class 1 is (2 * 0.8 + 1) / (1.2 + 1 + 1), of
    # class 0, with p(0) of 0.2 and 0.6, (2 * 0.6 + 1) / (0.8 + 1 + 1).
    logits = torch.tensor([0.8, 0.4]).logit().reshape(1, 1, 1, 2)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    mask = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    foreground, background = 1 - 2.6 / 3.2, 1 - 2.2 / 2.8
    assert float(SoftDiceLoss()(two, mask)) == pytest.approx(foreground, abs=1e-6)
    every = SoftDiceLoss(background=False)(two, mask)
    assert float(every) == pytest.approx((foreground + background) / 2, abs=1e-6)
