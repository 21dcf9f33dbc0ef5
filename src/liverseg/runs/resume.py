"""``python train.py resume=RUN``: the config of a run that is to be continued in its folder.

Read before Hydra composes anything, because a resumed run has no new folder and no new config.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]  # its stubs are another package

from liverseg.runs.files import read_json, write_text
from liverseg.runs.ranks import is_first_process
from liverseg.settings import all_keys, as_hydra_reads_it, nearest_key, parse_override, remedy

CONFIG_FILE = "config.yaml"
SCORES_FILE = "metrics.json"
_RUNS = Path("logs/train/runs")
# A comma that the next KEY= follows, neither of them within quotes.
_BETWEEN_ENTRIES = re.compile(r""",(?=\s*[\w.+~/@]+=)(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")
# What may differ without a change to the result.
HARMLESS = (
    "data.root",  # the pairs themselves are compared by their fingerprint
    *("data.num_workers", "data.cache_megabytes"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *("callbacks.pictures.num_pictures", "callbacks.pictures.num_worst"),
    *("callbacks.dashboard.pr_curve", "callbacks.dashboard.graph"),
)
_CHOICE = r"(experiment|augment)$"
_OF_THE_FOLDER = r"(output_dir|sweep_name|resume|resume_overrides|search|hydra)(\.|$)"
# What may not differ: patterns of keys, and why. Everything else holds from the next step on.
_FIXED = {
    r"model(\.|$)": "the weights are those of this network",
    r"loss(\.|$)": "the best checkpoint and a schedule may depend on its values so far",
    r"(weights|freeze|freeze_epochs|optimizer_parts)(\.|$)": (
        "the run has begun with it, and its optimizer is made for it"
    ),
    r"scheduler_interval$": "its steps have been counted so far",
    r"optimizer\.(_\w+_|largest_side)$": "what an optimizer keeps of each weight is its own",
    r"data\.(?!batch_size$|seed$|augment(\.|$))": "the weights were trained and scored with it",
    r"(monitor|monitor_mode|threshold|fold|trainer\.limit_val_batches)$"
    r"|callbacks\.best(\.|$)|callbacks\.\w+\.(monitor|mode)$": (
        "the best checkpoint so far was chosen by it"
    ),
    _OF_THE_FOLDER: "it goes on in its own folder",
    _CHOICE: "it chooses files, whose keys the run has already",
}


def refuse_fixed(change: str) -> None:
    """Refuse a change ``KEY=VALUE`` that could not hold from the next step on.

    Raises:
        ValueError: If the key is one of those that stay as they are.
    """
    key = change.partition("=")[0]
    for pattern, reason in _FIXED.items():
        if key not in HARMLESS and re.match(pattern, key):
            raise ValueError(
                f"{change} cannot differ from the run that is resumed: {reason}; leave it out, or "
                "start a new run"
            )


def save_config(config: DictConfig, folder: Path) -> None:
    """Write a run's config into a folder, with what depends on the moment filled in."""
    kept = config.copy()
    kept.output_dir = str(Path(config.output_dir).absolute())
    kept.sweep_name = config.sweep_name
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(kept))


def load_config(folder: Path) -> DictConfig:
    """Return the config that :func:`save_config` wrote, of the folder where it lies now.

    Raises:
        ValueError: If the file is damaged.
    """
    config = _read(folder / CONFIG_FILE, needed=("output_dir", "trainer"))
    config.output_dir = str(folder.absolute())
    return config


def _read(file: Path, needed: Sequence[str]) -> DictConfig:
    """Read a config that was written when a run began, or refuse it as damaged."""
    try:
        config = OmegaConf.load(file)
        reason = next((f"it holds no {key}" for key in needed if key not in config), None)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        config, reason = None, " ".join(str(error).split())
    if reason is not None or not isinstance(config, DictConfig):
        raise ValueError(
            f"{file} is damaged ({reason or 'it is no mapping'}); restore it, or start a new run"
        )
    return config


def read_scores(folder: Path) -> dict[str, float]:
    """Return a run's final scores by name; none where it has not ended."""
    file = folder / SCORES_FILE
    return dict(read_json(file)) if file.is_file() else {}


def resume_or(start: Callable[[], None], run: Callable[[DictConfig], float]) -> None:
    """Run the config of the run that the command line names, or start a new one without any."""
    config = resumed_config(sys.argv[1:])
    if config is None:
        return start()
    if is_first_process():
        log_like_the_run(Path(config.output_dir))
    run(config)


def log_like_the_run(run: Path) -> None:
    """Log to the console and the run's ``run.log``, as its Hydra was configured."""
    config = _read(run / ".hydra" / "hydra.yaml", needed=("hydra",))
    OmegaConf.update(config, "hydra.runtime.output_dir", str(run.absolute()))  # where it lies now
    configure_log(config.hydra.job_logging)


def resumed_config(arguments: list[str]) -> DictConfig | None:
    """Return the config of the run that ``resume=`` names, or None without that argument.

    Besides ``resume=RUN|last``, values that leave the result alone may stand on the command line,
    and others in ``resume_overrides=[key=value,...]``.

    Raises:
        FileNotFoundError: If there is no such run.
        ValueError: If an argument would change the result, or names no key.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    name = re.sub(r"""^(['"])(.*)\1$""", r"\2", given.pop("resume", "null"))
    if name == "null":
        return None
    if others := [one for one in arguments if "=" not in one]:
        raise ValueError(f"{others[0]} does not go with resume={name}, which continues one run")
    checkpoint = _find_checkpoint(name)
    config = load_config(checkpoint.parent.parent)
    config.resume_overrides = _split(given.pop("resume_overrides", "[]"))
    for key, value in given.items():
        _change(config, _parse(f"{key}={value}"), is_listed=False)
    for text in config.resume_overrides:
        _change(config, _parse(as_hydra_reads_it(text)), is_listed=True)
    config.resume = str(checkpoint)
    return config


def _find_checkpoint(name: str) -> Path:
    """Return the checkpoint to go on from; where it does not exist yet, the run starts over."""
    if name == "last":
        if (newest := _newest(_RUNS.glob("*/checkpoints/last.ckpt"))) is None:
            raise FileNotFoundError(f"resume=last: {_RUNS} holds no run with a checkpoint")
        return newest.absolute()
    path = Path(name).absolute()
    checkpoint = path if path.is_file() else last_checkpoint(path / "checkpoints")
    if not path.exists():
        raise FileNotFoundError(f"resume={name} does not exist; name a run folder, or last")
    if not (checkpoint.parent.parent / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"resume={name} is no run folder: it holds no {CONFIG_FILE}")
    return checkpoint


def last_checkpoint(checkpoints: Path) -> Path:
    """Return the checkpoint that a run goes on from; where it does not exist, the run starts over.

    That is ``last.ckpt``. A run that was killed between its first ``best.ckpt`` and its first
    ``last.ckpt``, or that lost the latter, goes on from the newest one there is: starting over
    would overwrite it.
    """
    last = checkpoints / "last.ckpt"
    return last if last.is_file() else _newest(checkpoints.glob("*.ckpt")) or last


def _newest(files: Iterable[Path]) -> Path | None:
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def _split(text: str) -> list[str]:
    """Return the entries of ``[KEY=VALUE,...]``, whose values may hold brackets and quotes."""
    entries = _BETWEEN_ENTRIES.split(re.sub(r"^\[|\]$", "", text.strip()))
    return [entry.strip() for entry in entries if entry.strip()]


def _parse(text: str) -> Override:
    """Read ``KEY=VALUE`` as Hydra does, or refuse it."""
    override = parse_override(text)
    if override.is_delete():
        raise ValueError(f"{text} cannot be read; write KEY=VALUE")
    if override.is_sweep_override():
        raise ValueError(f"{text} stands for several runs, and resume continues one; name a value")
    return override


def _change(config: DictConfig, override: Override, *, is_listed: bool) -> None:
    """Change a run's config, where that can hold from the next step on and was said twice."""
    key, value = override.key_or_group, override.value()
    text = (override.input_line or "").lstrip("+")
    missing = object()
    before = OmegaConf.select(config, key, default=missing)
    parent = OmegaConf.select(config, key.rpartition(".")[0] or "trainer")
    is_added = override.type != OverrideType.CHANGE and OmegaConf.is_dict(parent)
    if before is missing and re.match(rf"{_OF_THE_FOLDER}|{_CHOICE}", key):
        refuse_fixed(text)
    if before is missing and not is_added:
        known = all_keys(OmegaConf.to_container(config, resolve=False))
        closest = nearest_key(key, known)
        if closest is None:
            refuse_fixed(text)
        meant = remedy(closest, f"to add it, put a + in front: +{text}")
        raise ValueError(f"{key} is no key of the run that is resumed{meant}")
    if OmegaConf.is_config(before) and not isinstance(value, dict | list):
        raise ValueError(
            f"{text} is a choice of settings, and those of a resumed run are there already; name "
            "single keys, or start a new run"
        )
    if before == value:
        return
    refuse_fixed(text)
    if not is_listed and key not in HARMLESS:
        raise ValueError(
            f"{override.input_line} would change the run that is resumed; leave it out, or write "
            f"'resume_overrides=[{override.input_line}]'"
        )
    OmegaConf.update(config, key, value, force_add=True)
