from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from liverseg.prediction.cleaning import Cleaning


def picture(text: str) -> Tensor:
    rows = [[int(one) for one in line] for line in text.split()]
    return torch.tensor([rows], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({"largest_component": [1]}, "11001 11000 00011", "11000 11000 00000"),
        ({"largest_component": [1]}, "11000 11000 00110", "11000 11000 00110"),  # by a corner
        ({"largest_component": [1]}, "10100 00000 00001", "10000 00000 00000"),  # equal ones
        ({"min_pixels": {1: 3}}, "11001 11000 00011", "11000 11000 00000"),
        ({"min_pixels": {1: 2}}, "11001 11000 00011", "11000 11000 00011"[:12] + "00011"),
        ({"min_pixels": {1: 9}}, "11 11", "00 00"),
        ({"fill_holes": [1]}, "11100 10100 11100", "11100 11100 11100"),
        ({"fill_holes": [1]}, "01000 10100 01000", "01000 11100 01000"),  # edges enclose
        ({"fill_holes": [1]}, "11100 10000 11100", "11100 10000 11100"),
        ({"fill_holes": [1]}, "11111 10201 11111", "11111 11211 11111"),  # a tumour stays
        ({"largest_component": [2]}, "22011 22121 00111", "22011 22111 00111"),  # to the liver
        (
            {"min_pixels": {2: 2}, "largest_component": [1]},
            "11020 11000 00010",
            "11000 11000 00000",
        ),
        ({"min_pixels": {1: 2}, "fill_holes": [1]}, "11100 10101 11100", "11100 11100 11100"),
        ({"largest_component": [1]}, "00000 00200 00000", "00000 00200 00000"),
    ],
)
def test_what_is_removed_and_filled(settings: dict[str, Any], before: str, after: str) -> None:
    given = picture(before)
    assert Cleaning(**settings)(given).equal(picture(after))
    assert given.equal(picture(before))


def test_each_image_of_a_batch_is_cleaned_by_itself() -> None:
    both = torch.cat([picture("110 001"), picture("100 011")])
    expected = torch.cat([picture("110 001"), picture("100 011")])
    assert Cleaning(min_pixels={1: 2})(both).equal(expected)
    apart = torch.cat([picture("1100 0001"), picture("1000 0011")])
    assert Cleaning(largest_component=[1])(apart).tolist() == [
        [[1, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 1, 1]],
    ]


def test_a_volume_is_cleaned_as_a_whole() -> None:
    volume = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    volume[0, 0, :2, :2] = volume[0, 1, 2, 2] = 1  # touch at a corner of voxels
    volume[0, 2, 0, 3] = 1
    kept = Cleaning(largest_component=[1])(volume)
    assert kept.sum() == 5
    assert kept[0, 2, 0, 3] == 0


def test_removing_agrees_with_a_plain_flood_on_random_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    for smallest in (2, 5):
        classes = torch.randint(3, (1, 17, 23), generator=generator).to(torch.uint8)
        found = Cleaning(min_pixels={1: smallest})(classes)[0].numpy()
        expected = classes[0].numpy().copy()
        for component in components(expected == 1):
            if len(component) < smallest:
                around = [
                    int(classes[0, row + down, column + right])
                    for row, column in component
                    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
                    if 0 <= row + down < 17 and 0 <= column + right < 23
                    if (row + down, column + right) not in component
                ]
                heir = int(np.bincount(around).argmax())
                for place in component:
                    expected[place] = heir
        assert (found == expected).all()


def components(is_class: np.ndarray) -> list[set[tuple[int, int]]]:
    left = {(int(row), int(column)) for row, column in np.argwhere(is_class)}
    found = []
    while left:
        todo, component = [left.pop()], set()
        while todo:
            row, column = todo.pop()
            component.add((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
            todo += near & left
            left -= near
        found.append(component)
    return found


def test_classes_are_chosen_by_name() -> None:
    names = ["liver", "tumour"]
    assert Cleaning.of_names(names, 1) == Cleaning()
    assert not Cleaning()
    assert Cleaning.of_names(
        names, 1, min_pixels=5, largest_component=True, fill_holes=["tumour"]
    ) == Cleaning({1: 5, 2: 5}, (1, 2), (2,))
    assert Cleaning.of_names(names, 0, min_pixels={"tumour": 3}) == Cleaning({1: 3})
    with pytest.raises(
        ValueError, match=r"^largest_component names spleen; the classes are liver, tumour$"
    ):
        Cleaning.of_names(names, 1, largest_component=["spleen"])
    with pytest.raises(ValueError, match=r"^fill_holes is for classes on a background"):
        Cleaning.of_names(names, 0, fill_holes=True)
