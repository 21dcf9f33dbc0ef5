from pathlib import Path

import hydra
from omegaconf import OmegaConf

from liverseg.runs.jobs import prepare
from liverseg.runs.resume import load_config
from liverseg.sweeps.sweep import write_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
GROUPS = {path.name for path in CONFIGS.iterdir() if path.is_dir()}


def test_the_experiment_composes_what_the_job_was(tmp_path: Path) -> None:
    overrides = [
        *("experiment=liver_cpu", "data=pairs", "data.root=/some/folder", "loss=dice"),
        *("model.dilations=[2,4]", "optimizer.lr=0.0012520653814999472", "model.width=8"),
        *("scheduler.T_max=3", "data.class_names=[a]", "~data.augment.move", "sweep_name=first"),
        *("++trainer.enable_progress_bar=false", "hydra.launcher.jobs=2"),
    ]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", overrides, return_hydra_config=True)
    job = prepare(tmp_path, config, overrides, [])
    command = write_experiment(tmp_path, job, "Job 0: val/dice 0.5", lambda key: key in GROUPS)
    text = (tmp_path / "experiment" / "best.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# Job 0: val/dice 0.5\n# {command}\n")
    found = [f"hydra.searchpath=[file://{tmp_path}]", *command.split()[4:]]
    assert found[1:] == ["experiment=best", "~data.augment.move"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        again = hydra.compose("train", [*found, f"output_dir={job.folder}", "sweep_name=x"])
    assert again.sweep_name == "x"  # not that of the search, lest jobs be mixed
    was = load_config(job.folder)
    was.sweep_name = "x"
    del was.trainer.enable_progress_bar  # no part of the result
    assert OmegaConf.to_container(again) == OmegaConf.to_container(was)
