"""The best job of a search as a config that anyone can run again."""

from collections.abc import Callable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import OmegaConf

from liverseg.runs import Job, load_config, write_text

EXPERIMENT = "experiment/best.yaml"


def write_experiment(sweep: Path, job: Job, title: str, is_group: Callable[[str], bool]) -> str:
    """Write a job's telling overrides as ``experiment/best.yaml`` into the sweep's folder.

    ``title`` is a line on the job, and ``is_group`` tells whether a key is a config group.

    Returns:
        The command that runs it again. Keys that the job took out stand there, because no file can
        take them out.
    """
    config = load_config(job.folder)
    defaults: list[str | dict[str, str | None]] = []
    values = OmegaConf.create()
    command = [f"python train.py --config-dir {sweep} experiment=best"]
    for override in OverridesParser.create().parse_overrides(job.telling()):
        key, is_removed = override.key_or_group, override.type == OverrideType.DEL
        if key == "experiment" and not is_removed:
            defaults.insert(0, str(override.value()))
        elif is_group(key):
            choice = None if is_removed else str(override.value())
            defaults.append({f"override /{key}": choice})
        elif is_removed:
            command.append(f"~{key}")
        else:
            OmegaConf.update(values, key, OmegaConf.select(config, key), force_add=True)
    parts = [f"# @package _global_\n# {title}\n# {' '.join(command)}\n"]
    if defaults:
        parts.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults})))
    if values:
        parts.append(OmegaConf.to_yaml(values))
    write_text(sweep / EXPERIMENT, "".join(parts))
    return " ".join(command)
