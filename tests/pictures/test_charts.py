import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from liverseg.pictures import charts
from liverseg.pictures.charts import Curve, draw_curves, read_curves
from liverseg.pictures.colours import class_colour
from liverseg.pictures.history import History, read_history

Written = tuple[str, int, float]
pytestmark = pytest.mark.usefixtures("rendered")


def write(folder: Path, points: Sequence[Written]) -> Path:
    """Log values as a run does, and return the file."""
    history = History(folder / "curves.csv")
    for name, step, value in points:
        history.log_metrics({name: value}, step)
    history.save()
    return folder / "curves.csv"


def epoch(number: int, steps: int, dice: float) -> list[Written]:
    """The scalars of an epoch, of 0, 1, ..., in the order in which a run writes them."""
    last = (number + 1) * steps - 1
    return [
        ("train/lr", last, 0.5**number),
        *(("val/dice", last, dice), ("train/loss", last, 1.0), ("train/dice", last, dice / 2)),
    ]


def curves_of(dice: Sequence[float], **others: Sequence[float]) -> dict[str, Curve]:
    """Curves with a point after each epoch; ``val_dice_liver`` is named ``val/dice/liver``."""
    named = {"val_dice": dice, **others}
    return {
        name.replace("_", "/"): [(place + 1.0, value) for place, value in enumerate(values)]
        for name, values in named.items()
    }


def data(line: Line2D) -> Curve:
    return list(zip(*map(np.ndarray.tolist, map(np.asarray, line.get_data())), strict=True))


def panel(figure: Any, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title("left").startswith(title))
    assert isinstance(found, Axes)
    return found


def lines(axes: Axes) -> dict[str, Curve]:
    return {str(line.get_label()): data(line) for line in axes.lines}


def test_points_stand_where_their_epoch_ends(tmp_path: Path) -> None:
    assert read_curves(write(tmp_path, [*epoch(0, 4, 0.25), *epoch(1, 4, 0.5)])) == {
        "train/lr": [(1, 1), (2, 0.5)],
        "val/dice": [(1, 0.25), (2, 0.5)],
        "train/loss": [(1, 1), (2, 1)],
        "train/dice": [(1, 0.125), (2, 0.25)],
    }


def test_what_lightning_adds_is_no_curve(tmp_path: Path) -> None:
    assert "epoch" not in read_curves(write(tmp_path, [("epoch", 3, 0.0), *epoch(0, 4, 0.25)]))


def test_epochs_without_a_validation_are_counted(tmp_path: Path) -> None:
    losses = [("train/loss", 3, 3.0), ("train/loss", 7, 2.0), ("train/loss", 11, 1.0)]
    scores = [("val/dice", 7, 0.5), ("train/dice", 3, 0.25), ("train/dice", 11, 0.5)]
    curves = read_curves(write(tmp_path, [*scores, *losses]))
    assert curves["val/dice"] == [(2, 0.5)]
    assert curves["train/dice"] == [(1, 0.25), (3, 0.5)]


def test_a_check_within_an_epoch_stands_within_it(tmp_path: Path) -> None:
    losses = [("train/loss", 3, 3.0), ("train/loss", 7, 2.0)]
    file = write(tmp_path, [("val/dice", 1, 0.25), ("val/dice", 5, 0.5), *losses])
    assert read_curves(file)["val/dice"] == [(0.5, 0.25), (1.5, 0.5)]


def test_what_a_resumed_run_logs_again_takes_the_place_of_what_stood_there(tmp_path: Path) -> None:
    file = write(tmp_path, [*epoch(0, 4, 0.25), *epoch(1, 4, 0.5), ("other", 7, 1 / 3)])
    before = file.read_text()
    write(tmp_path, epoch(1, 4, 0.5))
    assert sorted(file.read_text().split()) == sorted(before.split())
    write(tmp_path, epoch(0, 4, 0.75))
    assert read_history(file) == [
        (7, "other", 1 / 3),
        *((step, name, value) for name, step, value in epoch(0, 4, 0.75)),
    ]


def test_what_a_resumed_run_wrote_again_counts_once(tmp_path: Path) -> None:
    write(tmp_path, [*epoch(0, 4, 0.25), *epoch(1, 4, 0.5), *epoch(2, 4, 0.75)])
    assert read_curves(write(tmp_path, epoch(1, 4, 0.625))) == {
        "train/lr": [(1, 1), (2, 0.5)],
        "val/dice": [(1, 0.25), (2, 0.625)],
        "train/loss": [(1, 1), (2, 1)],
        "train/dice": [(1, 0.125), (2, 0.3125)],
    }


def test_a_line_cut_off_by_a_kill_is_left_out_and_others_follow(tmp_path: Path) -> None:
    file = write(tmp_path, [*epoch(0, 4, 0.25), *epoch(1, 4, 0.5)])
    whole = file.read_bytes()
    for lost in range(6, 24):
        file.write_bytes(whole[:-lost])
        assert read_curves(file)["val/dice"] == [(1, 0.25), (2, 0.5)]
        assert read_curves(file)["train/dice"] == [(1, 0.125)]
        write(tmp_path, epoch(1, 4, 0.625))
        assert read_curves(file)["val/dice"] == [(1, 0.25), (2, 0.625)]


def test_where_no_epoch_has_been_scored_there_is_no_curve(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "missing.csv") == {}
    assert read_curves(write(tmp_path, [("train/lr", 0, 1.0)])) == {}


def test_each_panel_shows_its_score_the_best_epoch_and_the_test_score(tmp_path: Path) -> None:
    file = tmp_path / "pictures" / "curves.png"
    curves = curves_of(
        [0.25, 0.75, 0.5],
        train_dice=[0.5, 0.5, 0.625],
        val_loss=[3, 2, 1],
        train_iou=[0.125, 0.25, 0.5],
    )
    curves["train/lr"] = [(1, 0.1), (2, 0.05), (3, 0.01)]
    figure = draw_curves(file, curves, test={"test/dice": 0.625, "test/loss": 2.5, "val/dice": 0})
    assert (
        lines(panel(figure, "Dice")).items()
        >= {
            "train": [(1, 0.5), (2, 0.5), (3, 0.625)],
            "val": [(1, 0.25), (2, 0.75), (3, 0.5)],
            "test": [(2, 0.625)],
        }.items()
    )
    title = panel(figure, "Dice").get_title("right")
    assert title == "epoch 2:  train 0.500  val 0.750  test 0.625"
    assert lines(panel(figure, "loss"))["test"] == [(2, 2.5)]
    assert lines(panel(figure, "loss"))["train"] == []
    assert "test" not in lines(panel(figure, "IoU"))
    rate = panel(figure, "learning rate").lines[0]
    assert data(rate) == [(0, 0.1), (1, 0.1), (2, 0.05), (3, 0.01)]
    assert rate.get_drawstyle() == "steps-pre"
    assert figure is not None
    for axes in figure.axes:
        assert data(axes.lines[-1]) == [(2, 0), (2, 1)]  # the best epoch, over the whole height
        assert axes.get_xlim()[0] == 0
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["train", "val", "test", "best epoch by val/dice: 2 of 3"]
    with Image.open(file) as picture:
        assert (picture.format, picture.size) == ("PNG", (1200, 780))
        assert len(picture.convert("L").getcolors() or []) > 20  # something is on it


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [("val/dice", "max", 2), ("val/loss", "min", 3), ("val/iou", "max", 1), ("val/no", "max", 0)],
)
def test_the_best_epoch_is_that_of_the_monitored_score(
    monitor: str, mode: Any, best: int, tmp_path: Path
) -> None:
    curves = curves_of([0.25, 0.75, 0.75], val_loss=[math.nan, 2, 1], val_iou=[0.5, math.nan, 0.25])
    figure = draw_curves(tmp_path / "a.png", curves, monitor=monitor, mode=mode)
    assert figure is not None
    (label,) = [text.get_text() for text in figure.legends[0].get_texts()][2:] or [""]
    assert label == (f"best epoch by {monitor}: {best} of 3" if best else "")


@pytest.mark.parametrize(
    ("monitor", "title"),
    [
        ("val/dice", "Dice (per image)"),
        ("val/loss", "Dice (per image)"),
        ("val/iou_pooled", "Dice (pooled)"),
        ("val/dice_case", "Dice (per case)"),
    ],
)
def test_the_average_shown_is_the_monitored_one(monitor: str, title: str, tmp_path: Path) -> None:
    curves: dict[str, Curve] = {
        "val/dice": [(1, 0.25)],
        "val/dice_pooled": [(1, 0.5)],
        "val/dice_case": [(1, 0.75)],
        "val/iou_pooled": [(1, 0.125)],
    }
    figure = draw_curves(tmp_path / "a.png", curves, monitor=monitor)
    expected = {"Dice (per image)": 0.25, "Dice (pooled)": 0.5, "Dice (per case)": 0.75}[title]
    assert lines(panel(figure, title))["val"] == [(1, expected)]


def names_of_classes(figure: Figure | None) -> dict[str, Any]:
    """Return the colour and style of each class in the legend at the side."""
    assert figure is not None
    _, legend = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    styles = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    return dict(zip(texts, styles, strict=True))


def test_classes_have_thin_lines_with_their_names(tmp_path: Path) -> None:
    classes = {"val_dice_liver": [0.5, 0.75], "val_dice_$\\b$": [0.25, 0.5]}
    figure = draw_curves(tmp_path / "a.png", curves_of([0.375, 0.625], **classes))
    axes = panel(figure, "Dice")
    assert [data(line) for line in axes.lines[:2]] == [[(1, 0.5), (2, 0.75)], [(1, 0.25), (2, 0.5)]]
    assert axes.lines[0].get_linewidth() < axes.lines[2].get_linewidth()
    assert list(names_of_classes(figure)) == ["liver", "$\\b$"]  # no formula


def test_twenty_classes_have_names_and_lines_of_their_own_within_the_picture(
    tmp_path: Path,
) -> None:
    classes = {f"val_dice_{place}": [place / 20] for place in range(20)}
    figure = draw_curves(tmp_path / "a.png", curves_of([0.25], **classes))
    axes = panel(figure, "Dice")
    assert [data(line) for line in axes.lines[:20]] == [[(1, place / 20)] for place in range(20)]
    shown = names_of_classes(figure)
    assert list(shown) == [str(place) for place in range(20)]
    assert len(set(shown.values())) == 20
    assert [line.get_color() for line in axes.lines[:20]] == [
        colour for colour, _ in shown.values()
    ]
    assert figure is not None
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_no_class_is_lost_on_white_paper() -> None:
    for index in range(1, 21):
        red, green, blue = charts._on_paper(class_colour(index))
        assert 0.3 * red + 0.6 * green + 0.1 * blue < 0.66


def test_a_single_epoch_is_drawn_as_points(tmp_path: Path) -> None:
    figure = draw_curves(tmp_path / "a.png", curves_of([0.25], train_dice=[0.5]))
    axes = panel(figure, "Dice")
    assert {line.get_marker() for line in axes.lines[:2]} == {"o"}
    assert [tick for tick in axes.get_xticks() if 0 <= tick <= 1] == [0, 1]


def test_a_long_run_is_drawn_without_points(tmp_path: Path) -> None:
    figure = draw_curves(tmp_path / "a.png", curves_of([0.5] * 200))
    assert panel(figure, "Dice").lines[1].get_marker() == "None"


def test_a_value_that_is_no_number_is_a_gap(tmp_path: Path) -> None:
    figure = draw_curves(tmp_path / "a.png", curves_of([0.25, math.nan, 0.5]))
    values = [value for _, value in lines(panel(figure, "Dice"))["val"]]
    assert values[::2] == [0.25, 0.5]
    assert math.isnan(values[1])


def test_a_class_that_is_never_found_is_seen_above_the_axis(tmp_path: Path) -> None:
    figure = draw_curves(tmp_path / "a.png", curves_of([0.25, 0.5], val_dice_liver=[0.0, 0.0]))
    assert panel(figure, "Dice").get_ylim() == (-0.02, 1.02)


def test_without_a_score_nothing_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "curves.png"
    assert draw_curves(file, {}) is None
    assert draw_curves(file, {"train/lr": [(1, 0.1)], "val/dice": []}) is None
    assert not file.exists()


def test_drawing_leaves_random_numbers_and_settings_as_they_are(tmp_path: Path) -> None:
    import matplotlib

    def state() -> tuple[object, ...]:
        numpy_state = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
        return random.getstate(), torch.get_rng_state().tolist(), numpy_state

    before, settings = state(), dict(matplotlib.rcParams)
    draw_curves(tmp_path / "a.png", curves_of([0.25, 0.5]))
    assert state() == before
    assert dict(matplotlib.rcParams) == settings
