"""``python train.py resume=RUN``: the config of a run that is to be continued in its folder.

Read before Hydra composes anything, because a resumed run has no new folder and no new config.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.utils import configure_log
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from liverseg.runs.files import write_text

CONFIG_FILE = "config.yaml"
SCORES_FILE = "metrics.json"
RUN_LOCK = ".lock"  # in a run folder, held by the process that trains there
_RUNS = Path("logs/train/runs")
# What may differ without a change to the result.
HARMLESS = (
    "data.root",  # the pairs themselves are compared by their fingerprint
    "data.num_workers",
    "data.cache_megabytes",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "callbacks.pictures.num_pictures",
    "callbacks.pictures.num_worst",
    "callbacks.dashboard.pr_curve",
    "callbacks.dashboard.graph",
)


def save_config(config: DictConfig, folder: Path) -> None:
    """Write a run's config into a folder, with what depends on the moment filled in."""
    kept = config.copy()
    kept.output_dir = str(Path(config.output_dir).absolute())
    kept.sweep_name = config.sweep_name
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(kept))


def load_config(folder: Path) -> DictConfig:
    """Return the config that :func:`save_config` wrote."""
    config = OmegaConf.load(folder / CONFIG_FILE)
    assert isinstance(config, DictConfig)
    return config


def read_scores(folder: Path) -> dict[str, float]:
    """Return a run's final scores by name; none where it has not ended."""
    file = folder / SCORES_FILE
    scores: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
    return scores


def resume_or(start: Callable[[], None], run: Callable[[DictConfig], float]) -> None:
    """Continue the run that the command line names, or start a new one where it names none.

    Args:
        start: Composes a config and runs it.
        run: Runs a config.
    """
    try:
        config = resumed_config(sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    if config is None:
        return start()
    log_like_the_run(Path(config.output_dir))
    try:
        run(config)
    except CompactHydraException as error:
        sys.exit(str(error))


def log_like_the_run(run: Path) -> None:
    """Log to the console and the run's ``run.log``, as its Hydra was configured."""
    configure_log(OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.job_logging)


def resumed_config(arguments: list[str]) -> DictConfig | None:
    """Return the config of the run that ``resume=`` names, or None without that argument.

    Args:
        arguments: The command line without the script. Besides ``resume=RUN|last``, values that
            leave the result alone may stand there, and others in
            ``resume_overrides=[key=value,...]``.

    Raises:
        FileNotFoundError: If there is no such run.
        ValueError: If an argument would change the result, or names no key.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    name = given.pop("resume", "null")
    if name in ("null", ""):
        return None
    if others := [one for one in arguments if "=" not in one]:
        raise ValueError(f"{others[0]} does not go with resume={name}, which continues one run")
    checkpoint = _find_checkpoint(name)
    run = checkpoint.parent.parent
    config = load_config(run)
    changes = _listed(given.pop("resume_overrides", "[]"))
    for key, value in given.items():
        override = f"{key}={value}"
        changed = OmegaConf.select(OmegaConf.from_dotlist([override]), key)
        if key not in HARMLESS and OmegaConf.select(config, key) != changed:
            raise ValueError(
                f"{override} would change the run that is resumed; leave it out, or write "
                f"'resume_overrides=[{override}]'"
            )
        changes.append(override)
    for override in changes:
        _change(config, override)
    config.output_dir = str(run)
    config.resume = str(checkpoint)
    return config


def _find_checkpoint(name: str) -> Path:
    """Return the checkpoint to go on from; where it does not exist yet, the run starts over."""
    if name == "last":
        found = sorted(_RUNS.glob("*/checkpoints/last.ckpt"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise FileNotFoundError(f"resume=last: {_RUNS} holds no run with a checkpoint")
        return found[-1].absolute()
    path = Path(name).absolute()
    checkpoint = path if path.is_file() else path / "checkpoints" / "last.ckpt"
    if not path.exists():
        raise FileNotFoundError(f"resume={name} does not exist; name a run folder, or last")
    if not (checkpoint.parent.parent / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"resume={name} is no run folder: it holds no {CONFIG_FILE}")
    return checkpoint


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.strip("[]").split(",") if part.strip()]


def _change(config: DictConfig, override: str) -> None:
    key = override.partition("=")[0]
    missing = object()
    if OmegaConf.select(config, key, default=missing) is missing:
        raise ValueError(f"{key} is no key of the run that is resumed")
    OmegaConf.update(config, key, OmegaConf.select(OmegaConf.from_dotlist([override]), key))
