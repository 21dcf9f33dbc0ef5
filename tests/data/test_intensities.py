from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from liverseg.data.intensities import (
    PERCENTILES,
    Intensities,
    distance,
    far_apart,
    histogram,
    sample_statistics,
)


def of(*values: float, levels: int = 100) -> Intensities:
    """Intensities of flat images."""
    images = [
        torch.full((1, levels, levels), round(value * 255), dtype=torch.uint8) for value in values
    ]
    return Intensities([histogram(image) for image in images])


def test_each_image_counts_the_same_whatever_its_size() -> None:
    large, small = torch.zeros(1, 50, 50, dtype=torch.uint8), torch.full((1, 2, 2), 255).byte()
    found = Intensities([histogram(large), histogram(small)]).statistics()
    assert found["mean"] == pytest.approx(0.5)
    assert found["std"] == pytest.approx(0.5)
    assert found["black"] == pytest.approx(0.5)


def test_percentiles_are_those_of_the_values() -> None:
    ramp = torch.arange(100).repeat(100, 1)[None].byte()  # each of 0 ... 99 as often
    found = Intensities([histogram(ramp)]).statistics()
    wanted = np.percentile(ramp.numpy() / 255, PERCENTILES, method="inverted_cdf")
    assert found["percentiles"] == pytest.approx(wanted, abs=1e-5)


def test_floats_and_bytes_of_one_image_are_the_same() -> None:
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    assert (histogram(image) == histogram(image / 255)).all()


def test_the_distance_of_two_flat_folders_is_that_of_their_values() -> None:
    assert distance(of(0.2).statistics(), of(0.6).statistics()) == pytest.approx(0.4, abs=0.005)


def test_a_folder_is_far_where_it_differs_by_more_than_single_images_do() -> None:
    reference = of(*np.linspace(0.3, 0.5, 50)).statistics()
    assert far_apart(of(*np.linspace(0.32, 0.52, 50)).statistics(), reference) is None
    assert far_apart(of(0.5).statistics(), reference) is None  # one odd image is one
    words = far_apart(of(*np.linspace(0.6, 0.8, 50)).statistics(), reference)
    assert words == "mean 0.700 against 0.400, median 0.698 against 0.396, 0% black against 0%"


def test_folders_that_differ_in_no_mean_nor_median_are_told_by_what_differs() -> None:
    """A sixth of the pixels is 51 of 255 in one, 77 in the other; all others are alike."""

    def folder(low: int) -> Intensities:
        values = torch.tensor([low, 128, 128, 128, 128, 200], dtype=torch.uint8)
        return Intensities([histogram(values.repeat(30).view(1, 6, 30))] * 50)

    assert far_apart(folder(77).statistics(), folder(51).statistics()) == (
        "mean 0.516 against 0.499, median 0.502 against 0.502, 0% black against 0%, 1st percentile "
        "0.302 against 0.200"
    )


def test_many_slices_of_one_patient_are_as_odd_as_one() -> None:
    reference = of(*np.linspace(0.3, 0.5, 50)).statistics()  # of which 90 in 100 are within 0.09
    these = of(*np.linspace(0.42, 0.62, 50)).statistics()  # 0.12 further up
    assert far_apart(these, reference) is not None  # 0.65 + 1 / sqrt(50) times 0.09 is 0.07
    assert far_apart(these, reference, num_independent=1) is None  # 1.65 times 0.09 is 0.15
    assert far_apart(these, reference, num_independent=4) is not None  # 1.15 times is 0.10


@pytest.mark.parametrize(
    "held", [None, {}, "text", {"percentiles": [0.5]}, {**of(0.5).statistics(), "spread": "wide"}]
)
def test_a_checkpoint_that_knows_nothing_of_it_is_silent(held: object) -> None:
    assert far_apart(of(0.1).statistics(), held) is None  # type: ignore[arg-type]
    assert far_apart({}, of(0.1).statistics()) is None


def test_a_sample_passes_over_what_cannot_be_read(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 51).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    found = sample_statistics([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"], 1)
    assert (found["images"], found["mean"]) == (1, pytest.approx(0.2))
    assert sample_statistics([], 1) == {}


def test_of_many_images_some_are_read(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 51).save(tmp_path / "a.png")
    assert sample_statistics([tmp_path / "a.png"] * 1000, 1)["images"] == 250
