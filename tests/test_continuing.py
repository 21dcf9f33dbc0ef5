"""What is typed when a run is resumed is what happens, from the next step on."""

import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from liverseg import experiment, launch
from liverseg.checkpoints import load_checkpoint
from liverseg.launch import train_on_all_devices
from liverseg.runs.resume import load_config, resumed_config
from liverseg.scores import SegmentationScores
from liverseg.training import precision

Compose = Callable[..., DictConfig]


class Steps(Callback):
    """Keeps settings of the optimizer, and the images, of every step."""

    rates: list[float]
    groups: list[dict[str, Any]]
    images: list[list[int]]

    def __init__(self) -> None:
        type(self).rates, type(self).groups, type(self).images = [], [], []

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        group = trainer.optimizers[0].param_groups[0]
        self.rates.append(group["lr"])
        self.groups.append({key: one for key, one in group.items() if key != "params"})
        self.images.append(rest[1]["index"].tolist())


STEPS = f"+callbacks.steps._target_={__name__}.Steps"
SHORT = ["data.batch_size=2", "optimizer.lr=1e-2", STEPS]  # 3 steps in an epoch


def run_of(compose: Compose, *overrides: str) -> Path:
    config = compose([*SHORT, *overrides])
    train_on_all_devices(config)
    return Path(config.output_dir)


def resume(run: Path, *overrides: str) -> None:
    config = resumed_config([f"resume={run}", f"resume_overrides=[{','.join(overrides)}]"])
    assert config is not None
    train_on_all_devices(config)


@pytest.mark.slow
def test_settings_of_an_optimizer_hold_from_the_first_step_on(compose: Compose) -> None:
    run = run_of(compose, "scheduler=constant")
    changes = ["optimizer.lr=1e-6", "optimizer.weight_decay=0.5", "+optimizer.betas=[0.5,0.75]"]
    resume(run, "trainer.max_epochs=2", *changes)
    assert Steps.rates == [1e-6] * 3
    assert {(one["weight_decay"], tuple(one["betas"])) for one in Steps.groups} == {
        (0.5, (0.5, 0.75))
    }
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["liverseg"]["config"]["optimizer"]["lr"] == 1e-6
    assert load_config(run).optimizer.lr == 1e-6
    resume(run, "trainer.max_epochs=3")  # and goes on holding
    assert Steps.rates == [1e-6] * 3


@pytest.mark.slow
def test_a_longer_cosine_is_where_one_begun_that_long_would_be(compose: Compose) -> None:
    run = run_of(compose, "scheduler=cosine", "trainer.max_epochs=2")
    assert Steps.rates == pytest.approx([1e-2] * 3 + [5e-3] * 3)
    resume(run, "trainer.max_epochs=4", "optimizer.lr=2e-2")
    by_hand = [1e-2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (2, 3)]
    assert Steps.rates == pytest.approx([by_hand[0]] * 3 + [by_hand[1]] * 3)


@pytest.mark.slow
def test_another_schedule_is_where_one_begun_with_it_would_be(compose: Compose) -> None:
    run = run_of(compose, "scheduler=constant", "trainer.max_epochs=2")
    resume(run, "trainer.max_epochs=3", "scheduler.factor=0.5", "+scheduler.total_iters=4")
    assert Steps.rates == pytest.approx([5e-3] * 3)  # half of the rate for the first 4 epochs


@pytest.mark.slow
def test_steps_are_added_to_a_run_of_epochs_that_has_ended(compose: Compose) -> None:
    run = run_of(compose, "scheduler=cosine", "trainer.max_epochs=2")
    resume(run, "trainer.max_steps=12")  # of 3 an epoch
    by_hand = [5e-3 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (2, 3)]
    assert Steps.rates == pytest.approx([by_hand[0]] * 3 + [by_hand[1]] * 3)


@pytest.mark.slow
def test_a_run_that_early_stopping_has_ended_says_so_again(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liverseg")
    early = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1"]
    run = run_of(compose, *early, "trainer.max_epochs=8", "optimizer.lr=1e-9")
    told = [one.getMessage() for one in caplog.records if "ended after" in one.getMessage()]
    caplog.clear()
    resume(run)
    again = [one.getMessage() for one in caplog.records if "last" in one.getMessage()]
    assert told == again[1:]
    assert told[0].startswith("ended after epoch 2: early stopping: Monitored metric val/dice")
    assert again[0].startswith("continuing from ")


@pytest.mark.slow
def test_one_cycle_of_too_few_steps_is_refused_before_the_first(compose: Compose) -> None:
    schedule = [
        *("scheduler_interval=step", "~scheduler.T_max", "+scheduler.max_lr=1e-2"),
        "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
    ]
    told = r"^scheduler\.total_steps=5 is less than the 6 optimizer steps of the run; set it to 6$"
    with pytest.raises(ValueError, match=told):
        run_of(compose, *schedule, "+scheduler.total_steps=5", "trainer.max_epochs=2")
    limited = ["trainer.max_epochs=9", "trainer.max_steps=6"]
    run_of(compose, *schedule, "+scheduler.total_steps=6", *limited)


class StoppedOnce(Callback):
    """Sends SIGTERM to this process in the second step of the second epoch."""

    has_stopped = False

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 4 and not self.has_stopped:
            type(self).has_stopped = True
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_what_is_refused_within_an_epoch_leaves_the_checkpoint_as_it_was(compose: Compose) -> None:
    schedule = [
        *("scheduler_interval=step", "~scheduler.T_max", "+scheduler.max_lr=1e-2"),
        *("scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler.total_steps=6"),
        *("trainer.max_epochs=2", f"+callbacks.stopped._target_={__name__}.StoppedOnce"),
    ]
    with pytest.raises(SystemExit):
        run_of(compose, *schedule)
    run = Path(compose([]).output_dir)
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with pytest.raises(ValueError, match="is less than the 9 optimizer steps of the run"):
        resume(run, "trainer.max_epochs=3")
    assert last.read_bytes() == before
    resume(run)
    assert len(Steps.rates) == 1  # the third step of the second epoch


@pytest.mark.slow
def test_a_rate_holds_under_a_schedule_that_watches_a_score(compose: Compose) -> None:
    run = run_of(compose, "scheduler=plateau")
    resume(run, "trainer.max_epochs=2", "optimizer.lr=1e-5")
    assert Steps.rates == [1e-5] * 3


@pytest.mark.slow
def test_a_patience_holds(compose: Compose) -> None:
    early = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1"]
    run = run_of(compose, *early, "trainer.max_epochs=8", "optimizer.lr=1e-9")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    resume(run, "callbacks.early_stopping.patience=50")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 7
    (state,) = [one for key, one in last["callbacks"].items() if "EarlyStopping" in key]
    assert state["patience"] == 50


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "steps"), [(4, 2), (1, 6)])
def test_every_image_is_trained_on_once_whatever_the_batch_size(
    batch_size: int, steps: int, compose: Compose
) -> None:
    run = run_of(compose)
    resume(run, "trainer.max_epochs=3", f"data.batch_size={batch_size}")
    first, second = Steps.images[:steps], Steps.images[steps:]
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == [0, 1, 2, 3, 4, 5]
    assert first != second
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3 + 2 * steps


class StopAt(Callback):
    """Ends training by Ctrl-C at a step."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 4:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_what_orders_images_does_not_change_within_an_epoch(compose: Compose) -> None:
    with pytest.raises(SystemExit):
        run_of(compose, "trainer.max_epochs=2", f"+callbacks.stop._target_={__name__}.StopAt")
    run = Path(compose([]).output_dir)
    before = (run / "config.yaml").read_text()
    for change, was in (("data.batch_size=4", "data.batch_size=2"), ("data.seed=1", "data.seed=0")):
        sentence = (
            f"{change} cannot begin within an epoch, after 1 of its steps, where some images would "
            f"be seen twice or never; go on with {was} to the end of an epoch first"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            resume(run, change)
    assert (run / "config.yaml").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "changes", "sentence"),
    [
        (
            ["scheduler=plateau"],
            ["scheduler.patience=9"],
            "scheduler.patience=9 cannot differ from the run that is resumed: a schedule that "
            "watches a score depends on all scores so far; leave it out, or start a new run",
        ),
        (
            ["optimizer=adamw"],
            ["+optimizer.amsgrad=true"],
            "optimizer.amsgrad=true needs what the optimizer has not kept so far; leave it out, or "
            "start a new run",
        ),
        (
            [],
            ["optimizer.largest_side=8"],
            "optimizer.largest_side=8 cannot differ from the run that is resumed: what an "
            "optimizer keeps of each weight is its own; leave it out, or start a new run",
        ),
        (
            ["trainer.max_epochs=2"],
            ["trainer.max_epochs=1"],
            "trainer.max_epochs=1 is less than the 2 that the run has done; set it to 2 or more",
        ),
        (
            ["trainer.max_steps=2"],
            ["trainer.max_epochs=6"],
            "trainer.max_epochs does not end a run of trainer.max_steps; add trainer.max_steps=-1 "
            "to resume_overrides",
        ),
    ],
)
def test_what_could_not_hold_is_refused_before_anything_is_written(
    overrides: list[str], changes: list[str], sentence: str, compose: Compose
) -> None:
    run = run_of(compose, *overrides)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        resume(run, *changes)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_a_run_that_other_pairs_were_named_for_goes_on_as_before(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    run = run_of(compose)
    files = [run / "config.yaml", run / "run.json", run / "checkpoints" / "last.ckpt"]
    before = [file.read_bytes() for file in files]
    other, faulty = (shutil.copytree(pair_root, tmp_path / name) for name in ("other", "faulty"))
    for file in (other / "train").glob("patient001*"):
        file.unlink()
    (faulty / "val" / "patient004_slice00_mask.png").unlink()
    for root, reason in (
        (other, "are not those that the run began with"),
        (faulty, "has no partner"),
    ):
        with pytest.raises(ValueError, match=reason):
            resume(run, f"data.root={root}", "trainer.max_epochs=2")
        assert [file.read_bytes() for file in files] == before
    with pytest.raises(ValueError, match=r"val_check_interval=4 is more than the 3 batches"):
        resume(run, "+trainer.val_check_interval=4", "trainer.max_epochs=2")
    assert [file.read_bytes() for file in files] == before
    moved = shutil.move(pair_root, tmp_path / "moved")
    resume(run, f"data.root={moved}")  # it had ended, and is scored
    assert load_config(run).data.root == str(moved)
    resume(run, "trainer.max_epochs=2")
    assert len(json.loads(files[1].read_text())) == 3


@pytest.mark.slow
def test_a_config_that_was_edited_by_hand_is_held_against_the_checkpoint(compose: Compose) -> None:
    run = run_of(compose)
    config = load_config(run)
    config.data.image_size = [16, 16]
    OmegaConf.save(config, run / "config.yaml")
    with pytest.raises(ValueError, match=r"^data\.image_size=\[16,16\] cannot differ from the run"):
        resume(run)


@pytest.mark.slow
def test_the_best_of_a_run_that_was_moved_is_kept(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(compose, "trainer.max_epochs=4").rename(tmp_path / "moved")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    monkeypatch.setattr(SegmentationScores, "compute", lambda self: {"dice": torch.tensor(0.0)})
    resume(run, "trainer.max_epochs=5")  # an epoch that is worse than any
    again = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert again["global_step"] == best["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("AVX512", "AVX2"), ("AVX2", "AVX512")])
def test_a_run_goes_on_on_another_kind_of_processor(
    kinds: tuple[str, str], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_on(kind: str, train: Callable[[], Any]) -> Any:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kind)
        return train()

    monkeypatch.setattr(precision, "_WIDE", 1)
    run = train_on(kinds[0], lambda: run_of(compose, "trainer.max_epochs=1"))
    train_on(kinds[1], lambda: resume(run, "trainer.max_epochs=2"))
    layout = torch.contiguous_format if kinds[1] == "AVX2" else torch.channels_last
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    kept = [one for state in optimizer["state"].values() for one in state.values()]
    for tensor in [*checkpoint["state_dict"].values(), *kept]:
        assert tensor.dim() != 4 or tensor.is_contiguous(memory_format=layout)
    assert checkpoint["epoch"] == 1


@pytest.mark.slow
def test_what_a_run_goes_on_from_is_checked_and_read_once(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = run_of(compose), []

    def spy(file: str | Path) -> dict[str, Any]:
        read.append(Path(file).name)
        return load_checkpoint(file)

    monkeypatch.setattr(launch, "load_checkpoint", spy)
    monkeypatch.setattr(experiment, "load_checkpoint", spy)
    resume(run, "trainer.max_epochs=2")
    assert read == ["last.ckpt", "best.ckpt"]  # the second one is scored


@pytest.mark.slow
def test_a_run_with_nothing_left_to_train_says_so(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(compose)
    with caplog.at_level("INFO"):
        resume(run)
        assert "epoch 1 was the last one before; 'resume_overrides=[trainer.max_" in caplog.text
        caplog.clear()
        resume(run, "trainer.max_epochs=2")
    assert "was the last one before" not in caplog.text


@pytest.mark.slow
def test_a_schedule_by_steps_is_stepped_after_each(compose: Compose) -> None:
    by_step = ["scheduler=cosine", "scheduler_interval=step", "scheduler.T_max=6"]
    run = run_of(compose, *by_step)
    by_hand = [5e-3 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert Steps.rates == pytest.approx(by_hand[:3])
    resume(run, "trainer.max_epochs=2")
    assert Steps.rates == pytest.approx(by_hand[3:])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["scheduler=cosine"],
            "scheduler.T_max=1 is trainer.max_epochs, but counts optimizer steps with "
            "scheduler_interval=step; set it to epochs times optimizer steps of an epoch",
        ),
        (
            ["scheduler=plateau"],
            "scheduler_interval=step does not fit a schedule that watches a score, which there is "
            "once per epoch; leave it out",
        ),
    ],
)
def test_a_schedule_that_cannot_be_stepped_so_is_refused(
    overrides: list[str], sentence: str, compose: Compose
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        run_of(compose, *overrides, "scheduler_interval=step")
