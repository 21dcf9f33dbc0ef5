"""Runs that are really killed, resumed, and compared bit for bit with an undisturbed run.

A few points are tried by the ordinary tests, all of them by ``make test-faults``.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import forks
import pytest
import torch
from faults import KILL, SLURM, STOP, Point
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

# 3 epochs of 3 steps, each with 2 validation batches; two files are written after each epoch.
# Two sanity batches come before the first step.
EVERYWHERE: list[Point] = [
    *(("before step", step) for step in (0, 2, 3, 7)),
    *(("in step", step) for step in (1, 4, 8)),
    *(("seeded", step) for step in (5, 6)),
    *(("validation", batch) for batch in (2, 5, 7)),
    *(("in validation", batch) for batch in (3, 6)),
    *(("logged", epoch) for epoch in (0, 1, 2)),
    *(("half written", write) for write in (0, 1, 2, 3)),
    *(("before rename", write) for write in (0, 1, 2)),
    *(("after rename", write) for write in (0, 1, 2, 5)),
]
A_FEW: list[Point] = [("in step", 4), ("validation", 5), ("half written", 3), ("after rename", 2)]
Compose = Callable[..., DictConfig]


def in_a_process(function: Callable[..., None], *arguments: Any) -> int | None:
    process = forks.process(function, arguments)
    process.start()
    process.join(400)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


@pytest.fixture
def study(compose: Compose, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes the run ``NAME`` with shuffling, augmentation and dropout."""

    def composed(name: str, *overrides: str) -> DictConfig:
        fixed = [
            *("trainer.max_epochs=3", "data.batch_size=2", "model.dropout=0.2"),
            *("scheduler=cosine", f"output_dir={tmp_path / name}"),
        ]
        return faults.saved(compose([*fixed, *overrides]))

    return composed


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def curves(run: Path) -> dict[str, dict[int, set[Any]]]:
    """Return every value, picture and table on the dashboard by name and step.

    What stands under ``machine/`` is the time and memory that a run took, and is left out.
    """
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    points: dict[str, dict[int, set[Any]]] = {}

    def add(name: str, step: int, value: Any) -> None:
        if "machine/" not in name:
            points.setdefault(name, {}).setdefault(step, set()).add(value)

    for split in ("train", "val", "final", "final/val", "final/test"):
        board = EventAccumulator(str(run / "tensorboard" / split), everything).Reload()
        for tag in board.Tags()["scalars"]:
            for event in board.Scalars(tag):
                add(f"{split}/{tag}", event.step, event.value)
        for tag in board.Tags()["images"]:
            for image in board.Images(tag):
                add(f"{split}/{tag}", image.step, image.encoded_image_string)
        for tag in board.Tags()["tensors"]:
            for table in board.Tensors(tag):
                add(f"{split}/{tag}", table.step, table.tensor_proto.SerializeToString())
    assert {"train/gradient_norm", "val/worst/1", "val/precision_recall"} <= points.keys()
    assert "final/test/dice" in points
    return points


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert same(first[part], second[part]), part
    for file in ("metrics.json", "cases_val.csv", "cases_test.csv"):
        assert (one / file).read_text() == (other / file).read_text()
    assert curves(one) == curves(other)
    lines, others = (
        sorted(line for line in (run / "curves.csv").read_text().split() if "machine/" not in line)
        for run in (one, other)
    )
    assert lines == others  # none twice


def interrupt_and_compare(study: Any, point: Point, number: int, workers: int) -> None:
    whole = study("whole")
    assert in_a_process(faults.run, whole) == 0
    broken = study("broken", f"data.num_workers={workers}")
    code = in_a_process(faults.run_until, broken, point, number)
    assert code == (-number if number == KILL else 128 + number)
    folder = Path(broken.output_dir)
    if number != KILL:
        assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert in_a_process(faults.resume, folder) == 0
    assert_equal_runs(Path(whole.output_dir), folder)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), A_FEW)
def test_a_killed_run_ends_as_if_nothing_had_happened(kind: str, count: int, study: Any) -> None:
    interrupt_and_compare(study, (kind, count), KILL, workers=0)


@pytest.mark.slow
def test_loader_processes_change_nothing(study: Any) -> None:
    interrupt_and_compare(study, ("in step", 4), KILL, workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [STOP, SLURM])
def test_a_stopped_run_saves_at_once_and_its_exit_status_says_so(number: int, study: Any) -> None:
    interrupt_and_compare(study, ("in step", 4), number, workers=0)


# One of each kind of setting that Lightning alone would not go on with exactly.
KINDS = {
    "steps": (["trainer.max_steps=8"], ("in step", 4), KILL),
    "a schedule that watches a score": (
        ["scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=1.0"],
        ("in step", 7),
        KILL,
    ),
    "parts that have thawed": (["freeze=[encoder]", "freeze_epochs=1"], ("in step", 4), STOP),
    "gradients that are added up": (
        ["data.batch_size=1", "+trainer.accumulate_grad_batches=2"],
        ("in step", 8),
        STOP,
    ),
    "Ctrl-C": ([], ("in step", 4), signal.SIGINT),
    "a schedule by steps": (
        ["scheduler_interval=step", "scheduler.T_max=9"],
        ("in step", 7),
        STOP,
    ),
    "a stochastic average": (
        [
            "+callbacks.swa._target_=lightning.pytorch.callbacks.StochasticWeightAveraging",
            *("+callbacks.swa.swa_lrs=1e-2", "+callbacks.swa.swa_epoch_start=1"),
        ],
        ("in step", 4),
        STOP,
    ),
    "an end that early stopping has seen": (
        ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"],
        ("after rename", 2),
        KILL,
    ),
    "an end that a threshold has brought": (
        [
            *("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/loss"),
            *(
                "callbacks.early_stopping.mode=min",
                "+callbacks.early_stopping.stopping_threshold=9",
            ),
        ],
        ("after rename", 1),
        KILL,
    ),
    "a schedule that watches the score of every second epoch": (
        [
            *("scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=1.0"),
            "+trainer.check_val_every_n_epoch=2",
        ],
        ("in step", 7),
        KILL,
    ),
    "checks within an epoch": (["+trainer.val_check_interval=2"], ("in validation", 5), STOP),
    "a check every second epoch": (
        ["+trainer.check_val_every_n_epoch=2"],
        ("in step", 7),
        KILL,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_any_kind_ends_as_if_nothing_had_happened(kind: str, study: Any) -> None:
    overrides, point, number = KINDS[kind]
    interrupt_and_compare(lambda *words: study(*words, *overrides), point, number, workers=0)


@pytest.mark.faults
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("kind", "count"), EVERYWHERE)
def test_a_run_may_be_killed_anywhere(kind: str, count: int, workers: int, study: Any) -> None:
    interrupt_and_compare(study, (kind, count), KILL, workers)


@pytest.mark.faults
@pytest.mark.parametrize("number", [STOP, SLURM])
@pytest.mark.parametrize(
    "point", [("in step", 0), ("in step", 3), ("seeded", 5), ("validation", 5), ("logged", 1)]
)
def test_a_run_may_be_stopped_anywhere(point: Point, number: int, study: Any) -> None:
    interrupt_and_compare(study, point, number, workers=0)


@pytest.mark.slow
def test_more_epochs_are_added_to_a_finished_run(study: Any) -> None:
    config = study("run", "trainer.max_epochs=1", "scheduler=constant")
    longer = study("longer", "scheduler=constant")
    assert in_a_process(faults.run, config) == in_a_process(faults.run, longer) == 0
    folder = Path(config.output_dir)
    assert in_a_process(faults.resume, folder, "resume_overrides=[trainer.max_epochs=3]") == 0
    assert_equal_runs(Path(longer.output_dir), folder)
    assert len(json.loads((folder / "run.json").read_text())) == 2
