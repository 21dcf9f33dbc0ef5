"""How a sweep ends: what other commands run, and what the disk does not take."""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from liverseg.runs import find_jobs, locked
from liverseg.sweeps import Pool, run_sweep, sweep


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., None]:
    """Runs a sweep over two seeds, or a search, whose jobs are processes that do nothing."""

    def ran(folder: Path = tmp_path / "sweep", search: Sequence[str] = ()) -> None:
        run_sweep(
            folder,
            OverridesParser.create().parse_overrides(["seed=1,2", *search[1:]]),
            config=compose([*search]),
            compose=lambda overrides: compose([*overrides], with_hydra=True),
            is_group=lambda key: False,
            launcher=Pool(["true"], num_slots=1, devices="auto"),
            draw=lambda file, rows: None,
        )

    return ran


@pytest.mark.slow
def test_jobs_that_run_elsewhere_are_no_failure(
    run: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"^2 of 2 jobs have not succeeded, see "):
        run()  # they end with status 0, and without scores
    first, second = find_jobs(tmp_path / "sweep")
    (second.folder / "metrics.json").write_text('{"val/dice": 0.5}')
    caplog.set_level(logging.INFO)
    with locked(first.folder / ".claim", wait=False):
        run()
    assert "1 jobs run elsewhere" in caplog.text


@pytest.mark.slow
def test_a_search_says_how_it_goes_on_after_jobs_that_failed(run: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=r"^2 of 2 jobs .* search\.num_trials draws others$"):
        run(search=["search=optuna", "search.num_trials=2"])
    with pytest.raises(ValueError, match=r"^2 of 2 jobs .* search\.num_trials draws others$"):
        run(search=["search=optuna", "search.num_trials=2"])
    with pytest.raises(ValueError, match=r"^3 of 3 jobs "):
        run(search=["search=optuna", "search.num_trials=3"])


@pytest.mark.slow
def test_tables_that_a_full_disk_does_not_take_end_nothing(
    run: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(file: Path, rows: Sequence[object]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(sweep, "write_csv", full)
    with pytest.raises(ValueError, match=r"^2 of 2 jobs have not succeeded, see "):
        run()  # both were tried
    assert f"{tmp_path}/sweep/sweep.csv: No space left on device" in caplog.text


def test_a_folder_that_cannot_be_written_is_told(
    run: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="/file"):
        run(tmp_path / "file" / "sweep")
    assert "the same command with sweep_name=sweep goes on" in caplog.text
