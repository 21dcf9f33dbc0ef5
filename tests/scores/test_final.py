import pytest
import torch
from torch import Tensor, tensor

from liverseg.scores import SegmentationScores, final_numbers, is_score
from liverseg.scores.final import ends_of


def scores_of(
    prediction: Tensor, mask: Tensor, cases: list[int] | None = None
) -> SegmentationScores:
    scores = SegmentationScores(3, ["liver", "spleen"])
    case = tensor(cases) if cases else torch.full((len(mask),), -1)
    scores.update(prediction, mask, torch.arange(len(mask)), case)
    scores.compute()
    return scores


MASK = tensor([[[0, 1]], [[255, 2]], [[1, 1]], [[0, 0]]], dtype=torch.uint8)
PREDICTION = tensor([[[2, 2]], [[2, 0]], [[0, 0]], [[2, 2]]], dtype=torch.uint8)


def test_structures_that_are_missed_and_those_that_are_made_up_are_counted() -> None:
    numbers = final_numbers(scores_of(PREDICTION, MASK))
    ends = ("_low", "_high")
    assert {name: one for name, one in numbers.items() if not any(end in name for end in ends)} == {
        "images": 4.0,
        "images/liver": 2.0,
        "images/spleen": 1.0,
        "missed": 3.0,
        "missed/liver": 2.0,
        "missed/spleen": 1.0,
        "false_alarms": 2.0,
        "false_alarms/liver": 0.0,
        "false_alarms/spleen": 2.0,
    }


def test_a_structure_is_missed_also_where_something_else_is_taken_for_it() -> None:
    mask = tensor([[[1, 0]], [[1, 1]]], dtype=torch.uint8)
    prediction = tensor([[[0, 1]], [[0, 1]]], dtype=torch.uint8)
    numbers = final_numbers(scores_of(prediction, mask))
    assert (numbers["missed/liver"], numbers["false_alarms/liver"]) == (1, 0)


def test_patients_are_counted_where_every_image_has_one() -> None:
    assert final_numbers(scores_of(PREDICTION, MASK, [5, 5, 3, 5]))["patients"] == 2
    assert "patients" not in final_numbers(scores_of(PREDICTION, MASK, [5, 5, -1, 5]))


def test_every_score_has_an_interval_that_holds_it() -> None:
    generator = torch.Generator().manual_seed(0)
    mask, prediction = torch.randint(3, (2, 60, 4, 4), generator=generator)
    scores = scores_of(prediction, mask, [place // 4 for place in range(60)])
    numbers = final_numbers(scores)
    values = scores.compute()
    assert len(values) == 13 * 3
    for key, value in values.items():
        low, high = (numbers[end] for end in ends_of(key))
        assert 0 <= low < float(value) < high
    assert final_numbers(scores) == numbers


def test_one_patient_has_no_interval() -> None:
    numbers = final_numbers(scores_of(PREDICTION, MASK, [0, 0, 0, 0]))
    assert not any("_low" in name for name in numbers)


def test_infinite_distances_are_counted() -> None:
    scores = SegmentationScores(3, ["liver", "spleen"], chosen=["hd95", "nsd"])
    scores.update(PREDICTION, MASK, torch.arange(4), tensor([0, 0, 1, 2]))
    scores.compute()
    numbers = final_numbers(scores)
    assert (numbers["hd95_infinite/liver"], numbers["hd95_infinite/spleen"]) == (2, 3)
    assert numbers["hd95_infinite"] == 5 == numbers["missed"] + numbers["false_alarms"]
    assert numbers["rvd_case_infinite/spleen"] == 1  # of the third patient, who has none
    assert "nsd_infinite" not in numbers


@pytest.mark.parametrize("name", ["val/dice", "val/loss", "test/rvd_case", "val/slow"])
def test_scores_are_told_from_what_stands_beside_them(name: str) -> None:
    assert is_score(name)


@pytest.mark.parametrize("name", ["val/dice_low", "test/rvd_case_high", "val/missed"])
def test_what_stands_beside_a_score_is_told_from_it(name: str) -> None:
    assert not is_score(name)
