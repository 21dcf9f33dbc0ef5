from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig

from liverseg.experiment import train
from liverseg.training import RunProfile, profiling

Compose = Callable[..., DictConfig]


def profile_of(folder: Path, **seconds: float) -> RunProfile:
    profile = RunProfile(str(folder))
    profile.num_steps = 2
    profile.seconds.update(seconds)
    return profile


def clocked(
    profile: RunProfile, monkeypatch: pytest.MonkeyPatch, moments: list[tuple[float, str, str]]
) -> RunProfile:
    """Let parts of training start and stop at given moments."""
    profile._lightning_module = SimpleNamespace(trainer=SimpleNamespace(training=True))
    for moment, act, name in moments:
        monkeypatch.setattr(profiling, "_now", partial(float, moment))
        getattr(profile, act)(name)
    return profile


def test_what_a_part_holds_within_is_not_counted_twice(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, forward=1.0, training_step=1.5, backward=2.0, optimizer_step=4.0)
    parts = profile.parts()
    assert parts["network, forward"] == 0.5
    assert parts["loss and scores"] == 0.25
    assert parts["backward"] == 1.0
    assert parts["clipping and optimizer"] == 0.25
    assert sum(parts.values()) == 2.0


def test_a_checkpoint_written_within_a_callback_is_no_logging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = clocked(
        RunProfile(str(tmp_path)),
        monkeypatch,
        [
            (0.0, "start", "[Callback]ModelCheckpoint.on_train_epoch_end"),
            (1.0, "start", "save_checkpoint"),
            (4.0, "stop", "save_checkpoint"),
            (4.5, "stop", "[Callback]ModelCheckpoint.on_train_epoch_end"),
        ],
    )
    assert profile.seconds == {"save_checkpoint": 3.0, "callbacks": 1.5}


def test_a_callback_within_the_step_of_the_optimizer_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = clocked(
        RunProfile(str(tmp_path)),
        monkeypatch,
        [
            (0.0, "start", "[LightningDataModule]PairDataModule.on_before_batch_transfer"),
            (0.5, "stop", "[LightningDataModule]PairDataModule.on_before_batch_transfer"),
            (1.0, "start", "[LightningModule]SegmentationTask.optimizer_step"),
            (2.0, "start", "[Callback]Dashboard.on_before_optimizer_step"),
            (5.0, "stop", "[Callback]Dashboard.on_before_optimizer_step"),
            (9.0, "stop", "[LightningModule]SegmentationTask.optimizer_step"),
            (9.0, "start", "[Callback]Dashboard.on_train_batch_end"),
            (9.5, "stop", "[Callback]Dashboard.on_train_batch_end"),
        ],
    )
    parts = profile.parts()
    assert parts.pop("copying, augmenting") == 0.5
    assert parts.pop("clipping and optimizer") == 5.0
    assert parts.pop("logging and callbacks") == 3.5
    assert set(parts.values()) == {0.0}


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (
            {"[_TrainingEpochLoop].train_dataloader_next": 1.0, "optimizer_step": 3.0},
            "a step takes 2.000 s, 25% of it waiting for images: data are the limit; raise "
            "data.num_workers, or data.cache_megabytes until all images fit",
        ),
        (
            {"callbacks": 1.0, "optimizer_step": 3.0},
            "a step takes 2.000 s, 0% of it waiting for images: logging is the limit; raise "
            "trainer.log_every_n_steps",
        ),
        (
            {"optimizer_step": 4.0},
            "a step takes 2.000 s, 0% of it waiting for images: computing is the limit",
        ),
    ],
)
def test_the_limit_is_what_takes_more_than_its_share(
    seconds: dict[str, float], sentence: str, tmp_path: Path
) -> None:
    assert profile_of(tmp_path, **seconds).sentence() == sentence


@pytest.mark.slow
def test_a_profiled_run_says_where_its_time_went(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = compose(["trainer=profile", "data.batch_size=2"])
    train(config)
    text = Path(config.output_dir, "profile.txt").read_text()
    assert " of it waiting for images: " in caplog.text
    assert "\n3 steps took " in text  # 6 images, and val counts for nothing
    shares = [line.split()[-1] for line in text.splitlines() if line.endswith("%")]
    assert len(shares) == 7
    assert sum(float(one.rstrip("%")) for one in shares) == pytest.approx(100, abs=0.5)
    assert all(float(one.rstrip("%")) > 0 for one in shares)
