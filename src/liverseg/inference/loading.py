"""From checkpoints to what predicts: one of them, or several that vote."""

import glob
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from omegaconf import OmegaConf

from liverseg.checkpoints import load_checkpoint, load_data, load_task
from liverseg.data import PairDataModule
from liverseg.labels import first_scored
from liverseg.prediction import Cleaning, Options, Predictor, Voter
from liverseg.runs import find_jobs
from liverseg.settings import nearest
from liverseg.settings.values import check_value
from liverseg.training import SegmentationTask

BEST_OF_A_JOB = "checkpoints/best.ckpt"
Names = str | Path | Sequence[str | Path]
logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """What checkpoints give."""

    predictor: Predictor
    voters: list[Voter]
    task: SegmentationTask  # of the first one
    data: PairDataModule  # of the first one
    checkpoint: dict[str, Any]  # the first one, without its weights
    folds: set[tuple[int, int] | None]  # that were val: which of how many, None for val/ as it is

    def with_options(self, options: Options) -> "Loaded":
        """Return the same networks, used in another way."""
        return self._replace(predictor=_join(self.voters, self.task, self.data, options))


def load_predictor(
    ckpt_path: Names, allow: Sequence[str] = (), options: Options | None = None
) -> Predictor:
    """Build what predicts from one checkpoint, or from several that vote.

    Args:
        ckpt_path: A checkpoint, a list of them, a pattern such as ``RUNS/*/checkpoints/best.ckpt``
            or the folder of a sweep, of whose jobs the best checkpoints are taken.
        allow: Modules whose networks, losses and data may be named in them.
        options: What is to differ from training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is no checkpoint, if several do not agree, or if an option does not
            fit them.
    """
    return load(ckpt_path, allow, options).predictor


def load(
    ckpt_path: Names,
    allow: Sequence[str] = (),
    options: Options | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Loaded:
    """Do as :func:`load_predictor`, and return beside it what scoring needs of the first file.

    ``changes`` are values of the data that differ from training, see
    :func:`~liverseg.checkpoints.load_data`; None is no change.
    """
    first: Loaded | None = None
    options = options or Options()
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    files = find_checkpoints(ckpt_path)
    for file in files:
        checkpoint = load_checkpoint(file)
        task = load_task(checkpoint, allow)
        data = load_data(checkpoint, changes, allow)
        for key in [key for key in checkpoint if key != "liverseg"]:
            del checkpoint[key]  # the network has the weights, and nothing needs the rest
        voter = Voter(task.net, data.normalize)
        if first is None:
            predictor = _join([voter], task, data, options)
            first = Loaded(predictor, [voter], task, data, checkpoint, set())
        else:
            _refuse_other(file, checkpoint, files[0], first.checkpoint, changes)
            first.voters.append(voter)
        first.folds.add(_fold_of(checkpoint))
    assert first is not None
    if len(files) > 1:
        logger.info("%d networks vote: %s", len(files), ", ".join(map(str, files)))
    return first.with_options(options)


def find_checkpoints(ckpt_path: Names) -> list[Path]:
    """List the checkpoints that a file, a pattern, the folder of a sweep, or a list names.

    Jobs of a sweep that failed, or that a search has given up, are left out.

    Raises:
        FileNotFoundError: If a pattern matches none, or no job of a sweep has ended.
        ValueError: If a list is empty.
    """
    if isinstance(ckpt_path, list | tuple):
        if not ckpt_path:
            raise ValueError("ckpt_path=[] names nothing; name a checkpoint")
        listed = [file for one in ckpt_path for file in find_checkpoints(one)]
        return list({file.resolve(): file for file in listed}.values())
    path = Path(str(ckpt_path))
    if path.is_dir() and not (path / "checkpoints").is_dir():
        jobs = find_jobs(path)
        ended = [job.folder for job in jobs if job.status() == "done"]
        if left_out := [job.folder.name for job in jobs if job.folder not in ended]:
            logger.warning("%s: left out, since they have not ended: %s", path, ", ".join(left_out))
        if jobs and not ended:
            raise FileNotFoundError(f"ckpt_path={path} is a sweep of which no job has ended")
        folders = ended or path.iterdir()
        found = [file for one in folders if (file := one / BEST_OF_A_JOB).is_file()]
        if found:
            return sorted(found, key=_number_first)
    elif not path.exists() and glob.has_magic(str(ckpt_path)):
        found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_number_first)
        if found:
            return found
        raise FileNotFoundError(f"ckpt_path={ckpt_path} matches no file; name a checkpoint")
    return [path]  # what is wrong with it is told when it is read


def options_of(settings: Mapping[str, Any]) -> Options:
    """Return the options of a command's settings; where they are null, those of ``tuned=FILE``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    names = [one.name for one in fields(Options)]
    found = read_tuned(Path(settings["tuned"])) if settings.get("tuned") else {}
    given = {name: settings.get(name) for name in names if settings.get(name) is not None}
    return Options(**{**found, **given})


def read_tuned(file: Path) -> dict[str, Any]:
    """Return the options in a file that ``evaluate.py tune=true`` has written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"tuned={file} does not exist; name a tuned.yaml of evaluate.py tune=true"
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except Exception as error:  # YAML and OmegaConf raise a dozen kinds
        raise ValueError(f"tuned={file} is no YAML; evaluate.py tune=true writes one") from error
    if not isinstance(content, dict):
        raise ValueError(f"tuned={file} is no list of options; evaluate.py tune=true writes one")
    known = get_type_hints(Options, include_extras=True)
    found = {str(name): value for name, value in content.items() if value is not None}
    for name, value in found.items():
        if name not in known:
            closest = nearest(name, known)
            remedy = f"the nearest is {closest}" if closest else f"these are {', '.join(known)}"
            raise ValueError(f"tuned={file} holds {name}, which is no option; {remedy}")
        check_value(f"tuned={file}: {name}", value, known[name])
    return found


def _join(
    voters: Sequence[Voter], task: SegmentationTask, data: PairDataModule, options: Options
) -> Predictor:
    if options.threshold is not None and data.num_classes > 1:
        raise ValueError(
            f"threshold={options.threshold} is for a network with one logit; this one has "
            f"{data.num_classes}, of which the largest counts; leave it out, or the file tuned=... "
            "that holds it"
        )
    threshold = task.threshold if options.threshold is None else options.threshold
    return Predictor(
        voters,
        channels=data.channels,
        image_size=data.image_size,
        white_value=data.white_value,
        num_classes=data.num_classes,
        class_names=data.class_names,
        mask_reader=data.mask_reader,
        threshold=threshold,
        flips=options.flips or (),
        cleaning=Cleaning.of_names(
            data.class_names,
            first_scored(data.num_classes, data.class_names),
            min_pixels=options.min_pixels,
            largest_component=options.largest_component,
            fill_holes=options.fill_holes,
        ),
        tile_size=options.tile_size,
        stacks=data.stacks() if data.slices > 1 else None,
    ).eval()


def _fold_of(checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    of_data = checkpoint["liverseg"]["config"]["data"]
    if (fold := of_data.get("fold")) is None:
        return None
    return fold, of_data.get("num_folds", 5)


def _number_first(path: Path) -> list[tuple[int, str]]:
    """Order 2_seed=1 before 10_seed=1."""
    starts = [(part, part.partition("_")[0]) for part in path.parts]
    return [(int(start) if start.isdecimal() else -1, part) for part, start in starts]


def _refuse_other(
    file: Path,
    checkpoint: Mapping[str, Any],
    first: Path,
    of_first: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> None:
    """Refuse a checkpoint whose votes would not be for the same classes, or on the same images."""
    record, wanted = checkpoint["liverseg"], of_first["liverseg"]
    for key in ("num_classes", "channels", "slices", "image_size", "white_value"):
        unless_named = 1 if key == "slices" else None  # earlier releases had one
        here, there = (one["config"]["data"].get(key, unless_named) for one in (record, wanted))
        if here != there and key not in changes:
            raise ValueError(
                f"{file} has data.{key}={here} and {first} has {there}, so they cannot vote "
                "together; name checkpoints that agree"
            )
    are_named = "class_names" in changes or "mask_colors" in changes
    if record["class_names"] != wanted["class_names"] and not are_named:
        raise ValueError(
            f"{file} has the classes {', '.join(record['class_names'])} and {first} "
            f"{', '.join(wanted['class_names'])}, so they cannot vote together; name checkpoints "
            "that agree"
        )
