import math

import numpy as np
import pytest
from scipy import stats

from liverseg.scores.intervals import Interval, mean_interval, ratio_interval


def test_a_mean_of_few_has_the_interval_of_student() -> None:
    values = np.array([0.8, 0.9, 0.7, 0.85])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.estimate, found.num_units) == (pytest.approx(values.mean()), 4)


def test_the_bootstrap_of_many_comes_near_student_and_leans_to_the_long_tail() -> None:
    values = np.random.default_rng(0).beta(12, 2, 40)
    found = mean_interval(values, least=0, most=1)
    expected = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected, abs=0.01)
    assert found.estimate - found.low > found.high - found.estimate


def test_an_end_within_that_of_student_goes_half_of_the_way_there() -> None:
    values = np.random.default_rng(5).lognormal(1, 0.6, 10)
    mean, error, t = values.mean(), stats.sem(values), stats.t.ppf(0.975, 9)
    ratios = []
    for places in np.random.default_rng(0).integers(0, 10, (2000, 10)):
        ratios.append((values[places].mean() - mean) / stats.sem(values[places]))
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert low < -t  # the long tail is on the right
    assert high < t
    found = mean_interval(values)
    assert found is not None
    assert found.high == pytest.approx(mean - low * error)
    assert found.low == pytest.approx(mean - (high + t) / 2 * error)


def test_an_end_lies_no_further_out_than_twice_that_of_student() -> None:
    values = np.array([0.8, 0.9, 1.0, 1.1, 21.6])  # resamples of the first four alone agree
    found = mean_interval(values)
    assert found is not None
    half = stats.t.ppf(0.975, 4) * stats.sem(values)
    assert found.high == pytest.approx(5.08 + 2 * half)
    assert found.low == pytest.approx(5.08 - half, rel=0.5)


def test_an_interval_stays_within_what_a_score_can_be() -> None:
    found = mean_interval(np.array([0.2, 1.0, 1.0]), least=0, most=1)
    assert found is not None
    assert (found.low, found.high) == (0, 1)


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=20)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_one_patient_or_none_has_no_interval() -> None:
    assert mean_interval(np.array([0.5])) is None
    assert mean_interval(np.array([])) is None


def test_equal_patients_have_an_interval_of_no_width() -> None:
    assert mean_interval(np.full(12, 0.5)) == Interval(0.5, 0.5, 0.5, 12)


@pytest.mark.parametrize("size", [5, 20])
def test_patients_of_whom_most_are_equal_have_an_interval(size: int) -> None:
    values = np.ones(size)
    values[0] = 0.2
    found = mean_interval(values, least=0, most=1)
    assert found is not None
    assert 0 <= found.low < found.estimate <= found.high <= 1


def test_a_quotient_of_sums_weighs_patients_by_what_they_add() -> None:
    # Pooled Dice: 2TP above, 2TP + FP + FN below.
    above, below = np.array([[180.0], [10.0], [0.0]]), np.array([[201.0], [15.0], [0.0]])
    found = ratio_interval(above, below, below, least=0, most=1)
    assert found is not None
    assert found.estimate == pytest.approx(190 / 216)
    assert found.num_units == 2  # the third adds nothing


def test_classes_that_occur_nowhere_are_left_out() -> None:
    above = np.array([[1.0, 0.0], [0.5, 0.0], [0.6, 0.0]])
    ones = np.array([[1.0, 0.0]] * 3)
    found = ratio_interval(above, ones, ones)
    alone = ratio_interval(above[:, :1], ones[:, :1], ones[:, :1])
    assert found == alone
    assert ratio_interval(above[:, 1:], ones[:, 1:], ones[:, 1:]) is None


def test_memory_in_parts_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random(30)
    whole = mean_interval(values)
    monkeypatch.setattr("liverseg.scores.intervals._MOST_VALUES", 1000)
    assert mean_interval(values) == whole


def test_no_interval_is_not_a_number() -> None:
    random = np.random.default_rng(3)
    for size in (2, 3, 7, 8, 9, 50, 301):
        found = mean_interval(random.integers(0, 2, size).astype(float), least=0, most=1)
        assert found is not None
        assert all(map(math.isfinite, (found.low, found.high)))
