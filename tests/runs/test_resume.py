import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from liverseg.runs.resume import load_config, log_like_the_run, resumed_config, save_config


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path) -> Path:
    """A run folder with a config and an (empty) checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    save_config(compose([]), tmp_path / "run")
    return folder


def test_a_run_goes_on_in_its_folder_with_its_config(run: Path) -> None:
    config = resumed_config([f"resume={run}"])
    assert config is not None
    assert (config.output_dir, config.model.width) == (str(run), 4)
    assert config.resume == str(run / "checkpoints" / "last.ckpt")
    assert config.callbacks.last.dirpath == f"{run}/checkpoints"


def test_a_run_goes_on_where_its_folder_was_moved_to(run: Path, tmp_path: Path) -> None:
    config = resumed_config([f"resume={run.rename(tmp_path / 'moved')}"])
    assert config is not None
    assert config.callbacks.last.dirpath == f"{tmp_path}/moved/checkpoints"


def test_a_checkpoint_may_be_named_itself(run: Path) -> None:
    best = run / "checkpoints" / "best.ckpt"
    best.touch()
    config = resumed_config([f"resume={best}"])
    assert config == resumed_config([f"resume='{best}'"])  # as Hydra takes other paths
    assert config is not None
    assert (config.resume, config.output_dir) == (str(best), str(run))


def test_last_is_the_run_that_wrote_last(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("new", "old")):
        there = tmp_path / "logs" / "train" / "runs" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.load(run / "config.yaml"), tmp_path / "config.yaml")
        (there / "checkpoints").mkdir(parents=True)
        (tmp_path / "config.yaml").rename(there / "config.yaml")
        (there / "checkpoints" / "last.ckpt").touch()
        os.utime(there / "checkpoints" / "last.ckpt", (1000 - age, 1000 - age))
    config = resumed_config(["resume=last"])
    assert config is not None
    assert Path(config.output_dir).name == "new"


@pytest.mark.parametrize("arguments", [[], ["seed=1"], ["resume=null"], ["-m", "seed=1,2"]])
def test_without_resume_nothing_is_resumed(arguments: list[str]) -> None:
    assert resumed_config(arguments) is None


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("data.num_workers=3", "data.num_workers", 3),
        ("model.width=4", "model.width", 4),
        ("resume_overrides=[trainer.max_epochs=9,seed=2]", "trainer.max_epochs", 9),
        ("resume_overrides=[trainer.max_epochs=9,seed=2]", "seed", 2),
        (
            "resume_overrides=[+trainer.accumulate_grad_batches=2]",
            "trainer.accumulate_grad_batches",
            2,
        ),
        ("resume_overrides=[+optimizer.betas=[0.8,0.9],seed=2]", "optimizer.betas", [0.8, 0.9]),
        ("data.root='/a/0_seed=1'", "data.root", "/a/0_seed=1"),  # as prepare_command writes it
        ("resume_overrides=[data.root=/a/Läsion]", "data.root", "/a/Läsion"),
        ("data.image_size=null", "data.image_size", None),
    ],
)
def test_what_leaves_the_result_alone_or_is_said_twice_is_taken(
    argument: str, key: str, value: int, run: Path
) -> None:
    config = resumed_config([f"resume={run}", argument])
    assert config is not None
    assert OmegaConf.select(config, key) == value


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (
            "optimizer.lr=1e-4",
            "optimizer.lr=1e-4 would change the run that is resumed; leave it out, or write "
            "'resume_overrides=[optimizer.lr=1e-4]'",
        ),
        (
            "resume_overrides=[model.widht=8]",
            "model.widht is no key of the run that is resumed; the nearest is model.width",
        ),
        (
            "resume_overrides=[trainer.accumulate_grad_batches=2]",
            "trainer.accumulate_grad_batches is no key of the run that is resumed; to add it, put "
            "a + in front: +trainer.accumulate_grad_batches=2",
        ),
        (
            "resume_overrides=[+experiment=liver]",
            "experiment=liver cannot differ from the run that is resumed: it chooses files, whose "
            "keys the run has already; leave it out, or start a new run",
        ),
        (
            "augment=none",
            "augment=none cannot differ from the run that is resumed: it chooses files, whose keys "
            "the run has already; leave it out, or start a new run",
        ),
        (
            "+trainer.accumulate_grad_batches=2",
            "+trainer.accumulate_grad_batches=2 would change the run that is resumed; leave it "
            "out, or write 'resume_overrides=[+trainer.accumulate_grad_batches=2]'",
        ),
        (
            "resume_overrides=[trainer.limit_val_batches=0.5]",
            "trainer.limit_val_batches=0.5 cannot differ from the run that is resumed: the best "
            "checkpoint so far was chosen by it; leave it out, or start a new run",
        ),
        (
            "resume_overrides=[model.width=8]",
            "model.width=8 cannot differ from the run that is resumed: the weights are those of "
            "this network; leave it out, or start a new run",
        ),
        (
            "resume_overrides=[seed=1,data.image_size=[32,32]]",
            "data.image_size=[32,32] cannot differ from the run that is resumed: the weights were "
            "trained and scored with it; leave it out, or start a new run",
        ),
        (
            "resume_overrides=[+callbacks.best.save_top_k=2]",
            "callbacks.best.save_top_k=2 cannot differ from the run that is resumed: the best "
            "checkpoint so far was chosen by it; leave it out, or start a new run",
        ),
        (
            "monitor=val/iou",
            "monitor=val/iou cannot differ from the run that is resumed: the best checkpoint so "
            "far was chosen by it; leave it out, or start a new run",
        ),
        (
            "hydra.run.dir=elsewhere",
            "hydra.run.dir=elsewhere cannot differ from the run that is resumed: it goes on in its "
            "own folder; leave it out, or start a new run",
        ),
        (
            "output_dir=elsewhere",
            "output_dir=elsewhere cannot differ from the run that is resumed: it goes on in its "
            "own folder; leave it out, or start a new run",
        ),
        (
            "resume_overrides=[scheduler=plateau]",
            "scheduler=plateau is a choice of settings, and those of a resumed run are there "
            "already; name single keys, or start a new run",
        ),
        (
            "optimizer=sgd",
            "optimizer=sgd is a choice of settings, and those of a resumed run are there already; "
            "name single keys, or start a new run",
        ),
        ("seed=1,2", "seed=1,2 stands for several runs, and resume continues one; name a value"),
        (
            "seed={",
            "seed={ cannot be read; close its brackets and quotes, or make its value a text: "
            "'seed=\"{\"'",
        ),
        (
            "resume_overrides=[seed={]",
            "seed={ cannot be read; close its brackets and quotes, or make its value a text: "
            "'seed=\"{\"'",
        ),
        (
            "resume_overrides=[optimizer.betas=[0.8,0.9]",
            "optimizer.betas=[0.8,0.9 cannot be read; close its brackets and quotes, or make its "
            "value a text: 'optimizer.betas=\"[0.8,0.9\"'",
        ),
        (
            "resume_overrides=[seed]",
            "seed has no = in it; write seed=VALUE, and quote the whole where a value holds spaces",
        ),
        ("resume_overrides=[~seed]", "~seed cannot be read; write KEY=VALUE"),
        ("-m", "-m does not go with resume={run}, which continues one run"),
    ],
)
def test_what_would_change_the_result_is_refused(argument: str, sentence: str, run: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence.replace('{run}', str(run)))}$"):
        resumed_config([f"resume={run}", argument])


def test_a_run_that_is_not_there_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^resume= is no run folder: it holds no config"):
        resumed_config(["resume="])
    with pytest.raises(FileNotFoundError, match=r"^resume=no does not exist; name a run folder,"):
        resumed_config(["resume=no"])
    with pytest.raises(FileNotFoundError, match=r"^resume=pairs is no run folder: it holds no con"):
        resumed_config(["resume=pairs"])
    with pytest.raises(FileNotFoundError, match=r"^resume=last: logs/train/runs holds no run with"):
        resumed_config(["resume=last"])


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.yaml", "seed: [1\n", "while parsing a flow sequence"),
        ("config.yaml", "", "it holds no output_dir"),
        ("config.yaml", "- 1\n", "it holds no output_dir"),
        ("config.yaml", b"\xff\xfe\x00", "'utf-8' codec can't decode byte 0xff"),
        (".hydra/hydra.yaml", "hydra: {a\n", "while parsing a flow mapping"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    file: str, content: str | bytes, reason: str, run: Path
) -> None:
    damaged = run / file
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(content if isinstance(content, bytes) else content.encode())
    pattern = rf"^{damaged} is damaged \({re.escape(reason)}.*\); restore it, or start a new run$"
    read = log_like_the_run if "hydra" in file else load_config
    with pytest.raises(ValueError, match=pattern):
        read(run)


def test_a_run_lives_where_its_folder_lies(run: Path, tmp_path: Path) -> None:
    logs = {"handlers": {"file": {"class": "logging.FileHandler", "level": "INFO"}}}
    logs["handlers"]["file"]["filename"] = "${hydra.runtime.output_dir}/run.log"
    logs |= {"version": 1, "disable_existing_loggers": False}
    logs |= {"root": {"handlers": ["file"], "level": "INFO"}}
    hydra = {"runtime": {"output_dir": str(run)}, "job_logging": logs}
    (run / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save({"hydra": hydra}, run / ".hydra" / "hydra.yaml")
    moved = run.rename(tmp_path / "moved")
    assert load_config(moved).output_dir == str(moved)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log_like_the_run(moved)
        logging.getLogger("liverseg").info("goes on")
        root.handlers[-1].close()
    finally:
        root.handlers[:], root.level = before
    assert "goes on" in (moved / "run.log").read_text()
    assert not run.exists()


def test_a_run_starts_over_only_where_it_left_no_checkpoint(run: Path) -> None:
    checkpoints = run / "checkpoints"
    (checkpoints / "last.ckpt").rename(checkpoints / "best.ckpt")
    config = resumed_config([f"resume={run}"])
    assert config is not None
    assert config.resume == str(checkpoints / "best.ckpt")
    (checkpoints / "best.ckpt").unlink()
    assert resumed_config([f"resume={run}"]) is not None
