import math

import numpy as np
import pytest
from scipy import stats

from liverseg.scores import Case, compare, unit_values
from liverseg.scores.intervals import signed_rank_p
from liverseg.scores.paired import Values, holm, mean_of


def values_of(numbers: list[float]) -> Values:
    return {f"p{place:02}": {"": number} for place, number in enumerate(numbers)}


def case(name: str, patient: str, *counts: int, hd95: float = math.nan) -> Case:
    return Case(name, patient, {"": (counts[0], counts[1], counts[2])}, {"": {"hd95": hd95}})


CASES = [case("a", "p1", 8, 2, 2), case("b", "p1", 0, 2, 0), case("c", "p2", 5, 0, 5)]


def test_counts_of_a_patient_are_summed_before_they_are_divided() -> None:
    assert unit_values(CASES, "dice", by_patient=True) == {
        "p1": {"": 16 / 22},
        "p2": {"": 10 / 15},
    }
    assert unit_values(CASES, "dice", by_patient=False)["b"] == {"": 0}


def test_classes_that_are_not_defined_are_left_out_of_a_patients_mean() -> None:
    one = Case("a", "p", {"liver": (6, 2, 2), "spleen": (0, 0, 0)}, {"liver": {}, "spleen": {}})
    assert unit_values([one], "rvd", by_patient=True) == {"p": {"": 0.0}}
    assert unit_values([one], "dice", by_patient=True) == {"p": {"": (12 / 16 + 1) / 2}}


def test_the_second_is_better_where_it_is_so_for_almost_every_patient() -> None:
    random = np.random.default_rng(0)
    first = random.beta(8, 2, 12)
    second = first + random.normal(0.03, 0.01, 12)
    (found,) = compare({"A": values_of([*first]), "B": values_of([*second])}, "dice")
    assert found.sentence().startswith("B is better: Dice of B less that of A is +0.0")
    assert found.mean == pytest.approx((second - first).mean())
    assert found.p == pytest.approx(stats.wilcoxon(second - first).pvalue)
    assert (found.wins, found.ties, found.losses) == (12, 0, 0)
    (turned,) = compare({"B": values_of([*second]), "A": values_of([*first])}, "dice")
    assert turned.sentence().startswith("B is better: Dice of A less that of B is -0.0")
    assert (turned.wins, turned.losses) == (0, 12)


def test_of_a_distance_the_smaller_is_better() -> None:
    first, second = [10.0 + place for place in range(8)], [9.0 + place * 0.9 for place in range(8)]
    (found,) = compare({"A": values_of(first), "B": values_of(second)}, "hd95")
    assert found.sentence().startswith("B is better")
    assert (found.wins, found.losses) == (8, 0)


def test_equal_runs_are_not_told_apart() -> None:
    same = values_of([0.1 * place for place in range(8)])
    (found,) = compare({"A": same, "B": same}, "dice")
    assert found.sentence().startswith("Neither is shown to be better")
    assert (found.p, found.ties, found.mean) == (1, 8, 0)


def test_five_patients_are_too_few() -> None:
    first, second = values_of([0.5] * 5), values_of([0.6, 0.61, 0.62, 0.63, 0.64])
    (found,) = compare({"A": first, "B": second}, "dice")
    assert found.sentence().startswith("5 patients are too few to tell them apart")
    assert found.p == pytest.approx(2 / 32)


@pytest.mark.parametrize(
    ("patients", "runs", "told"),
    [
        (6, "AB", "B is better"),  # p is 2 / 2**6 = 0.031
        (6, "ABC", "6 patients are too few to tell them apart among so many comp"),  # 3 * 0.031
        (7, "ABC", "B is better"),  # 3 * 2 / 2**7 = 0.047
        (9, "ABCDEF", "9 patients are too few to tell them apart among so many comp"),  # 0.059
        (10, "ABCDEF", "B is better"),  # 15 * 2 / 2**10 = 0.029
    ],
)
def test_how_many_are_too_few_depends_on_how_many_are_compared(
    patients: int, runs: str, told: str
) -> None:
    values = {
        name: values_of([0.1 * place + 0.001 * place * unit for unit in range(1, patients + 1)])
        for place, name in enumerate(runs)
    }
    first, *_ = compare(values, "dice")
    assert first.sentence().startswith(told)


def test_the_smallest_p_is_corrected_as_p_is() -> None:
    """B has a distance in 6 of 20: Holm takes 2 / 2**20 three times, and 2 / 2**6 twice."""
    a, c = values_of([1.0] * 20), values_of([2.0] * 20)
    b = values_of([3.0] * 6 + [math.inf] * 14)
    found = compare({"A": a, "B": b, "C": c}, "hd95")
    assert [one.least_p for one in found] == [2 * 2 / 2**6, 3 * 2 / 2**20, 2 * 2 / 2**6]


def test_each_is_compared_with_each_and_p_is_corrected() -> None:
    random = np.random.default_rng(1)
    base = random.random(10)
    runs = {
        name: values_of([*(base + shift)])
        for name, shift in zip("ABC", (0, 0.01, 0.02), strict=True)
    }
    found = compare(runs, "dice")
    assert [(one.first, one.second) for one in found] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [one.adjusted_p for one in found] == pytest.approx([3 * one.p for one in found])


def test_holm_by_hand() -> None:
    assert holm([0.02, 0.01, 0.5, 0.04]) == pytest.approx([0.06, 0.04, 0.5, 0.08])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_a_structure_without_a_distance_in_one_is_counted_and_not_averaged() -> None:
    first = {"p": {"a/": 3.0, "b/": math.inf, "c/": math.nan, "d/": math.inf}}
    second = {"p": {"a/": 5.0, "b/": 4.0, "c/": math.nan, "d/": math.inf}}
    (found,) = compare({"A": first, "B": second}, "hd95")
    assert [tuple(one) for one in found.differences] == [("p", 3.0, 5.0, 2.0)]
    assert found.one_sided == (1, 0)
    told = "; structures that have no distance: 1 with A alone, 0 with B alone, 1 with both"
    assert found.sentence().endswith(told)


def test_a_volume_that_is_made_up_is_told_by_patient() -> None:
    first = {"p": {"": 0.5}, "q": {"": 0.25}}
    (found,) = compare({"A": first, "B": {"p": {"": 0.25}, "q": {"": math.inf}}}, "rvd")
    assert "patients that have no relative volume difference: 0 with A" in found.sentence()


def test_a_false_alarm_counts_against_its_run_where_the_other_found_nothing() -> None:
    (found,) = compare({"A": {"p": {"a/": math.nan}}, "B": {"p": {"a/": 0.0}}}, "nsd")
    assert (found.mean, found.losses) == (-1, 1)
    (found,) = compare({"A": {"p": {"a/": math.nan}}, "B": {"p": {"a/": math.inf}}}, "hd95")
    assert (found.one_sided, found.differences) == ((0, 1), [])


def test_runs_that_repeat_one_another_are_averaged_and_folds_put_together() -> None:
    first, second = values_of([0.5, math.inf]), values_of([0.7, 2.0])
    assert mean_of([first, second, {"other": {"": 1.0}}], "hd95") == {
        "p00": {"": 0.6},
        "p01": {"": math.inf},
        "other": {"": 1.0},
    }


@pytest.mark.parametrize(
    ("word", "values", "mean"),
    [
        ("nsd", [0.0, math.nan, math.nan], 2 / 3),  # made up in one run, rightly empty in two
        ("nsd", [math.nan, math.nan], math.nan),
        ("hd95", [math.nan, math.inf], math.inf),  # made up in one run
        ("hd95", [3.0, math.inf, 5.0], math.inf),  # missed in one run
        ("hd95", [3.0, 5.0], 4.0),
        ("rvd", [0.25, 0.75], 0.5),
    ],
)
def test_what_is_missed_or_made_up_in_one_of_several_runs_is_not_forgotten(
    word: str, values: list[float], mean: float
) -> None:
    found = mean_of([{"p": {"a/": value}} for value in values], word)
    assert found == {"p": {"a/": pytest.approx(mean, nan_ok=True)}}


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [0.0] * 30])
def test_without_a_difference_p_is_one(numbers: list[float]) -> None:
    assert signed_rank_p(np.array(numbers)) == 1
