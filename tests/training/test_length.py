from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig

from liverseg.checkpoints import load_checkpoint
from liverseg.experiment import train
from liverseg.runs.stopping import StopTogether
from liverseg.training import is_limited

Compose = Callable[..., DictConfig]
SMALL = ["optimizer.lr=1e-2", "trainer.log_every_n_steps=1"]  # 6 images in batches of 8: one step


def last_of(config: DictConfig) -> dict[str, Any]:
    return load_checkpoint(Path(config.output_dir, "checkpoints", "last.ckpt"))


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    for part in ("lr_schedulers", "global_step", "epoch"):
        assert one[part] == other[part]


def test_steps_and_minutes_limit_a_run() -> None:
    assert not is_limited({"max_epochs": 3, "max_steps": -1, "max_time": None})
    assert is_limited({"max_steps": 3})
    assert is_limited({"max_time": "00:00:01:00"})


@pytest.mark.slow
def test_a_run_of_steps_is_that_of_the_epochs_that_they_fill(
    compose: Compose, tmp_path: Path
) -> None:
    # 6 images in batches of 3: 2 steps an epoch, so that 7 steps reach into the fourth
    steps = compose([*SMALL, "data.batch_size=3", "trainer.max_steps=7"])
    train(steps)
    epochs = compose([*SMALL, "data.batch_size=3", "trainer.max_epochs=4"])
    epochs.output_dir = str(tmp_path / "epochs")
    train(epochs)
    short, whole = last_of(steps), last_of(epochs)
    assert (short["global_step"], whole["global_step"]) == (7, 8)
    assert short["lr_schedulers"][0]["T_max"] == whole["lr_schedulers"][0]["T_max"] == 4
    assert short["liverseg"]["config"]["trainer"]["max_epochs"] == 4
    assert steps.trainer.max_epochs == 1  # config.yaml says what was asked for


@pytest.mark.slow
def test_a_run_of_minutes_is_repeated_by_its_number_of_epochs(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level("INFO")
    # Each epoch takes 10 of the 60 seconds: 0.97 * 60 hold 5 of them.
    clock = SlowClock()
    monkeypatch.setattr(Timer, "time_elapsed", clock.elapsed)
    monkeypatch.setattr(StopTogether, "on_train_epoch_start", clock.tick, raising=False)
    minutes = compose([*SMALL, "trainer.max_time=00:00:01:00"])
    train(minutes)
    told = "trainer.max_time holds 5 epochs here; trainer.max_epochs=5 without it is the same run"
    assert told in caplog.text
    again = compose([*SMALL, "trainer.max_epochs=5"])
    again.output_dir = str(tmp_path / "again")
    train(again)
    assert_same(last_of(minutes), last_of(again))
    assert last_of(minutes)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0
    record = last_of(minutes)["liverseg"]
    assert record["num_epochs"] == record["config"]["trainer"]["max_epochs"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_run_of_minutes_goes_on_with_the_number_it_has_found(
    stopped_after: int, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SlowClock()
    monkeypatch.setattr(Timer, "time_elapsed", clock.elapsed)
    monkeypatch.setattr(StopTogether, "on_train_epoch_start", clock.tick, raising=False)
    config = compose([*SMALL, "trainer.max_time=00:00:01:00"])
    whole = config.copy()
    whole.output_dir = str(tmp_path / "whole")
    train(whole)
    clock.stop_after, clock.seconds = stopped_after, 0
    with pytest.raises(SystemExit):
        train(config)
    clock.stop_after = None
    config.resume = str(Path(config.output_dir, "checkpoints", "last.ckpt"))
    train(config)
    assert_same(last_of(config), last_of(whole))


@pytest.mark.slow
def test_a_run_whose_minutes_end_within_its_first_epoch_is_said_to_be_cut(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level("INFO")
    steps: list[int] = []
    monkeypatch.setattr(Timer, "time_elapsed", lambda *_: 61 if len(steps) > 1 else 0)
    monkeypatch.setattr(
        StopTogether, "on_train_batch_start", lambda *_: steps.append(0), raising=False
    )
    minutes = ["trainer.max_time=00:00:01:00", "trainer.max_epochs=9"]
    config = compose([*SMALL, *minutes, "data.batch_size=2"])
    train(config)  # 6 images: an epoch of 3 steps
    last = last_of(config)
    assert last["global_step"] == 2
    assert "num_epochs" not in last["liverseg"]
    assert "trainer.max_time is over within the first epoch, in which the learning" in caplog.text
    assert "ended after epoch 1: trainer.max_time is over\n" in caplog.text
    assert "is the same run" not in caplog.text


class SlowClock:
    """Lets ten seconds pass in each epoch."""

    def __init__(self) -> None:
        self.seconds = 0
        self.stop_after: int | None = None

    def elapsed(self, *_: Any) -> float:
        return self.seconds

    def tick(self, trainer: Any, _: Any) -> None:
        if trainer.current_epoch == self.stop_after:
            raise KeyboardInterrupt
        self.seconds = 10 * (trainer.current_epoch + 1)
