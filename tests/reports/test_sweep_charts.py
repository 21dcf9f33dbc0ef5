import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image

from liverseg.reports import draw_comparison
from liverseg.sweeps import Row


def job(overrides: str, val: float | None = None, test: float | None = None) -> Row:
    """A job by its overrides, which finished if it has a val score."""
    scores = {"val/dice": val, "test/dice": test}
    known = {name: value for name, value in scores.items() if value is not None}
    told = {"status": "failed" if val is None else "done", "monitor": "val/dice", "mode": "max"}
    return {"job": "0", "overrides": overrides.split(), **told, **known}


def points(line: Line2D) -> list[tuple[float, float]]:
    x, y = (np.asarray(values).tolist() for values in line.get_data())
    return list(zip(x, y, strict=True))


def drawn(axes: Axes, marker: str) -> list[list[tuple[float, float]]]:
    return [points(line) for line in axes.lines if line.get_marker() == marker]


def table(figure: Any) -> list[list[str]]:
    """The table beside the rows, its header first."""
    lines = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(map(len, lines))) == 1, "the columns are not aligned"
    return [line.split("  ") for line in lines]


def words(figure: Any) -> list[str]:
    """The table as lines of words."""
    return [" ".join(word.strip() for word in line if word) for line in table(figure)]


def figures_beside(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def note(figure: Any) -> str:
    return str(figure.get_supxlabel())


def test_each_setting_is_a_row_with_its_jobs_mean_and_interval(tmp_path: Path) -> None:
    rows = [
        *(job(f"model=unet seed={seed}", seed / 10, 0.5) for seed in (1, 2, 3)),
        *(job(f"model=unet_small seed={seed}", 0.5, 0.25) for seed in (1, 2)),
    ]
    file = tmp_path / "sweep" / "comparison.png"
    figure = draw_comparison(file, rows)
    assert figure is not None
    assert words(figure) == ["model jobs", "unet_small 2", "unet 3"]  # the best on top
    val, test = figure.axes
    assert [axes.get_title("left") for axes in (val, test)] == ["val/dice", "test/dice"]
    assert [[x for x, _ in dots] for dots in drawn(val, "o")] == [[0.5, 0.5], [0.1, 0.2, 0.3]]
    assert [[x for x, _ in mean] for mean in drawn(val, "|")] == [[0.5], [pytest.approx(0.2)]]
    half = 4.302653 * 0.1 / math.sqrt(3)
    (low, _), (high, _) = drawn(val, "None")[1]
    assert (low, high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert figures_beside(val) == ["0.500 ± 0.000", "0.200 ± 0.100"]
    assert figures_beside(test) == ["0.250 ± 0.000", "0.500 ± 0.000"]
    header, top, bottom = val.get_yticks()
    assert val.get_ylim()[1] < header < top < bottom < val.get_ylim()[0]  # the axis points down
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert 600 < picture.width < 2000
        assert 150 < picture.height < 600


def test_settings_that_are_not_repeated_have_no_interval(tmp_path: Path) -> None:
    figure = draw_comparison(
        tmp_path / "a.png", [job("loss=bce", 0.25), job("loss=dice", 0.5), job("loss=x", 0.125)]
    )
    assert figure is not None
    (val,) = figure.axes  # no job has a test score
    assert [[x for x, _ in dots] for dots in drawn(val, "o")] == [[0.5], [0.25], [0.125]]
    assert (drawn(val, "|"), drawn(val, "None")) == ([], [])
    assert note(figure) == "dot: a job"


def test_a_number_swept_over_three_values_is_the_axis(tmp_path: Path) -> None:
    rows = [
        job(f"optimizer.lr={lr} seed={seed} trainer.max_epochs=3", value + seed / 10)
        for lr, value in (("1e-2", 0.5), ("1e-4", 0.125), ("0.001", 0.25))
        for seed in (1, 2)
    ]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    (val,) = figure.axes
    assert (val.get_xlabel(), val.get_xscale()) == ("optimizer.lr", "log")
    assert [label.get_text() for label in val.get_xticklabels()] == ["1e-4", "0.001", "1e-2"]
    (means,) = drawn(val, "_")
    assert [x for x, _ in means] == [1e-4, 1e-3, 1e-2]
    assert [y for _, y in means] == pytest.approx([0.275, 0.4, 0.65])
    assert drawn(val, "o")[0] == [(1e-4, pytest.approx(0.225)), (1e-4, pytest.approx(0.325))]
    half = 12.7062 * (0.1 / math.sqrt(2)) / math.sqrt(2)
    bar = drawn(val, "None")[0]
    assert [y for _, y in bar] == pytest.approx([0.275 - half, 0.275 + half], abs=1e-5)
    assert figure.legends == []


def test_long_fractions_are_shown_short(tmp_path: Path) -> None:
    chosen = ("0.0011781448719376517", "0.02", "0.3")  # as a search draws them
    lines = [job(f"lr={lr} dropout=0.{place}12345678", 0.5) for place, lr in enumerate(chosen)]
    figure = draw_comparison(tmp_path / "rows.png", lines)
    assert words(figure)[1:] == ["0.001178 0.01235", "0.02 0.1123", "0.3 0.2123"]
    lines = [job(f"lr={lr} dropout={one}", 0.5) for lr in chosen for one in ("0.1", "0.12345678")]
    figure = draw_comparison(tmp_path / "lines.png", lines)
    assert figure is not None
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["0.001178", "0.02", "0.3"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["dropout=0.1", "dropout=0.1235"]


def test_numbers_close_together_have_a_linear_axis(tmp_path: Path) -> None:
    rows = [job(f"model.depth={depth}", depth / 10) for depth in (2, 3, 4)]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert figure.axes[0].get_xscale() == "linear"
    low, high = figure.axes[0].get_xlim()
    assert low < 2 < 4 < high


def test_each_choice_of_the_rest_has_a_line(tmp_path: Path) -> None:
    rows = [
        job(f"model={model} optimizer.lr={lr}", value)
        for model, value in (("unet", 0.25), ("unet_small", 0.5))
        for lr in ("1", "2", "3")
    ]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    lines = drawn(figure.axes[0], "_")
    assert lines == [[(x, y) for x in (1, 2, 3)] for y in (0.25, 0.5)]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["model=unet", "model=unet_small"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["lr=1", "lr=2"],  # two values
        ["lr=1", "lr=2", "lr=auto"],  # not all are numbers
        ["lr=1", "lr=2", "width=3"],  # not in every job
        [f"lr={lr} loss={loss}" for lr in (1, 2, 3) for loss in "abcdefg"],  # seven lines
        [f"lr={lr} width={width}" for lr, width in ((1, 5), (2, 6), (3, 7))],  # both change
    ],
)
def test_what_makes_no_line_makes_rows(overrides: Sequence[str], tmp_path: Path) -> None:
    figure = draw_comparison(tmp_path / "a.png", [job(one, 0.5) for one in overrides])
    assert figure is not None
    assert len(table(figure)) == 1 + len(overrides)


def test_jobs_that_did_not_finish_are_said(tmp_path: Path) -> None:
    rows = [job("loss=a seed=1", 0.5), job("loss=a seed=2"), job("loss=b seed=1")]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert words(figure) == ["loss jobs", "a 1 of 2", "b 0 of 1"]
    assert note(figure).endswith("2 of 3 jobs did not finish")


def test_the_table_shows_what_differs_by_the_last_word_of_its_key(tmp_path: Path) -> None:
    rows = [
        job("a.lr=1 b.lr=2 model.depth=3 trainer.max_epochs=9", 0.75),
        job("a.lr=2 b.lr=3 model.depth=4 trainer.max_epochs=9 loss=" + "x" * 40, 0.5),
    ]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert words(figure) == ["a.lr b.lr depth loss", "1 2 3", f"2 3 4 {'x' * 31}…"]


@pytest.mark.parametrize("count", [2, 3])  # rows, a line
def test_dollars_in_overrides_begin_no_formula(count: int, tmp_path: Path) -> None:
    rows = [
        job(f"model={model} model.depth={depth}", 0.5)
        for model in ("${a}$", "$\\b$")
        for depth in range(count)
    ]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    texts = figure.legends[0].get_texts() if count == 3 else figure.axes[0].get_yticklabels()
    assert any("$\\b$" in text.get_text() for text in texts)


def test_of_a_single_setting_each_job_is_a_row_and_all_are_the_last(tmp_path: Path) -> None:
    fixed = f"model=unet data.root=/{'x' * 60} monitor=val/dice trainer.max_epochs=300"
    rows = [job(f"{fixed} fold={fold}", value) for fold, value in enumerate((0.5, 0.7, 0.6))]
    file = tmp_path / "a.png"
    figure = draw_comparison(file, rows)
    assert figure is not None
    assert words(figure) == ["fold jobs", "0 1", "1 1", "2 1", "3"]
    (val,) = figure.axes
    assert [[x for x, _ in dots] for dots in drawn(val, "o")] == [
        [0.5],
        [0.7],
        [0.6],
        [0.5, 0.7, 0.6],
    ]
    assert [x for ((x, _),) in drawn(val, "|")] == [pytest.approx(0.6)]
    assert figures_beside(val) == ["0.500", "0.700", "0.600", "0.600 ± 0.100"]
    with Image.open(file) as picture:
        assert picture.width < 2 * picture.height * 2


def test_a_single_job_shows_its_score_alone(tmp_path: Path) -> None:
    figure = draw_comparison(tmp_path / "a.png", [job("loss=a model.depth=3", 0.5)])
    assert words(figure) == ["jobs", "1"]


def test_many_long_settings_make_no_wide_picture(tmp_path: Path) -> None:
    rows = [
        job(" ".join(f"group{key}.a_long_name{key}={'x' * 30}{place}" for key in range(12)), 0.5)
        for place in range(2)
    ]
    file = tmp_path / "a.png"
    draw_comparison(file, rows)
    with Image.open(file) as picture:
        assert picture.width < 2000


def test_of_many_settings_the_best_thirty_are_drawn(tmp_path: Path) -> None:
    rows = [job(f"loss={place}x", place / 100) for place in range(40)]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert words(figure) == ["loss", *(f"{place}x" for place in range(39, 9, -1))]
    assert note(figure).endswith("the best 30 of 40 settings")


def test_a_score_that_is_no_number_comes_last(tmp_path: Path) -> None:
    rows = [job("loss=a", math.nan), job("loss=b", 0.25), job("loss=c", 0.5)]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert words(figure) == ["loss", "c", "b", "a"]
    low, high = figure.axes[0].get_xlim()
    assert 0.2 < low < 0.25 < 0.5 < high < 0.55


def test_the_axis_ends_where_scores_do(tmp_path: Path) -> None:
    rows = [job(f"seed={seed}", value) for seed, value in enumerate((0.0, 1.0))]
    figure = draw_comparison(tmp_path / "a.png", rows)  # its interval is -5.9 ... 6.9
    assert figure is not None
    assert figure.axes[0].get_xlim() == (-0.005, 1.005)


def test_the_score_that_is_monitored_is_drawn(tmp_path: Path) -> None:
    scores = {"val/dice": 0.5, "val/dice_case": 0.25, "test/dice_case": 0.125}
    row = {**job("loss=a", 0.5), **scores, "monitor": "val/dice_case"}
    figure = draw_comparison(tmp_path / "a.png", [row])
    assert figure is not None
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["val/dice_case", "test/dice_case"]
    assert [drawn(axes, "o")[0][0][0] for axes in figure.axes] == [0.25, 0.125]


def test_a_loss_is_best_where_it_is_smallest_and_may_exceed_one(tmp_path: Path) -> None:
    monitor = {"monitor": "val/loss", "mode": "min"}
    rows = [
        {**job(f"loss={name}", 0.5), **monitor, "val/loss": value}
        for name, value in (("a", 3.0), ("b", 0.5), ("c", math.nan), ("d", 1.5))
    ]
    figure = draw_comparison(tmp_path / "a.png", rows)
    assert figure is not None
    assert words(figure) == ["loss", "b", "d", "a", "c"]
    assert figure.axes[0].get_xlim()[1] > 3


def test_without_a_finished_job_nothing_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "comparison.png"
    assert draw_comparison(file, []) is None
    assert draw_comparison(file, [job("loss=a"), job("loss=b")]) is None
    assert not file.exists()


def test_letters_that_no_font_has_bring_no_warning_of_matplotlib(tmp_path: Path) -> None:
    rows = [job(f"model={name}", 0.5) for name in ("\u809d\u81d3", "unet")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_comparison(tmp_path / "a.png", rows) is not None
