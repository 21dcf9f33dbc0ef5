import math
from collections.abc import Sequence

import pytest

from liverseg.sweeps.statistics import (
    Group,
    format_groups,
    group_rows,
    labels,
    summarise,
)
from liverseg.sweeps.table import Row


def job(overrides: Sequence[str], status: str = "done", **scores: float) -> Row:
    named = {name.replace("_", "/"): value for name, value in scores.items()}
    return {"job": "0", "overrides": list(overrides), "status": status, "duration": 3.0, **named}


SHOWN = ["val/dice", "test/dice"]
# Two-sided 5 % points, as tables of the distribution print them.
TABLE = {
    **{1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 10: 2.228},
    **{29: 2.045, 30: 2.042, 100: 1.984, 10_000: 1.960},
}


@pytest.mark.parametrize(("degrees_of_freedom", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_published_table(
    degrees_of_freedom: int, quantile: float
) -> None:
    summary = summarise([0] * degrees_of_freedom + [1])
    assert summary.std is not None
    assert summary.high is not None
    half = summary.high - summary.mean
    t = half / summary.std * math.sqrt(degrees_of_freedom + 1)
    assert t == pytest.approx(quantile, abs=5e-4)


def test_three_values_are_summarised_as_by_hand() -> None:
    summary = summarise([1, 2, 3])
    half = 4.302653 / math.sqrt(3)
    assert (summary.mean, summary.std) == (2, 1)
    assert summary.low == pytest.approx(2 - half, abs=1e-6)
    assert summary.high == pytest.approx(2 + half, abs=1e-6)


def test_one_value_has_no_interval() -> None:
    summary = summarise([0.5])
    assert summary.mean == 0.5
    assert (summary.std, summary.low, summary.high) == (None, None, None)
    assert str(summary) == "0.500 (one value, no interval)"


def test_equal_values_have_an_interval_of_no_width() -> None:
    summary = summarise([0.5, 0.5])
    assert (summary.std, summary.low, summary.high) == (0, 0.5, 0.5)


def test_a_value_that_is_no_number_is_not_hidden() -> None:
    for bad in (math.nan, math.inf):
        summary = summarise([0.5, bad])
        assert not math.isfinite(summary.mean)
        assert summary.low is not None
        assert math.isnan(summary.low)


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^fmean requires at least one data point$"):
        summarise([])


def test_jobs_that_differ_in_seed_and_fold_alone_are_one_group() -> None:
    rows = [
        job(["model=unet", "seed=1"], val_dice=0.5, test_dice=0.25),
        job(["model=unet_small", "seed=1"], val_dice=0.25),
        job(["seed=2", "model=unet"], val_dice=0.75),
        job(["+data.fold=1", "fold=3", "model=unet"], val_dice=1.0),
    ]
    unet, small = group_rows(rows)
    assert unet.setting == {"model": "unet"}
    assert unet.values == {"val/dice": (0.5, 0.75, 1.0), "test/dice": (0.25,)}
    assert unet.scores["val/dice"].mean == 0.75
    assert (small.setting, small.num_jobs) == ({"model": "unet_small"}, 1)
    assert small.values["val/dice"] == (0.25,)


def test_a_seed_of_something_else_tells_settings_apart() -> None:
    rows = [job([f"data.phantom.seed={seed}"], val_dice=0.5) for seed in (1, 2)]
    assert len(group_rows(rows)) == 2


def test_what_repeats_a_setting_can_be_chosen() -> None:
    rows = [job([f"seed={seed}", f"data.batch_size={seed}"], val_dice=0.5) for seed in (1, 2)]
    assert len(group_rows(rows)) == 2
    (group,) = group_rows(rows, over=("seed", "data.batch_size"))
    assert (group.setting, group.num_jobs) == ({}, 2)


def test_jobs_that_did_not_finish_do_not_count_but_are_shown() -> None:
    rows = [
        job(["seed=1"], val_dice=0.5),
        job(["seed=2"], status="failed", val_dice=0.0),
        job(["seed=3"], status="interrupted"),
    ]
    (group,) = group_rows(rows)
    assert (group.num_jobs, group.num_finished, group.values) == (3, 1, {"val/dice": (0.5,)})
    assert format_groups([group], ["val/dice"]) == (
        "all jobs   n 1 (2 not finished)   val/dice 0.500 (one value, no interval)"
    )


def test_a_label_leaves_out_what_all_settings_share() -> None:
    settings = [{"model.depth": "3", "loss": loss} for loss in ("dice", "bce")]
    assert labels(settings) == ["loss=dice", "loss=bce"]
    assert labels([*settings, {"model.depth": "3"}]) == ["loss=dice", "loss=bce", "no overrides"]
    assert labels(settings[:1]) == ["all jobs"]
    assert labels([]) == []


def test_groups_are_shown_in_aligned_columns() -> None:
    rows = [
        *(job(["model=unet"], val_dice=value) for value in (0.8, 0.81, 0.82)),
        job(["model=unet_small"], val_dice=0.5, test_dice=0.25),
        job(["model=unet_paper"], status="failed"),
    ]
    assert format_groups(group_rows(rows), SHOWN).splitlines() == [
        "model=unet         n 3                    val/dice 0.810 ± 0.010 (95 % CI 0.785 to 0.835)",
        "model=unet_small   n 1                    "
        "val/dice 0.500 (one value, no interval)           "
        "test/dice 0.250 (one value, no interval)",
        "model=unet_paper   n 0 (1 not finished)",
    ]
    assert format_groups([], []) == ""


def test_a_group_summarises_each_score_over_the_jobs_that_have_it() -> None:
    group = Group({}, 2, 2, {"val/dice": (0.5, 1.0), "test/dice": (0.5,)})
    assert (group.scores["val/dice"].mean, group.scores["test/dice"].std) == (0.75, None)
