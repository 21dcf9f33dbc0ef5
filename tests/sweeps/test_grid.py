import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from hydra_plugins.liverseg_sweeps import ResumableSweeper
from liverseg.runs.jobs import prepare_jobs
from liverseg.runs.resume import load_config
from liverseg.settings import commandline
from liverseg.sweeps.grid import combinations, unfinished

Compose = Callable[..., DictConfig]


def parsed(*texts: str) -> list:
    return OverridesParser.create().parse_overrides(list(texts))


def test_all_values_are_combined_and_what_differs_is_named() -> None:
    found = combinations(parsed("data=liver", "seed=1,2", "model.dilations=[2,4]", "fold=range(2)"))
    fixed = ["data=liver", "model.dilations=[2,4]"]
    assert [swept for _, swept in found] == [
        ["seed=1", "fold=0"],
        ["seed=1", "fold=1"],
        ["seed=2", "fold=0"],
        ["seed=2", "fold=1"],
    ]
    assert sorted(found[3][0]) == sorted([*fixed, "seed=2", "fold=1"])


def test_one_job_without_values_to_combine() -> None:
    assert combinations(parsed("seed=1", "~scheduler")) == [(["seed=1", "~scheduler"], [])]


def test_values_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lr=interval\(0,1\) has no end of values; list some"):
        combinations(parsed("lr=interval(0,1)"))


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("width=range(5,1)", "width=range(5,1) holds no value; list some (width=1,2)"),
        (
            "width=range(1,5,0)",
            "width=range(1,5,0) cannot be listed (range() arg 3 must not be zero); list some "
            "(width=1,2)",
        ),
    ],
)
def test_values_that_cannot_be_listed_are_refused(typed: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        combinations(parsed(typed))


@pytest.fixture
def make(compose: Compose) -> Callable[[Sequence[str]], DictConfig]:
    def composed(overrides: Sequence[str]) -> DictConfig:
        return compose([*overrides], with_hydra=True)

    return composed


def test_the_same_command_finds_its_jobs_and_another_value_adds_one(
    make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    first = prepare_jobs(sweep, combinations(parsed("seed=1,2")), make)
    assert [job.folder.name for job in first] == ["0_seed=1", "1_seed=2"]
    again = prepare_jobs(sweep, combinations(parsed("seed=3,2,1")), make)
    assert [job.folder.name for job in again] == ["2_seed=3", "1_seed=2", "0_seed=1"]


def test_a_value_that_is_written_otherwise_is_the_same_job(
    make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    one = ["optimizer.lr=1e-3", "model.dilations=[2,4]", "~data.augment.flip"]
    (first,) = prepare_jobs(tmp_path, combinations(parsed(*one, "seed=1")), make)
    more = ["optimizer.lr=1e-3,1e-2", "model.dilations=[2, 4]", "~data.augment.flip"]
    again = prepare_jobs(tmp_path, combinations(parsed(*more, "seed=1")), make)
    assert (len(again), again[0]) == (2, first)


@pytest.mark.parametrize("key", ["data.root", "data.num_workers"])
def test_each_value_of_a_harmless_key_is_a_job(
    key: str, make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    command = combinations(parsed(f"{key}=1,2"))
    assert len(prepare_jobs(tmp_path, command, make)) == 2
    assert len(prepare_jobs(tmp_path, command, make)) == 2


def test_a_job_that_waits_takes_a_harmless_setting_of_the_command(
    make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    (job,) = prepare_jobs(tmp_path, combinations(parsed("seed=1")), make)
    (again,) = prepare_jobs(tmp_path, combinations(parsed("seed=1", "data.num_workers=2")), make)
    assert again == job
    assert load_config(job.folder).data.num_workers == 2


def test_a_changed_config_is_noticed_before_anything_runs(
    make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    prepare_jobs(sweep, combinations(parsed("seed=1,2")), make)

    def edited(overrides: Sequence[str]) -> DictConfig:
        config = make(overrides)
        config.model.width = 99
        return config

    sentence = r"changed since 0_seed=1 of sweep sweep began: model.width \(was 4, is 99\); restore"
    with pytest.raises(ValueError, match=sentence):
        prepare_jobs(sweep, combinations(parsed("seed=1,2")), edited)


def test_finished_jobs_are_passed_over_and_failed_ones_tried_again(
    make: Callable[[Sequence[str]], DictConfig], tmp_path: Path
) -> None:
    jobs = prepare_jobs(tmp_path, combinations(parsed("seed=range(4)")), make)
    (jobs[0].folder / "metrics.json").write_text("{}")
    (jobs[1].folder / "pruned.json").write_text("{}")
    record = jobs[2].folder / "job.json"
    record.write_text(record.read_text().replace("waiting", "failed"))
    rest = unfinished(jobs)
    assert next(rest) == jobs[2]
    record = jobs[3].folder / "job.json"  # another command fails it meanwhile
    record.write_text(record.read_text().replace("waiting", "failed"))
    assert next(rest, None) is None


def test_what_an_experiment_lists_is_run_but_for_what_is_typed_or_not_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"model": "unet,smp_unet,unet_small", "seed": "1,2"}
    sweeper = ResumableSweeper(params=params, draw="builtins.print", conclude="builtins.print")
    monkeypatch.setattr(commandline, "find_spec", lambda name: None)
    assert list(sweeper.listed(["model.depth=2"])) == ["model=unet,unet_small", "seed=1,2"]
    assert "left out: model=smp_unet needs a package that is not installed" in caplog.text
    assert list(sweeper.listed(["model=unet", "seed=3,4"])) == []
