import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from sketches import ALL_PICTURES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from liverseg.experiment import evaluate, train
from liverseg.pictures import gallery
from liverseg.pictures.cases import Case, draw_case
from liverseg.pictures.ranking import Rank

Compose = Callable[..., DictConfig]


class Drawn:
    """Keeps what is drawn, in place of drawing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captions: list[str] = []
        self.predicted: list[int] = []
        self.columns: list[list[str]] = []
        monkeypatch.setattr(gallery, "draw_case", self.one)
        monkeypatch.setattr(gallery, "draw_best_and_worst", self.two)

    def one(
        self,
        image: Tensor,
        prediction: Tensor,
        truth: Tensor,
        *,
        caption: str,
        class_names: list[str],
        has_background: bool,
        **layout: int,
    ) -> Tensor:
        assert has_background
        assert class_names == ["liver"]
        assert image.shape[-2:] == prediction.shape == truth.shape == (32, 32)
        assert 0 <= image.min() < image.max() <= 1
        self.captions.append(caption)
        self.predicted.append(int((prediction > 0).sum()))
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    def two(self, best: list[Case], worst: list[Case], **names: Any) -> Tensor:
        assert names == {"class_names": ["liver"], "has_background": True}
        self.columns = [[case.caption for case in column] for column in (best, worst)]
        return torch.zeros(3, 8, 8, dtype=torch.uint8)


def lines_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def by_dice(lines: list[dict[str, str]]) -> list[str]:
    """Return the captions of images, the worst first."""
    ordered = sorted(lines, key=lambda line: float(line["dice"]))
    return [f"{line['name']}   Dice {float(line['dice']):.3f}" for line in ordered]


@pytest.mark.slow
def test_each_check_shows_the_same_images_and_then_the_worst(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    config = compose(
        [
            *("trainer.max_epochs=3", "data.batch_size=1"),
            *("callbacks.pictures.num_pictures=2", "callbacks.pictures.num_worst=3"),
        ]
    )
    train(config)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "val"), {"images": 0}).Reload()
    tags = set(board.Tags()["images"])
    names = {tag.removeprefix("pictures/") for tag in tags if tag.startswith("pictures/")}
    assert len(names) == 2
    assert tags - {f"pictures/{name}" for name in names} == {"worst/1", "worst/2", "worst/3"}
    steps = {tag: [event.step for event in board.Images(tag)] for tag in board.Tags()["images"]}
    assert len(set(map(tuple, steps.values()))) == 1
    assert len(steps["worst/1"]) == 3
    for check in range(3):
        captions = drawn.captions[5 * check : 5 * (check + 1)]
        assert [caption.split()[0] for caption in captions[:2]] == sorted(names)
        dices = [float(caption.split()[-1]) for caption in captions[2:]]
        assert dices == sorted(dices)


def test_what_is_shown_is_what_was_scored(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    all_shown = ["callbacks.pictures.num_pictures=6", "callbacks.pictures.num_worst=2"]
    train(compose(["trainer.max_epochs=2", *all_shown]))
    for split, count in (("val", 4), ("test", 3)):
        lines = lines_of(tmp_path / "run" / f"cases_{split}.csv")
        shown = dict(zip(drawn.captions, drawn.predicted, strict=True))
        assert len(lines) == count
        for caption, line in zip(by_dice(lines), sorted(lines, key=dice_of), strict=True):
            assert shown[caption] == int(line["tp"]) + int(line["fp"])
    best, worst = drawn.columns  # of test, the last split that was scored
    assert worst == by_dice(lines)[:2]
    assert best == by_dice(lines)[:1:-1]
    for split in ("val", "test"):
        assert (tmp_path / "run" / "pictures" / f"best_and_worst_{split}.png").is_file()


def dice_of(line: dict[str, str]) -> float:
    return float(line["dice"])


@pytest.mark.slow
def test_evaluating_draws_the_best_and_the_worst_too(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(compose([]))
    checkpoint = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    drawn = Drawn(monkeypatch)
    out = tmp_path / "out"
    few = ["num_pictures=1", "num_worst=1", f"output_dir={out}", "split=val"]
    evaluate(compose([checkpoint, *few], name="evaluate"))
    captions = by_dice(lines_of(out / "cases_val.csv"))
    assert drawn.columns == [[captions[-1]], [captions[0]]]
    assert {file.name for file in (out / "pictures").iterdir()} == {
        "best_and_worst_val.png",
        "reliability_val.png",
        f"val_{drawn.captions[0].split()[0]}.png",
    }


def test_no_pictures_are_drawn_where_none_are_wanted(compose: Compose, tmp_path: Path) -> None:
    train(compose(["callbacks.pictures.num_pictures=0", "callbacks.pictures.num_worst=0"]))
    drawn = sorted(file.name for file in (tmp_path / "run" / "pictures").iterdir())
    assert drawn == ["curves.png", "reliability_test.png", "reliability_val.png"]
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "val")).Reload()
    assert board.Tags()["images"] == []


def kept(index: int, dice: float) -> Any:
    rank = Rank(index, dice, num_wrong=5, num_true=9)
    return gallery._Kept(rank, torch.zeros(32, 32, dtype=torch.uint8))


@pytest.mark.slow
def test_processes_share_what_they_have_kept(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of another process are stood in for by a fixed list."""
    train(compose([]))
    config = compose(
        [f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}", "split=val"],
        name="evaluate",
    )
    others = [kept(3, -1.0), kept(2, -0.5)]
    monkeypatch.setattr(gallery, "_of_all_processes", lambda mine: [*mine, *others])
    drawn = Drawn(monkeypatch)
    evaluate(config)
    worst = drawn.columns[1]
    assert worst[0] == "patient005_slice03   Dice -1.000"
    assert worst[1] == "patient005_slice02   Dice -0.500"
    assert len(drawn.captions) == 4  # each image once


def test_images_are_spread_over_the_split() -> None:
    chosen = gallery._spread(48, 6)
    assert [index // 8 for index in sorted(chosen)] == list(range(6))  # one of each patient
    assert len({index % 8 for index in chosen}) > 3  # and not the same slice of each
    assert gallery._spread(3, 6) == {0, 1, 2}
    assert gallery._spread(5, 0) == set()


def test_a_kept_image_holds_no_batch_in_memory() -> None:
    batch = torch.zeros(8, 4, 4, dtype=torch.uint8)
    one = gallery._alone(gallery._Kept(kept(0, 0.0).rank, batch[3]), batch)
    assert one.prediction.untyped_storage().nbytes() == 16
    assert gallery._alone(one, batch) is one


@pytest.mark.slow
def test_pictures_show_the_image_as_it_lies_on_disk(
    compose: Compose, pair_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for file in (pair_root / "val").glob("*slice0?.png"):
        Image.fromarray(fine).save(file)
    shown: list[Tensor] = []

    def draw(image: Tensor, *arguments: Any, **named: Any) -> Tensor:
        shown.append(image)
        return draw_case(image, *arguments, **named)

    monkeypatch.setattr(gallery, "draw_case", draw)
    train(compose(["data.image_size=[16,16]", *ALL_PICTURES]))  # for the network
    stored = torch.from_numpy(fine).movedim(-1, 0) / 255
    assert len(shown) == 8 + 4 + 3  # val while training, val and test at the end
    assert all(torch.equal(image, stored) for image in shown[:12])  # in colour, sharp
    picture = Image.open(tmp_path / "run" / "pictures" / "val_patient004_slice00.png")
    panel = np.asarray(picture)[2 * 22 + 4 : 2 * 22 + 256 : 8, 4:256:8]
    assert np.array_equal(panel, fine)


@pytest.mark.slow
def test_files_that_are_gone_stop_no_run(
    compose: Compose, pair_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = compose(["data.cache_megabytes=100"])
    read = gallery.read_shown

    def gone(path: Path, channels: int, *rest: object) -> Tensor:
        return read(path.with_name("gone.png"), channels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "read_shown", gone)
        assert 0 <= train(config)["val/dice"] <= 1
    assert "is drawn as the network sees it" in caplog.text
