import pytest
import torch

from liverseg.pictures.ranking import Rank, best_and_worst, rank


def image(index: int, dice: float, wrong: int = 5, true: int = 9) -> Rank:
    return Rank(index, dice, num_wrong=wrong, num_true=true)


def test_images_are_ranked_by_what_was_counted() -> None:
    counts = torch.tensor([[[3, 1, 1], [0, 0, 0]], [[0, 7, 2], [1, 0, 0]]])
    assert rank(torch.tensor([4, 6]), counts) == [
        Rank(4, pytest.approx((0.75 + 1) / 2), num_wrong=2, num_true=4),
        Rank(6, pytest.approx((0 + 1) / 2), num_wrong=9, num_true=3),
    ]


def test_of_images_with_the_same_dice_the_one_with_more_at_stake_comes_first() -> None:
    small, large = image(0, 0.0, wrong=2), image(1, 0.0, wrong=90)
    thin, thick = image(2, 1.0, wrong=0, true=3), image(3, 1.0, wrong=0, true=300)
    assert best_and_worst([small, large, thin, thick], 2) == ([thick, thin], [large, small])


def test_of_images_with_the_same_of_all_the_first_comes_first() -> None:
    alike = [image(index, 0.0) for index in range(20)]
    best, worst = best_and_worst(reversed(alike), 4)
    assert [one.index for one in worst] == [0, 1, 2, 3]
    assert [one.index for one in best] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("count", "best", "worst"),
    [(0, [], []), (1, [], [0]), (2, [1], [0]), (5, [4, 3], [0, 1, 2]), (9, [8, 7, 6], [0, 1, 2])],
)
def test_no_image_is_among_the_best_and_the_worst(
    count: int, best: list[int], worst: list[int]
) -> None:
    found = best_and_worst([image(index, index / 10) for index in range(count)], 3)
    assert tuple([one.index for one in column] for column in found) == (best, worst)


def test_images_where_nothing_was_and_nothing_was_found_are_in_neither_column() -> None:
    nothing = [image(index, 1.0, wrong=0, true=0) for index in range(5)]
    good, bad, right = image(5, 0.9), image(6, 0.8), image(7, 1.0, wrong=0)
    assert best_and_worst([*nothing, good, bad, right], 4) == ([right], [bad, good])
    assert best_and_worst(nothing, 4) == ([], [])
