from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from liverseg import launch


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"])
def test_nothing_is_started_where_a_launcher_did(
    variable: str, compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "2")
    monkeypatch.setattr(launch, "train", lambda config, begun: {"devices": config.trainer.devices})
    assert launch.train_on_all_devices(compose(["trainer.devices=2"])) == {"devices": 2}


def test_what_a_killed_process_left_half_written_is_deleted_where_its_run_goes_on(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    left = [run / f".{'0a' * 16}.unfinished", run / "pictures" / f".{'b1' * 16}.unfinished.png"]
    kept = [run / "run.log", run / ".own.unfinished"]
    for file in (*left, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a half")
    monkeypatch.setattr(launch, "train", lambda config, begun: {})
    launch.train_on_all_devices(compose([]))
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in kept)


def test_a_folder_that_holds_a_run_is_not_trained_into_again(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"run holds a run already; resume=.*run continues it, "):
        launch.train_on_all_devices(compose([]))
