import random

import pytest
import torch
from torch import Tensor, tensor
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)
from torchmetrics.segmentation import DiceScore

from liverseg.labels import IGNORED
from liverseg.scores.averages import dice, iou
from liverseg.scores.catalogue import SCORES, keys_of
from liverseg.scores.metrics import (
    SegmentationScores,
    count_by_probability,
    count_pixels,
    predict_classes,
)


def row(**pixels: int) -> tuple[Tensor, Tensor]:
    """Prediction and mask, each of shape (1, 8, 8), with so many tp, fp and fn pixels."""
    tp, fp, fn = (pixels.get(key, 0) for key in ("tp", "fp", "fn"))
    prediction, mask = torch.zeros(2, 64, dtype=torch.uint8)
    prediction[: tp + fp] = 1
    mask[:tp] = 1
    mask[tp + fp : tp + fp + fn] = 1
    return prediction.reshape(1, 8, 8), mask.reshape(1, 8, 8)


WITHOUT_CASES = keys_of(has_cases=False)
# A good image, empty against empty, four false pixels on an empty image, a small liver missed
FOUR = [row(tp=20, fp=2, fn=2), row(), row(fp=4), row(fn=2)]


def scores_of(
    images: list[tuple[Tensor, Tensor]],
    cases: list[int] | None = None,
    *,
    order: list[int] | None = None,
    batch_size: int = 99,
    num_classes: int = 1,
    class_names: tuple[str, ...] = ("liver",),
) -> SegmentationScores:
    scores = SegmentationScores(num_classes, class_names)
    order = order or list(range(len(images)))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        prediction, mask = (torch.cat(one) for one in zip(*[images[i] for i in part], strict=True))
        case = tensor([cases[i] if cases else -1 for i in part])
        scores.update(prediction, mask, tensor(part), case)
    return scores


def plain(scores: SegmentationScores) -> dict[str, float]:
    return {name: value.item() for name, value in scores.compute().items()}


def random_images(num_classes: int, count: int = 11) -> list[tuple[Tensor, Tensor]]:
    """Noise of many sizes of foreground; some images without, and each with ignored pixels."""
    generator = torch.Generator().manual_seed(num_classes)
    images = []
    for number in range(count):
        prediction, mask = torch.randint(
            num_classes, (2, 1, 8, 8), generator=generator, dtype=torch.uint8
        )
        rare = torch.rand(2, 8, 8, generator=generator) < 0.1 * number
        prediction, mask = prediction * rare[:1], mask * rare[1:]
        if number in (3, 4):
            prediction = torch.zeros_like(prediction)
        if number in (4, 5):
            mask = torch.zeros_like(mask)
        mask[:, number % 8, 2:5] = IGNORED
        images.append((prediction, mask))
    return images


# From logits to classes


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.5, [0, 0, 1, 1]), (0.25, [0, 1, 1, 1]), (0.75, [0, 0, 0, 1]), (0.0, [1, 1, 1, 1])],
)
def test_one_logit_is_foreground_where_its_probability_exceeds_the_threshold(threshold, expected):
    logits = tensor([-2.0, 0.0, 0.01, 2.0]).reshape(1, 1, 1, 4)  # 0.12, 0.5, 0.5025, 0.88
    prediction = predict_classes(logits, threshold)
    assert prediction.dtype == torch.uint8
    assert prediction.tolist() == [[expected]]


def test_the_threshold_is_one_half_unless_told():
    logits = tensor([0.0, 1e-3, -1e-3]).reshape(1, 1, 1, 3)
    assert predict_classes(logits).tolist() == [[[0, 1, 0]]]


def test_half_precision_logits_are_not_rounded_to_the_threshold():
    logits = tensor([0.0, 1e-3, -1e-3], dtype=torch.bfloat16).reshape(1, 1, 1, 3)
    assert (logits.sigmoid() == 0.5).all()
    assert predict_classes(logits).tolist() == [[[0, 1, 0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_several_logits_the_largest_wins_at_any_threshold(dtype):
    logits = tensor([[-3.0, 1.0, 5.0], [-2.0, 2.0, 5.0], [-1.0, 0.0, 6.0]], dtype=dtype)
    logits = logits.reshape(1, 3, 1, 3)
    for threshold in (0.1, 0.9):
        prediction = predict_classes(logits, threshold)
        assert prediction.dtype == torch.uint8
        assert prediction.tolist() == [[[2, 1, 2]]]
    assert predict_classes(logits[:, :2]).tolist() == [[[1, 1, 0]]]


# Counts and quotients


@pytest.mark.parametrize(
    ("num_classes", "expected"),
    [
        (1, [[[1, 1, 2]], [[0, 0, 0]]]),
        (2, [[[1, 1, 2]], [[0, 0, 0]]]),
        (4, [[[1, 1, 2], [1, 2, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [1, 0, 0]]]),
    ],
)
def test_pixels_are_counted_per_image_and_foreground_class(num_classes, expected):
    prediction = tensor([[[1, 1, 0, 2, 2, 2, 1]], [[0, 0, 0, 0, 0, 0, 3]]], dtype=torch.uint8)
    mask = tensor([[[1, 0, 1, 1, 2, 0, IGNORED]], [[0, 0, 0, 0, 0, 0, 3]]], dtype=torch.uint8)
    counts = count_pixels(prediction, mask, num_classes)
    assert counts.dtype == torch.int64
    assert counts.tolist() == expected


@pytest.mark.parametrize(
    ("counts", "expected_dice", "expected_iou"),
    [
        ([3, 1, 2], 6 / 9, 3 / 6),
        ([3, 0, 0], 1, 1),
        ([0, 0, 0], 1, 1),
        ([0, 1, 0], 0, 0),
        ([0, 0, 1], 0, 0),
    ],
)
def test_dice_and_iou_of_counts(counts, expected_dice, expected_iou):
    for score, expected in ((dice, expected_dice), (iou, expected_iou)):
        value = score(tensor(counts))
        assert value.dtype == torch.float64
        assert value.item() == expected
        assert score(tensor([counts, counts])).tolist() == [expected, expected]


# Scores of a split


def test_per_image_pooled_and_per_case_differ_on_the_four_images():
    scores = plain(scores_of(FOUR, [0, 1, 0, 0]))
    assert tuple(scores) == SCORES
    assert scores == pytest.approx(
        {
            "dice": (40 / 44 + 1 + 0 + 0) / 4,
            "iou": (20 / 24 + 1 + 0 + 0) / 4,
            "precision": (20 / 22 + 1 + 0 + 0) / 4,
            "recall": (20 / 22 + 1 + 0 + 0) / 4,
            "dice_pooled": 40 / (40 + 6 + 4),
            "iou_pooled": 20 / (20 + 6 + 4),
            "precision_pooled": 20 / 26,
            "recall_pooled": 20 / 24,
            "dice_case": (40 / 50 + 1) / 2,
            "iou_case": (20 / 30 + 1) / 2,
            "precision_case": (20 / 26 + 1) / 2,
            "recall_case": (20 / 24 + 1) / 2,
            "rvd_case": 2 / 24,  # of the one patient that has a liver
        },
        abs=1e-15,
    )


@pytest.mark.parametrize(
    ("image", "expected"), [(row(), 1), (row(fp=1), 0), (row(fn=1), 0), (row(tp=1), 1)]
)
def test_an_empty_image_scores_one_until_a_false_pixel_appears(image, expected):
    scores = plain(scores_of([image], [0]))
    rvd = scores.pop("rvd_case", None)  # none where there is no truth
    assert set(scores.values()) == {expected}
    assert rvd == (None if not image[1].any() else 1 - expected)


def test_scores_are_float64_scalars():
    for value in scores_of(FOUR).compute().values():
        assert (value.dtype, value.shape) == (torch.float64, ())


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_batches_order_and_repetition_change_no_digit(num_classes):
    images = random_images(max(num_classes, 2))
    cases = [number // 3 for number in range(len(images))]
    names = tuple("abc"[: max(num_classes - 1, 1)])
    settings = {"num_classes": num_classes, "class_names": names}
    expected = plain(scores_of(images, cases, **settings))
    assert 0 < expected["dice"] < 1
    order = list(range(len(images)))
    for batch_size in (1, 2, 4):
        assert plain(scores_of(images, cases, batch_size=batch_size, **settings)) == expected
        random.Random(batch_size).shuffle(order)
        for twice in ([], order[:1], order[::-1]):
            again = scores_of(images, cases, order=order + twice, batch_size=batch_size, **settings)
            assert plain(again) == expected


def test_the_first_of_an_image_added_twice_counts():
    scores = scores_of([row(tp=1)])
    scores.update(*row(fp=1), tensor([0]), tensor([-1]))
    assert plain(scores)["dice"] == 1


@pytest.mark.parametrize("num_classes", [1, 3])
def test_pooled_iou_follows_from_pooled_dice_of_a_class(num_classes):
    names = ("a", "b")[: max(num_classes - 1, 1)]
    images = random_images(max(num_classes, 2))
    scores = plain(scores_of(images, num_classes=num_classes, class_names=names))
    for suffix in [f"/{name}" for name in names] if num_classes > 1 else [""]:
        pooled = scores[f"dice_pooled{suffix}"]
        assert 0 < pooled < 1
        assert scores[f"iou_pooled{suffix}"] == pytest.approx(pooled / (2 - pooled), abs=1e-15)


def test_there_is_a_case_score_only_where_every_image_has_a_case():
    assert "dice_case" in plain(scores_of(FOUR, [0, 0, 0, 0]))
    assert tuple(plain(scores_of(FOUR, [0, -1, 0, 0]))) == WITHOUT_CASES


def test_a_case_of_all_images_scores_as_pooled_and_cases_of_one_image_as_per_image():
    images = random_images(2)
    together = plain(scores_of(images, [7] * len(images)))
    apart = plain(scores_of(images, list(range(len(images)))[::-1]))
    for name in ("dice", "iou"):
        assert together[f"{name}_case"] == together[f"{name}_pooled"]
        assert apart[f"{name}_case"] == pytest.approx(apart[name], abs=1e-15)


def test_ignored_pixels_count_nowhere():
    prediction, mask = row(tp=3, fp=2, fn=1)
    expected = plain(scores_of([(prediction, mask)]))
    assert expected["dice"] == 6 / 9
    mask[0, 7] = IGNORED
    for value in (0, 1):
        prediction[0, 7] = value
        assert plain(scores_of([(prediction, mask)])) == expected


# Two images of three foreground classes, the last of which occurs nowhere
SEVERAL = [
    (tensor([[[1, 1, 2, 0]]], dtype=torch.uint8), tensor([[[1, 0, 2, 2]]], dtype=torch.uint8)),
    (tensor([[[0, 0, 0, 2]]], dtype=torch.uint8), tensor([[[0, 0, 1, 2]]], dtype=torch.uint8)),
]


def test_several_classes_by_hand():
    scores = plain(
        scores_of(SEVERAL, [0, 1], num_classes=4, class_names=("liver", "tumour", "spleen"))
    )
    expected = {
        "dice/liver": (2 / 3 + 0) / 2,
        "dice/tumour": (2 / 3 + 1) / 2,
        "dice/spleen": 1,
        "dice": (1 / 3 + 5 / 6 + 1) / 3,
        "iou/liver": (1 / 2 + 0) / 2,
        "iou/tumour": (1 / 2 + 1) / 2,
        "iou/spleen": 1,
        "iou": (1 / 4 + 3 / 4 + 1) / 3,
        "dice_pooled/liver": 2 / 4,
        "dice_pooled/tumour": 4 / 5,
        "dice_pooled/spleen": 1,
        "dice_pooled": (2 / 4 + 4 / 5) / 2,  # classes that occur
        "iou_pooled/liver": 1 / 3,
        "iou_pooled/tumour": 2 / 3,
        "iou_pooled/spleen": 1,
        "iou_pooled": (1 / 3 + 2 / 3) / 2,
    }
    cases = {name.replace("/", "_case/"): expected[name] for name in expected if "_p" not in name}
    cases = {name if "/" in name else f"{name}_case": value for name, value in cases.items()}
    known = {name: value for name, value in scores.items() if name.startswith(("dice", "iou"))}
    assert known == pytest.approx(expected | cases, abs=1e-15)
    assert scores["precision_pooled/liver"] == scores["recall_pooled/liver"] == 1 / 2
    assert scores["recall_pooled"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # classes that occur


def test_a_class_that_is_there_and_never_predicted_has_a_pooled_precision_of_zero():
    pixels = tensor([[[1, 0]]], dtype=torch.uint8), tensor([[[1, 2]]], dtype=torch.uint8)
    scores = plain(scores_of([pixels], num_classes=4, class_names=("a", "b", "c")))
    assert (scores["precision_pooled/b"], scores["precision_pooled"]) == (0, 0.5)


def test_a_class_that_occurs_only_in_the_prediction_enters_the_pooled_mean_as_zero():
    pixels = tensor([[[1, 2]]], dtype=torch.uint8), tensor([[[1, 0]]], dtype=torch.uint8)
    scores = plain(scores_of([pixels], num_classes=4, class_names=("a", "b", "c")))
    assert scores["dice_pooled"] == (1 + 0) / 2


def test_several_classes_of_which_none_occurs_score_one():
    blank = torch.zeros(2, 1, 8, 8, dtype=torch.uint8).unbind()
    scores = plain(scores_of([blank], [0], num_classes=3, class_names=("a", "b")))
    assert set(scores.values()) == {1}
    assert not any(name.startswith("rvd") for name in scores)


@pytest.mark.parametrize("num_classes", [1, 2])
def test_one_foreground_class_has_no_key_of_its_own(num_classes):
    assert tuple(plain(scores_of(FOUR, [0] * 4, num_classes=num_classes))) == SCORES


def test_background_never_counts():
    images = random_images(3)
    names = {"num_classes": 3, "class_names": ("a", "b")}
    wider = [tuple(torch.nn.functional.pad(one, (0, 99)) for one in pair) for pair in images]
    assert plain(scores_of(wider, **names)) == plain(scores_of(images, **names))


def test_a_reset_starts_a_new_pass():
    scores = scores_of(FOUR, [0, 1, 0, 0])
    expected = plain(scores)
    scores.reset()
    prediction, mask = row(tp=1)
    scores.update(prediction, mask, tensor([3]), tensor([-1]))
    assert plain(scores) == dict.fromkeys(WITHOUT_CASES, 1)
    scores.reset()
    for number, image in enumerate(FOUR):
        scores.update(*image, tensor([number]), tensor([int(number == 1)]))
    assert plain(scores) == expected


def test_the_table_is_ordered_by_index():
    table = scores_of(FOUR, [5, 6, 7, 8], order=[2, 0, 2, 3]).table()
    assert table.indices.tolist() == [0, 2, 3]
    assert table.cases.tolist() == [5, 7, 8]
    assert table.counts.tolist() == [[[20, 2, 2]], [[0, 4, 0]], [[0, 0, 2]]]


def test_more_is_better_to_whoever_asks():
    assert SegmentationScores(1).higher_is_better


def test_scores_of_a_batch_are_returned_while_those_of_the_split_add_up(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "liverseg.scores.metrics.count_pixels",
        lambda *given, **first: calls.append(given) or count_pixels(*given, **first),
    )
    scores = SegmentationScores(1)
    batches = [
        scores(*image, tensor([number]), tensor([-1]))["dice"].item()
        for number, image in enumerate(FOUR)
    ]
    assert batches == [40 / 44, 1, 0, 0]
    assert len(calls) == len(FOUR)  # counted once
    assert plain(scores) == plain(scores_of(FOUR))


# Against others


@pytest.mark.parametrize("num_classes", [1, 2, 11])
def test_counts_give_what_sets_of_pixels_give(num_classes):
    images = random_images(max(num_classes, 2))
    names = [f"c{index}" for index in range(1, max(num_classes, 2))]
    cases = [number // 3 for number in range(len(images))]
    scores = plain(scores_of(images, cases, num_classes=num_classes, class_names=names))
    patients = [
        [torch.cat(parts) for parts in zip(*images[3 * case : 3 * case + 3], strict=True)]
        for case in sorted(set(cases))
    ]
    for average, units in (("", images), ("_case", patients)):
        expected = {word: [] for word in ("dice", "iou", "precision", "recall")}
        for index in range(1, max(num_classes, 2)):
            found = {word: [] for word in expected}
            for prediction, mask in units:
                valid = (mask != IGNORED).flatten()
                true = set((mask.flatten() == index).logical_and(valid).nonzero()[:, 0].tolist())
                said = set(
                    (prediction.flatten() == index).logical_and(valid).nonzero()[:, 0].tolist()
                )
                both, empty = len(true & said), float(not true | said)
                found["dice"].append(2 * both / (len(true) + len(said)) if true | said else empty)
                found["iou"].append(both / len(true | said) if true | said else empty)
                found["precision"].append(both / len(said) if said else empty)
                found["recall"].append(both / len(true) if true else empty)
            for word, values in found.items():
                expected[word].append(sum(values) / len(values))
        for word, values in expected.items():
            mean = sum(values) / len(values)
            assert scores[word + average] == pytest.approx(mean, abs=1e-12)


def test_one_class_agrees_with_torchmetrics():
    images = random_images(2)
    scores = plain(scores_of(images))
    prediction, mask = (torch.cat(one).long() for one in zip(*images, strict=True))
    ours = [scores[name] for name in ("dice", "dice_pooled", "iou_pooled")]
    samples = BinaryF1Score(multidim_average="samplewise", zero_division=1, ignore_index=IGNORED)
    theirs = [
        samples(prediction, mask).mean().item(),
        BinaryF1Score(ignore_index=IGNORED)(prediction, mask).item(),
        BinaryJaccardIndex(ignore_index=IGNORED)(prediction, mask).item(),
    ]
    assert ours == pytest.approx(theirs, abs=1e-6)
    for word, metric in (("precision", BinaryPrecision), ("recall", BinaryRecall)):
        pooled = metric(ignore_index=IGNORED)(prediction, mask).item()
        assert scores[f"{word}_pooled"] == pytest.approx(pooled, abs=1e-6)
    per_image = [
        BinaryJaccardIndex(ignore_index=IGNORED, zero_division=1)(*image).item() for image in images
    ]
    assert scores["iou"] == pytest.approx(sum(per_image) / len(images), abs=1e-6)


def test_several_classes_agree_with_torchmetrics():
    images = random_images(4)
    names = ("a", "b", "c")
    scores = plain(scores_of(images, num_classes=4, class_names=names))
    prediction, mask = (torch.cat(one).long() for one in zip(*images, strict=True))
    for name, metric in [("dice", MulticlassF1Score), ("iou", MulticlassJaccardIndex)]:
        per_class = metric(4, average="none", ignore_index=IGNORED)(prediction, mask)[1:]
        assert [scores[f"{name}_pooled/{one}"] for one in names] == pytest.approx(
            per_class.tolist(), abs=1e-6
        )
        assert scores[f"{name}_pooled"] == pytest.approx(per_class.mean().item(), abs=1e-6)


def test_several_classes_per_image_agree_with_torchmetrics_where_all_occur():
    generator = torch.Generator().manual_seed(0)
    prediction, mask = torch.randint(4, (2, 5, 16, 16), generator=generator)
    reference = DiceScore(4, include_background=False, average="none", input_format="index")
    per_class = reference(prediction, mask)
    images = list(zip(prediction.split(1), mask.split(1), strict=True))
    scores = plain(scores_of(images, num_classes=4, class_names=("a", "b", "c")))
    assert [scores[f"dice/{one}"] for one in "abc"] == pytest.approx(per_class.tolist(), abs=1e-6)
    assert scores["dice"] == pytest.approx(per_class.mean().item(), abs=1e-6)


def test_with_a_name_for_every_class_background_counts_like_any_other():
    # Truth 0 0 1 2, prediction 0 1 1 2: class 0 has TP 1, FN 1; class 1 TP 1, FP 1; class 2 TP 1.
    truth, prediction = tensor([[[0, 0, 1, 2]]]), tensor([[[0, 1, 1, 2]]])
    scores = SegmentationScores(3, ["sky", "road", "car"])
    scores.update(prediction, truth, tensor([0]), tensor([-1]))
    found = {name: float(value) for name, value in scores.compute().items()}
    assert (found["iou/sky"], found["iou/road"], found["iou/car"]) == (0.5, 0.5, 1.0)
    assert found["iou"] == found["iou_pooled"] == pytest.approx(2 / 3)
    assert scores.table()[2].tolist() == [[[1, 0, 1], [1, 1, 0], [1, 0, 0]]]


def test_ignored_pixels_count_for_background_neither():
    truth, prediction = tensor([[[IGNORED, 0, 1]]]), tensor([[[0, 0, 1]]])
    assert count_pixels(prediction, truth, 2, first=0).tolist() == [[[1, 0, 0], [1, 0, 0]]]


def test_a_curve_of_every_class_has_background_first():
    logits = tensor([0.0, 100.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    counts = count_by_probability(logits, tensor([[[0, 1, 1]]]), first=0)
    assert (counts[0, 0, 0], counts[0, 1, 0]) == (2, 1)  # p = 0 of class 0: two others, one of it
    assert (counts[1, 0, 64], counts[1, 1, 64]) == (1, 2)
