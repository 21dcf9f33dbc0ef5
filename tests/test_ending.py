"""How a run ends: why, with which checkpoint, and with the scores of the file that is handed on."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, Trainer
from omegaconf import DictConfig
from torch import nn
from torch.optim.swa_utils import AveragedModel

from liverseg import experiment
from liverseg.checks import check_settings
from liverseg.ending import warn_of_classes_never_found
from liverseg.experiment import evaluate, train
from liverseg.training import SegmentationTask

Compose = Callable[..., DictConfig]
LIGHTNING = "lightning.pytorch.callbacks"
SHORT = ["data.batch_size=2", "trainer.max_epochs=3", "scheduler=constant"]  # 3 steps in an epoch


class OwnAverage(Callback):
    """Scores an average of the weights that no checkpoint holds, in the network or in its place."""

    def __init__(self, *, is_exchanged: bool) -> None:
        self.is_exchanged = is_exchanged
        self.average: AveragedModel | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SegmentationTask, *of: object
    ) -> None:
        self.average = self.average or AveragedModel(pl_module.net)
        self.average.update_parameters(pl_module.net)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: SegmentationTask) -> None:
        self.net: nn.Module = pl_module.net
        self.weights = {key: one.clone() for key, one in self.net.state_dict().items()}
        if self.average is not None and self.is_exchanged:
            pl_module.net = self.average
        elif self.average is not None:
            self.net.load_state_dict(self.average.module.state_dict())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: SegmentationTask) -> None:
        pl_module.net = self.net
        self.net.load_state_dict(self.weights)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end


@pytest.mark.parametrize("found", [0, 9])  # pixels of the class, in the second of two images
def test_images_without_a_class_are_blamed_where_there_are_some(
    found: int, caplog: pytest.LogCaptureFixture
) -> None:
    counts = torch.tensor([[[0, 0, 9]], [[0, 0, found]]])  # of truth, and none in the prediction
    scores = SimpleNamespace(class_names=["liver"], table=lambda: SimpleNamespace(counts=counts))
    task = SimpleNamespace(tally=lambda split: SimpleNamespace(scores=scores))
    warn_of_classes_never_found(task, SimpleNamespace(monitor="val/dice"))
    assert "finds no pixel of liver in val" in caplog.text
    assert ("images without a class score 1" in caplog.text) == (found == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        [
            f"+callbacks.ema._target_={LIGHTNING}.EMAWeightAveraging",
            "+callbacks.ema.decay=0.5",
            "optimizer.lr=3e-2",
        ],
        [
            f"+callbacks.swa._target_={LIGHTNING}.StochasticWeightAveraging",
            "+callbacks.swa.swa_lrs=1e-2",
            "+callbacks.swa.swa_epoch_start=1",
        ],
        ["optimizer.lr=1e-2", "model.dropout=0.3", "trainer.precision=bf16-mixed"],
        [
            f"+callbacks.own._target_={__name__}.OwnAverage",
            "+callbacks.own.is_exchanged=false",
            "optimizer.lr=3e-2",
        ],
        [
            f"+callbacks.own._target_={__name__}.OwnAverage",
            "+callbacks.own.is_exchanged=true",
            "optimizer.lr=3e-2",
        ],
    ],
    ids=["exponential average", "stochastic average", "plain", "own average", "own network"],
)
def test_the_scores_at_the_end_are_those_of_the_file_that_is_handed_on(
    overrides: list[str], compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = train(compose([*SHORT, *overrides]))
    told = [one for one in caplog.messages if "other weights than those that best.ckpt" in one]
    assert len(told) == ("own" in overrides[0])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == scores
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    for split in ("val", "test"):
        again = [f"ckpt_path={file}", f"split={split}", f"output_dir={tmp_path / split}"]
        found = evaluate(compose(again, name="evaluate"))
        assert found == {key: value for key, value in scores.items() if key.startswith(split)}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["~callbacks.best"],
            "no callback keeps the best checkpoint by monitor=val/dice, which is scored at the "
            "end; leave callbacks.best as it is",
        ),
        (
            ["callbacks.best.filename=last"],
            "callbacks.best.filename=last is the file of callbacks.last, too; name another, such "
            "as best",
        ),
        (
            ["callbacks.best.monitor=val/iou"],
            "no callback keeps the best checkpoint by monitor=val/dice, which is scored at the "
            "end; leave callbacks.best as it is",
        ),
        (
            ["+callbacks.best.save_top_k=0"],
            "callbacks.best.save_top_k=0 keeps no checkpoint that could be scored; set it to 1",
        ),
        (
            ["trainer.max_time=00:00:00:00"],
            "trainer.max_time=00:00:00:00 leaves no time to train; set days:hours:minutes:seconds, "
            "such as 00:08:00:00",
        ),
        (
            [f"+callbacks.f._target_={LIGHTNING}.LearningRateFinder"],
            f"callbacks.f._target_={LIGHTNING}.LearningRateFinder would train with another value "
            "than the one that is recorded as optimizer.lr; leave it out, and try values side by "
            "side: python train.py -m optimizer.lr=1e-4,1e-3,1e-2",
        ),
        (
            [f"+callbacks.f._target_={LIGHTNING}.BatchSizeFinder"],
            f"callbacks.f._target_={LIGHTNING}.BatchSizeFinder would train with another value than "
            "the one that is recorded as data.batch_size; leave it out, and try values side by "
            "side: python train.py -m data.batch_size=4,8,16",
        ),
        (
            [f"+callbacks.f._target_={LIGHTNING}.BackboneFinetuning"],
            f"callbacks.f._target_={LIGHTNING}.BackboneFinetuning needs a part of the task that is "
            "named backbone, and there is none; leave it out with ~callbacks.f",
        ),
    ],
)
def test_what_could_not_be_scored_or_recorded_is_refused(
    overrides: list[str], sentence: str, compose: Compose
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_settings(compose(overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "steps", "told"),
    [
        (["trainer.max_steps=2"], 2, "ended after epoch 1: trainer.max_steps=2 is reached"),
        (
            ["trainer.max_steps=2", "+trainer.check_val_every_n_epoch=2"],
            2,
            "ended after epoch 1: trainer.max_steps=2 is reached",
        ),
        (["trainer.max_steps=7"], 7, "ended after epoch 3: trainer.max_steps=7 is reached"),
        (
            [
                "callbacks=early_stopping",
                "callbacks.early_stopping.patience=1",
                "optimizer.lr=1e-9",
                "trainer.max_epochs=9",
            ],
            6,
            "ended after epoch 2: early stopping: Monitored metric val/dice did not improve in "
            "the last 1 records. Best score: ",
        ),
        ([], 9, None),
    ],
)
def test_a_run_says_why_it_ended_and_is_scored_from_what_there_is(
    overrides: list[str],
    steps: int,
    told: str | None,
    compose: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "liverseg")
    scores = train(compose([*SHORT, *overrides]))
    assert 0 <= scores["val/dice"] <= 1
    lines = [one.getMessage() for one in caplog.records if "ended after" in one.getMessage()]
    assert [line.startswith(told or "?") for line in lines] == [True] * (told is not None)
    is_unchecked = "+trainer.check_val_every_n_epoch=2" in overrides
    assert ("ended before its first check on val" in caplog.text) == is_unchecked
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == steps


def test_epochs_that_are_typed_beside_steps_are_said_to_end_nothing(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    typed = SimpleNamespace(overrides=SimpleNamespace(task=["trainer.max_epochs=3", "seed=1"]))
    hydra = SimpleNamespace(initialized=lambda: True, get=lambda: typed)
    monkeypatch.setattr(experiment, "HydraConfig", hydra)
    experiment._tell_what_ends(compose(["trainer.max_epochs=3"]))
    assert not caplog.messages
    experiment._tell_what_ends(compose(["trainer.max_epochs=3", "trainer.max_steps=7"]))
    told = "trainer.max_epochs=3 does not end this run; add trainer.max_steps=-1 for that"
    assert caplog.messages == [told]


def test_a_check_on_val_after_more_batches_than_there_are_is_refused(compose: Compose) -> None:
    sentence = (
        "trainer.val_check_interval=100 is more than the 3 batches of an epoch; set it to 3 or "
        "fewer"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        train(compose([*SHORT, "+trainer.val_check_interval=100"]))


@pytest.mark.parametrize(
    ("key", "part", "split", "count"),
    [
        ("limit_train", 0.3, "train", 3),  # 0.9 of a batch
        ("limit_val", 0.4, "val", 2),
        ("limit_test", 0.4, "test", 2),
        ("overfit", 0.4, "val", 2),  # 1.2 batches of train
    ],
)
def test_a_part_of_less_than_one_batch_is_refused_before_training(
    key: str, part: float, split: str, count: int, compose: Compose
) -> None:
    sentence = (
        f"trainer.{key}_batches={part} is less than one batch of {split}, which has {count}; set "
        "it to a whole number of them, such as 1, or leave it out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        train(compose([*SHORT, f"+trainer.{key}_batches={part}"]))


def test_a_run_does_not_go_on_from_a_damaged_record(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("[{")
    with pytest.raises(ValueError, match=r"run/run.json is damaged \(.*\); restore it, or delete"):
        train(compose(SHORT))
