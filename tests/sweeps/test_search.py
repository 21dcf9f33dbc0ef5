import json
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from liverseg.experiment import train
from liverseg.runs.jobs import Job, find_jobs
from liverseg.runs.resume import load_config
from liverseg.settings.classes import check_values
from liverseg.sweeps.search import OptunaSearch, Study, open_storage

Compose = Callable[..., DictConfig]
SPACE = {"optimizer.lr": "tag(log, interval(1e-4, 1e-2))", "model.width": "choice(4, 6)"}
PRUNER = {"_target_": "optuna.pruners.ThresholdPruner", "lower": 0.99, "n_warmup_steps": 1}


def parsed(*texts: str) -> list:
    return OverridesParser.create().parse_overrides(list(texts))


def search(**changes: Any) -> OptunaSearch:
    arguments = {
        "num_trials": 6,
        "storage": None,
        "seed": 0,
        "space": SPACE,
        "sampler": {"_target_": "optuna.samplers.RandomSampler"},
        "pruner": PRUNER,
        **changes,
    }
    return OptunaSearch(**arguments)


@pytest.fixture
def study(compose: Compose, tmp_path: Path) -> Callable[..., Study]:
    """Opens the study of a sweep, as a command that is given again does."""

    def opened(name: str = "sweep", overrides: Sequence[str] = (), **changes: Any) -> Study:
        return Study(
            search(**changes),
            sweep=tmp_path / name,
            overrides=parsed(*overrides),
            compose=lambda overrides: compose([*overrides], with_hydra=True),
            monitor="val/dice",
            mode="max",
        )

    return opened


def ends(study: Study, job: Job, **outcome: Any) -> None:
    """Pretend that a job's process has ended."""
    if "dice" in outcome:
        (job.folder / "metrics.json").write_text(json.dumps({"val/dice": outcome["dice"]}))
    else:
        record = {**job.record(), **outcome}
        (job.folder / "job.json").write_text(json.dumps(record))
    study.has_ended(job)


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.study.trials]


def test_the_space_is_read_and_the_command_takes_its_place() -> None:
    space = {
        **SPACE,
        "model.depth": "range(2, 5)",
        "loss": "choice(dice, bce)",
        "n": "int(interval(1, 4))",
    }
    overrides = parsed("optimizer.lr=1e-3", "seed=1,2", "loss=dice", "x=range(0.5,1,0.25)")
    assert search(space=space).distributions(overrides) == {
        "model.width": CategoricalDistribution(["4", "6"]),
        "model.depth": IntDistribution(2, 4),
        "n": IntDistribution(1, 4),
        "seed": CategoricalDistribution(["1", "2"]),
        "x": CategoricalDistribution(["0.5", "0.75"]),
    }
    assert search().distributions([])["optimizer.lr"] == FloatDistribution(1e-4, 1e-2, log=True)


def test_a_space_without_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"search\.space holds nothing to choose from"):
        search(space={}).distributions(parsed("seed=1"))


def test_a_range_may_count_down() -> None:
    found = search(space={"n": "range(5, 1, -2)"}).distributions([])
    assert found == {"n": IntDistribution(3, 5, step=2)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pruner": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": -1}},
            "search.pruner cannot be made: Number of startup trials cannot be negative, but got "
            "n_startup_trials=-1.",
        ),
        (
            {"pruner": {"_target_": "os.getcwd"}},
            "search.pruner._target_=os.getcwd makes no pruner of Optuna's",
        ),
        (
            {"sampler": {"_target_": "builtins.dict"}},
            "search.sampler._target_=builtins.dict makes no sampler of Optuna's",
        ),
    ],
)
def test_a_search_that_could_not_run_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        search(**changes)


@pytest.mark.parametrize("part", [{"sampler": None}, {"pruner": {"lower": 1}}])
def test_a_part_of_a_search_that_names_no_class_is_refused(part: dict[str, Any]) -> None:
    (word,) = part
    sentence = rf"^search\.{word}=.+ must be (null or )?a section that names a class by _target_"
    with pytest.raises(ValueError, match=sentence):
        check_values("search", part, OptunaSearch)


@pytest.mark.parametrize(
    ("space", "typed", "sentence"),
    [
        (
            {"model.width": "8"},
            [],
            "search.space.model.width=8 leaves no choice; list several, or give model.width=8 to "
            "the command",
        ),
        ({"model.width": "choice("}, [], "model.width=choice( cannot be read; close its brackets "),
        (
            {},
            ["lr=tag(log,interval(0,1))"],
            "lr=tag(log,interval(0,1)) cannot be searched: `low > 0` must hold for `log=True`",
        ),
        ({}, ["lr=interval(1,0)"], "lr=interval(1,0) cannot be searched: `low <= high` must hold"),
        (
            {},
            ["width=range(5,1)"],
            "width=range(5,1) cannot be searched: width=range(5,1) holds no value; list some",
        ),
        (
            {},
            ["monitor=val/dice,val/iou"],
            "monitor is what a search judges by; give it a single value",
        ),
    ],
)
def test_values_that_nothing_can_be_chosen_from_are_refused(
    space: dict[str, str], typed: list[str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        search(space=space).distributions(parsed(*typed))


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("foo", "Could not parse SQLAlchemy URL from given URL string"),
        ("sqlite:////nowhere/x.db", "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(
    storage: str, reason: str, study: Callable[..., Study]
) -> None:
    sentence = (
        f"search.storage={storage} cannot be used ({reason}); give a URL such as "
        "sqlite:///study.db, or a file ending in .log, where there is room"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        study(storage=storage)


@pytest.mark.parametrize("seed", [42_949, 2**32 - 1])
def test_every_seed_draws_trials_that_differ(seed: int, study: Callable[..., Study]) -> None:
    one = study(seed=seed)
    drawn = [job.swept for job, _ in zip(one.jobs(), range(3), strict=False)]
    assert len(set(drawn)) == 3


def test_searches_that_begin_at_once_share_one_study(compose: Compose, tmp_path: Path) -> None:
    config = compose([], with_hydra=True)
    begin = threading.Barrier(4)

    def begun(place: int) -> int:
        begin.wait()
        one = Study(
            search(num_trials=4),
            sweep=tmp_path / "sweep",
            overrides=[],
            compose=lambda overrides: config.copy(),
            monitor="val/dice",
            mode="max",
        )
        return next(one.jobs()).number

    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(begun, range(4)))
    assert len(find_jobs(tmp_path / "sweep")) == max(numbers) + 1


@pytest.mark.slow
def test_searches_that_begin_at_once_may_share_a_new_storage(tmp_path: Path) -> None:
    for place in range(5):  # without another attempt, two of three times
        begin = threading.Barrier(4)

        def opened(_: int, place: int = place, begin: threading.Barrier = begin) -> int:
            begin.wait()
            return len(open_storage(f"sqlite:///{tmp_path}/{place}.db").get_all_studies())

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(opened, range(4))) == [0] * 4


def test_outcomes_are_told_to_the_study(study: Callable[..., Study]) -> None:
    one = study()
    jobs = one.jobs()
    ends(one, next(jobs), dice=0.25)
    ends(one, next(jobs), dice=0.75)
    ends(one, next(jobs), status="failed")
    ends(one, next(jobs), dice=float("nan"))
    pruned = next(jobs)
    (pruned.folder / "pruned.json").write_text("{}")
    one.has_ended(pruned)
    last = next(jobs)
    ends(one, last, status="interrupted")
    assert next(jobs, None) is None
    assert states(one) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "PRUNED", "RUNNING"]
    best = one.best()
    assert best is not None
    assert (best[0].number, best[1]) == (1, 0.75)
    assert "model.width=4" in last.overrides or "model.width=6" in last.overrides


@pytest.mark.slow
def test_a_search_that_is_started_again_goes_on_as_if_nothing_had_happened(
    study: Callable[..., Study],
) -> None:
    dice = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2]
    sampler = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2}
    undisturbed = study("undisturbed", sampler=sampler)
    for job in undisturbed.jobs():
        ends(undisturbed, job, dice=dice[job.number])
    first = study("stopped", sampler=sampler)
    jobs = first.jobs()
    for _ in range(3):
        job = next(jobs)
        ends(first, job, dice=dice[job.number])
    killed = next(jobs)  # its process dies, and so does the command
    second = study("stopped", sampler=sampler)
    rest = []
    for job in second.jobs():
        rest.append(job.number)
        ends(second, job, dice=dice[job.number])
    assert rest == [killed.number, 4, 5]
    parameters = [[trial.params for trial in one.study.trials] for one in (undisturbed, second)]
    assert parameters[0] == parameters[1]
    assert len({tuple(one.items()) for one in parameters[0]}) == 6


def test_an_interrupted_trial_takes_a_harmless_setting_of_the_command(
    study: Callable[..., Study],
) -> None:
    first = next(study().jobs())
    again = next(study(overrides=["data.num_workers=2"]).jobs())
    assert again == first
    assert load_config(again.folder).data.num_workers == 2


def test_a_trial_that_never_got_a_job_is_failed_and_one_that_had_ended_is_told(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    first = study()
    job = next(first.jobs())
    (job.folder / "metrics.json").write_text('{"val/dice": 0.5}')  # killed before it was told
    storage = open_storage(f"sqlite:///{tmp_path}/sweep/study.db")
    optuna.load_study(study_name="sweep", storage=storage).ask()
    second = study(num_trials=2)
    assert list(second.jobs()) == []
    assert states(second) == ["COMPLETE", "FAIL"]


def test_a_trial_whose_command_was_killed_before_its_job_was_written_gets_its_job(
    study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = study("undisturbed", num_trials=2)
    for job in undisturbed.jobs():
        ends(undisturbed, job, dice=0.5)
    first = study("killed", num_trials=2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("liverseg.sweeps.search.prepare", killed)
        with pytest.raises(KeyboardInterrupt):
            next(first.jobs())
    second = study("killed", num_trials=2)
    for job in second.jobs():
        ends(second, job, dice=0.5)
    assert states(second) == ["COMPLETE", "COMPLETE"]
    parameters = [[trial.params for trial in one.study.trials] for one in (undisturbed, second)]
    assert parameters[0] == parameters[1]


def test_a_study_may_be_kept_in_a_file_of_one_s_own(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    one = study(storage=f"{tmp_path}/shared.log", num_trials=1)
    for job in one.jobs():
        ends(one, job, dice=0.5)
    assert states(study(storage=f"{tmp_path}/shared.log")) == ["COMPLETE"]


@pytest.mark.parametrize("storage", [None, "shared.log"])
def test_a_search_that_was_renamed_goes_on(
    storage: str | None, study: Callable[..., Study], tmp_path: Path
) -> None:
    place = storage and str(tmp_path / storage)
    first = study("before", storage=place, num_trials=3)
    jobs = first.jobs()
    ends(first, next(jobs), dice=0.5)
    interrupted = next(jobs)
    (tmp_path / "before").rename(tmp_path / "after")
    second = study("after", storage=place, num_trials=3)
    rest = list(second.jobs())
    assert [job.number for job in rest] == [interrupted.number, 2]
    assert states(second) == ["COMPLETE", "RUNNING", "RUNNING"]
    pruning = load_config(rest[0].folder).callbacks.pruning
    reported = optuna.load_study(study_name=pruning.study, storage=open_storage(pruning.storage))
    assert [trial.state.name for trial in reported.trials] == states(second)


def test_other_values_than_a_search_began_with_are_refused_and_cost_no_trial(
    study: Callable[..., Study],
) -> None:
    first = study(num_trials=1)
    for job in first.jobs():
        ends(first, job, dice=0.5)
    sentence = r"^model\.width cannot be chosen from other values .*; give those that it began with"
    with pytest.raises(ValueError, match=sentence):
        study(overrides=["model.width=4,8"])
    assert states(study()) == ["COMPLETE"]


def test_a_key_that_does_not_exist_fails_the_trial_and_the_command(
    study: Callable[..., Study],
) -> None:
    one = study(space={"model.widht": "choice(1, 2)"})
    with pytest.raises(ValueError, match=r"search\.space.*model\.widht"):
        next(one.jobs())
    assert states(one) == ["FAIL"]


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_and_its_reports_are_kept(
    study: Callable[..., Study], compose: Compose
) -> None:
    one = study(overrides=["trainer.max_epochs=4", "optimizer.lr=1e-6"])
    job = next(one.jobs())
    assert train(load_config(job.folder)) == {}
    assert job.status() == "pruned"
    stopped = json.loads((job.folder / "pruned.json").read_text())
    assert stopped["epoch"] == 1  # after the epoch that n_warmup_steps grants
    one.has_ended(job)
    (trial,) = one.study.trials
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [0, 1]
    assert trial.intermediate_values[1] == stopped["val/dice"]


@pytest.mark.slow
def test_a_search_without_a_pruner_lets_every_trial_run_to_its_end(
    study: Callable[..., Study],
) -> None:
    one = study(pruner=None, overrides=["trainer.max_epochs=4", "optimizer.lr=1e-6"])
    job = next(one.jobs())
    assert train(load_config(job.folder))
    assert job.status() == "done"


def test_a_search_goes_on_with_the_configs_it_began_with(study: Callable[..., Study]) -> None:
    study(overrides=["model.dropout=0.5"])
    assert states(study(overrides=["model.dropout=0.5"], num_trials=9)) == []
    sentence = r"since the search sweep began: model.dropout \(was 0.5, is 0.25\); restore them, or"
    with pytest.raises(ValueError, match=sentence):
        study(overrides=["model.dropout=0.25"])
