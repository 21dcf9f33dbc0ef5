import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError

from liverseg.runs.jobs import (
    Job,
    find_jobs,
    flat,
    folder_name,
    prepare,
    recorded,
    refuse_changes,
    task_config,
    telling,
)
from liverseg.runs.resume import load_config

Compose = Callable[..., DictConfig]


def _identity(overrides: Sequence[str], swept: Sequence[str]) -> set[str]:
    return set(telling(overrides, swept))


@pytest.fixture
def config(compose: Compose) -> DictConfig:
    """A job's config, with Hydra's part."""
    output_dir = "output_dir=${hydra:runtime.output_dir}"
    return compose(["model.width=8", output_dir], with_hydra=True)


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        ([], "3"),
        (["model=unet"], "3_model=unet"),
        (["optimizer.lr=0.0012520653814999472"], "3_optimizer.lr=0.001252"),
        (["data.root=/a b/c", "seed=1"], "3_data.root=-a-b-c_seed=1"),
        (["model.dilations=[2,4]"], "3_model.dilations=-2,4-"),
    ],
)
def test_a_folder_is_named_by_its_number_and_what_is_swept(swept: list[str], name: str) -> None:
    assert folder_name(3, swept) == name


def test_a_long_name_is_cut() -> None:
    assert len(folder_name(12, ["data.root=" + "x" * 300])) == 100


def test_jobs_are_the_same_whatever_the_order_and_the_harmless_overrides() -> None:
    one = _identity(["model=unet", "seed=1", "sweep_name=a", "data.num_workers=2"], [])
    assert one == _identity(["seed=1", "++trainer.enable_progress_bar=false", "model=unet"], [])
    assert one != _identity(["seed=2", "model=unet"], [])


@pytest.mark.parametrize("key", ["data.root", "data.num_workers"])
def test_jobs_over_what_is_harmless_otherwise_are_told_apart(key: str) -> None:
    one, other = ([f"{key}={value}"] for value in (1, 2))
    assert _identity(one, one) != _identity(other, other)


def test_the_same_job_on_another_folder_is_another_job() -> None:
    assert _identity(["data.root=a"], []) != _identity(["data.root=b"], [])


def test_a_job_that_is_still_to_run_takes_harmless_settings(
    config: DictConfig, tmp_path: Path
) -> None:
    waiting, done = (prepare(tmp_path, config, [f"seed={seed}"], []) for seed in (1, 2))
    (done.folder / "metrics.json").write_text("{}")
    config.data.num_workers = 3
    with open_dict(config):
        config.trainer.log_every_n_steps = 7
        config.model.width = 16  # refused where it is noticed, see refuse_changes
    for job in (waiting, done):
        job.renew(config)
    renewed, kept = load_config(waiting.folder), load_config(done.folder)
    assert (renewed.data.num_workers, kept.data.num_workers) == (3, None)
    assert renewed.trainer.log_every_n_steps == 7
    assert renewed.model.width == 8
    assert renewed.output_dir == str(waiting.folder)
    config.data.num_workers = None  # and back
    waiting.renew(config)
    assert load_config(waiting.folder).data.num_workers is None


def test_a_prepared_job_is_found_again_and_starts_from_its_own_config(
    config: DictConfig, tmp_path: Path
) -> None:
    job = prepare(tmp_path, config, ["model.width=8", "seed=1"], ["seed=1"], {"trial": 4})
    assert job.folder == tmp_path / "0_seed=1"
    assert find_jobs(tmp_path) == [job]
    assert (job.status(), job.record()["trial"], job.number) == ("waiting", 4, 0)
    saved = load_config(job.folder)
    assert saved.output_dir == str(job.folder)
    assert saved.model.width == 8
    assert "hydra" not in saved
    hydra = OmegaConf.load(job.folder / ".hydra" / "hydra.yaml").hydra
    assert hydra.runtime.output_dir == str(job.folder)
    assert OmegaConf.load(job.folder / ".hydra" / "overrides.yaml") == ["model.width=8", "seed=1"]


def test_numbers_go_on_after_the_highest(config: DictConfig, tmp_path: Path) -> None:
    for number in range(12):
        assert prepare(tmp_path, config, [f"seed={number}"], []).number == number
    assert [job.number for job in find_jobs(tmp_path)] == list(range(12))


def test_a_job_that_was_half_prepared_does_not_exist(config: DictConfig, tmp_path: Path) -> None:
    job = prepare(tmp_path, config, ["seed=1"], [])
    os.rename(job.folder, tmp_path / ".0.unfinished")
    assert find_jobs(tmp_path) == []
    assert prepare(tmp_path, config, ["seed=1"], []).status() == "waiting"


def test_what_changed_in_a_config_is_named_with_both_values(
    config: DictConfig, tmp_path: Path
) -> None:
    job = prepare(tmp_path, config, [], [])
    before = flat(load_config(job.folder))
    refuse_changes("it", before, flat(task_config(config, job.folder)))
    config.model.width = 16
    config.data.num_workers = 3  # changes no result
    with open_dict(config):
        config.model.new = None
        del config.model.norm
    sentence = (
        "the configs have changed since it began: model.new (was missing, is None), model.norm "
        "(was batch, is missing), model.width (was 8, is 16); restore them, or give another "
        "sweep_name"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        refuse_changes("it", before, flat(task_config(config, job.folder)))


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (None, "done", ""),
        (RuntimeError("first\nlast"), "failed", "last"),
        (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero"),
        (
            ConfigAttributeError("Missing key a\n    full_key: b.a\n    object_type=dict"),
            "failed",
            "ConfigAttributeError: Missing key a",
        ),
        (SystemExit(143), "interrupted", ""),
        (KeyboardInterrupt(), "interrupted", ""),
    ],
)
def test_the_end_of_a_job_is_recorded(
    error: BaseException | None, status: str, line: str, config: DictConfig, tmp_path: Path
) -> None:
    job = prepare(tmp_path, config, [], [])

    def work() -> None:
        with recorded(job.folder):
            assert job.record()["status"] == "running"
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert (job.record()["status"], job.record()["error"]) == (status, line)


def test_the_time_of_an_interrupted_job_is_added_up(config: DictConfig, tmp_path: Path) -> None:
    job = prepare(tmp_path, config, [], [])
    record = {**job.record(), "seconds": 100.0}
    (job.folder / "job.json").write_text(json.dumps(record))
    with recorded(job.folder):
        pass
    assert 100 <= job.record()["seconds"] < 200


def test_a_job_whose_process_was_killed_is_interrupted(config: DictConfig, tmp_path: Path) -> None:
    job = prepare(tmp_path, config, [], [])
    (job.folder / "job.json").write_text(json.dumps({**job.record(), "status": "running"}))
    assert job.status() == "interrupted"  # nothing holds the lock of its folder


def test_a_run_of_its_own_keeps_no_record(tmp_path: Path) -> None:
    with recorded(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_scores_decide_that_a_job_is_done(config: DictConfig, tmp_path: Path) -> None:
    job: Job = prepare(tmp_path, config, [], [])
    assert job.scores() == {}
    (job.folder / "pruned.json").write_text("{}")
    assert job.status() == "pruned"
    (job.folder / "metrics.json").write_text('{"val/dice": 0.5}')
    assert job.status() == "done"
    assert job.scores() == {"val/dice": 0.5}
