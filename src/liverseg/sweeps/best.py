"""The best job of a search as a config that anyone can run again."""

from collections.abc import Callable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import OmegaConf

from liverseg.files import write_text
from liverseg.resume import load_config
from liverseg.sweeps.jobs import Job

EXPERIMENT = "experiment/best.yaml"


def write_experiment(sweep: Path, job: Job, title: str, is_group: Callable[[str], bool]) -> Path:
    """Write a job's overrides as ``experiment/best.yaml`` into the sweep's folder.

    Args:
        sweep: The folder of the sweep.
        job: The job.
        title: What the file says of it, one line.
        is_group: Tells whether a key is a config group.
    """
    config = load_config(job.folder)
    defaults: list[str | dict[str, str | None]] = []
    values = OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(list(job.overrides)):
        key, is_removed = override.key_or_group, override.type == OverrideType.DEL
        if key == "experiment" and not is_removed:
            defaults.insert(0, str(override.value()))
        elif is_group(key):
            choice = None if is_removed else str(override.value())
            defaults.append({f"override /{key}": choice})
        elif not key.startswith("hydra.") and not is_removed:
            OmegaConf.update(values, key, OmegaConf.select(config, key), force_add=True)
    command = f"python train.py --config-dir {sweep} experiment=best"
    parts = [f"# @package _global_\n# {title}\n# {command}\n"]
    if defaults:
        parts.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults})))
    if values:
        parts.append(OmegaConf.to_yaml(values))
    file = sweep / EXPERIMENT
    write_text(file, "".join(parts))
    return file
