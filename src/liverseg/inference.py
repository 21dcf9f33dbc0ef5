"""A trained network put to use: from checkpoints to scores of a split, or to masks of images."""

import glob
import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from liverseg.checkpoints import load_checkpoint, load_data, load_task
from liverseg.checks import check_settings
from liverseg.data import PairDataModule, far_apart, hash_of_masks, sample_statistics
from liverseg.data.volumes import find_cases, find_volumes, names_volumes, need_packages
from liverseg.pictures import PictureBoard
from liverseg.prediction import (
    ImageDataset,
    PredictionTask,
    PredictionWriter,
    Predictor,
    ScoringTask,
    VolumeWriter,
    Voter,
    classes_of,
    find_images,
    predict_volumes,
    score_volumes,
    view_of,
)
from liverseg.runs import SCORES_FILE, write_json, write_text
from liverseg.scores import (
    RECORD_FILE,
    SegmentationScores,
    cases_text,
    final_numbers,
    patients_text,
    record_of,
    sentence_of_absence,
)
from liverseg.training import SegmentationTask, Split

Scores = dict[str, float]
BEST_OF_A_JOB = "checkpoints/best.ckpt"
logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """What checkpoints give."""

    predictor: Predictor
    task: SegmentationTask  # of the first one
    checkpoint: dict[str, Any]  # the first one, without its weights


def evaluate(config: DictConfig) -> Scores:
    """Score a checkpoint on a split.

    Args:
        config: What ``configs/evaluate.yaml`` composes.

    Returns:
        The scores by name, as ``metrics.json`` holds them.

    Raises:
        ValueError: If the split is unknown or its folder is missing.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if config.split not in ("val", "test"):
        raise ValueError(f"split={config.split} must be val or test")
    if settings["source"] is not None:
        return _evaluate_volumes(config, settings)
    predictor, task, checkpoint = load(
        settings["ckpt_path"], config.allow, threshold=config.threshold
    )
    changes = {key: value for key, value in settings["data"].items() if value is not None}
    data = load_data(checkpoint, changes, config.allow)
    data.is_normalizing = False  # each network has its own way
    if not data.has_split(config.split):
        raise FileNotFoundError(
            f"{data.root}/{config.split} does not exist; choose another split, such as split=val, "
            "or another data.root"
        )
    output_dir = Path(config.output_dir)
    pictures = PictureBoard(
        folder=output_dir / "pictures",
        num_pictures=config.num_pictures,
        num_worst=config.num_worst,
    )
    trainer = _scoring_trainer(config, checkpoint, pictures)
    where = f"{config.split} of {data.root}"
    _warn_of_brightness(checkpoint, data.dataset(config.split).statistics(), where)
    task = ScoringTask(task, predictor)
    choose_scores(task, checkpoint["liverseg"]["config"], settings)
    scores = score(trainer, task, data, config.split, output_dir)
    warn_of_absent_classes(task)
    write_json(output_dir / SCORES_FILE, scores)
    return scores


def predict(config: DictConfig) -> tuple[int, dict[Path, str]]:
    """Write a mask and a picture for every image that can be read.

    Args:
        config: What ``configs/predict.yaml`` composes.

    Returns:
        The number of images predicted, and why the others were not.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if names_volumes(settings["source"]):
        return _predict_volumes(config, settings)
    images = find_images(settings["source"])
    predictor, _, checkpoint = load(settings["ckpt_path"], config.allow, threshold=config.threshold)
    found = sample_statistics(images, predictor.channels, predictor.white_value)
    _warn_of_brightness(checkpoint, found, str(settings["source"]))
    dataset = ImageDataset(images, predictor)
    writer = PredictionWriter(folder=Path(config.output_dir), dataset=dataset, predictor=predictor)
    trainer = _scoring_trainer(config, checkpoint, writer)
    task = PredictionTask(predictor, dataset).eval()
    trainer.predict(task, DataLoader(dataset, batch_size=1), return_predictions=False)
    return len(images) - len(task.refused), task.refused


def _predict_volumes(
    config: DictConfig, settings: Mapping[str, Any]
) -> tuple[int, dict[Path, str]]:
    """Write the label volume of every volume that can be read, and a table of their sizes."""
    need_packages()
    predictor, _, checkpoint = load(settings["ckpt_path"], config.allow, threshold=config.threshold)
    view = view_of(checkpoint["liverseg"].get("volumes"), settings["window"])
    writer = VolumeWriter(Path(config.output_dir), predictor, with_segmentation=config.seg)
    sources = find_volumes(settings["source"])
    refused = predict_volumes(sources, writer, _scoring_trainer(config, checkpoint), view)
    return len(sources) - len(refused), refused


def _evaluate_volumes(config: DictConfig, settings: Mapping[str, Any]) -> Scores:
    """Score volumes against label volumes: each is one image, whose voxels are counted together."""
    need_packages()
    if settings["labels"] is None:
        raise ValueError("labels is not set, which source is scored against; add labels=...")
    predictor, _, checkpoint = load(settings["ckpt_path"], config.allow, threshold=config.threshold)
    record = checkpoint["liverseg"].get("volumes")
    view, classes = view_of(record, settings["window"]), classes_of(record, settings["classes"])
    cases = find_cases(settings["source"], settings["labels"])
    trainer = _scoring_trainer(config, checkpoint)
    scores = SegmentationScores(predictor.num_classes, predictor.class_names)
    scored = list(score_volumes(cases, predictor, trainer, view, classes, scores))
    if not scored:
        raise ValueError("no volume could be scored, for the reasons above; name others")
    if len(scored) < len(cases):
        logger.warning("%d of %d volumes are not scored", len(cases) - len(scored), len(cases))
    values = scores.compute() | final_numbers(scores)
    found = {f"{config.split}/{name}": float(value) for name, value in values.items()}
    folder, table = Path(config.output_dir), scores.table()
    text = cases_text(
        table,
        scores.class_names,
        names=[case.name for case in scored],
        cases=[case.patient for case in scored],
    )
    write_text(folder / "cases_volumes.csv", text)
    write_json(folder / SCORES_FILE, found)
    return found


def load_predictor(
    ckpt_path: str | Path | Sequence[str | Path],
    allow: Sequence[str] = (),
    **settings: Any,  # of Predictor: threshold, flips, ...
) -> Predictor:
    """Build what predicts from one checkpoint, or from several that vote.

    Args:
        ckpt_path: A checkpoint, a list of them, a pattern such as ``RUNS/*/checkpoints/best.ckpt``
            or the folder of a sweep, of whose jobs the best checkpoints are taken.
        allow: Modules whose networks, losses and data may be named in them.
        **settings: Of :class:`~liverseg.prediction.Predictor`, where they differ from the run's.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is no checkpoint, or several do not agree.
    """
    return load(ckpt_path, allow, **settings).predictor


def load(
    ckpt_path: str | Path | Sequence[str | Path], allow: Sequence[str] = (), **settings: Any
) -> Loaded:
    """Do as :func:`load_predictor`, and return beside it what scoring needs of the first file."""
    files = find_checkpoints(ckpt_path)
    voters: list[Voter] = []
    first: tuple[Path, dict[str, Any], SegmentationTask] | None = None
    for file in files:
        checkpoint = load_checkpoint(file)
        task = load_task(checkpoint, allow)
        data = load_data(checkpoint, {}, allow)
        for key in [key for key in checkpoint if key != "liverseg"]:
            del checkpoint[key]  # weights and the state of an optimizer: those of one at a time
        if first is None:
            first = file, checkpoint, task
            common = {
                "channels": data.channels,
                "image_size": data.image_size,
                "white_value": data.white_value,
                "num_classes": data.num_classes,
                "class_names": data.class_names,
                "mask_reader": data.mask_reader,
                "threshold": task.threshold,
            }
        _refuse_other(file, checkpoint, *first[:2])
        voters.append(Voter(task.net, data.normalize))
    assert first is not None
    threshold, num_classes = settings.get("threshold"), data.num_classes
    if threshold is not None and num_classes > 1:
        raise ValueError(
            f"threshold={threshold} is for a network with one logit; this one has {num_classes}, "
            "of which the largest counts; leave it out"
        )
    if len(files) > 1:
        logger.info("%d networks vote: %s", len(files), ", ".join(map(str, files)))
    given = {key: value for key, value in settings.items() if value is not None}
    return Loaded(Predictor(voters, **{**common, **given}).eval(), first[2], first[1])


def find_checkpoints(ckpt_path: str | Path | Sequence[str | Path]) -> list[Path]:
    """List the checkpoints that a file, a pattern, the folder of a sweep, or a list names.

    Raises:
        FileNotFoundError: If a pattern or the folder of a sweep holds none.
        ValueError: If the list is empty.
    """
    if isinstance(ckpt_path, list | tuple):
        if not ckpt_path:
            raise ValueError("ckpt_path=[] names nothing; name a checkpoint")
        listed = [file for one in ckpt_path for file in find_checkpoints(one)]
        return list({file.resolve(): file for file in listed}.values())
    path = Path(str(ckpt_path))
    if path.is_dir() and not (path / "checkpoints").is_dir():
        if found := sorted(path.glob(f"*/{BEST_OF_A_JOB}"), key=_number_first):
            return found
    elif not path.exists() and glob.has_magic(str(ckpt_path)):
        if found := sorted(map(Path, glob.glob(str(path), recursive=True)), key=_number_first):
            return found
        raise FileNotFoundError(f"ckpt_path={ckpt_path} matches no file; name a checkpoint")
    return [path]  # what is wrong with it is told when it is read


def _number_first(path: Path) -> list[tuple[int, str]]:
    """Order 2_seed=1 before 10_seed=1."""
    starts = [(part, part.partition("_")[0]) for part in path.parts]
    return [(int(start) if start.isdigit() else -1, part) for part, start in starts]


def _refuse_other(
    file: Path, checkpoint: Mapping[str, Any], first: Path, of_first: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint whose votes would not be for the same classes, or on the same images."""
    record, wanted = checkpoint["liverseg"], of_first["liverseg"]
    for key in ("num_classes", "channels", "image_size", "white_value"):
        here, there = (one["config"]["data"].get(key) for one in (record, wanted))
        if here != there:
            raise ValueError(
                f"{file} has data.{key}={here} and {first} has {there}, so they cannot vote "
                "together; name checkpoints that agree"
            )
    if record["class_names"] != wanted["class_names"]:
        raise ValueError(
            f"{file} has the classes {', '.join(record['class_names'])} and {first} "
            f"{', '.join(wanted['class_names'])}, so they cannot vote together; name checkpoints "
            "that agree"
        )


def score(
    trainer: Trainer, task: SegmentationTask, data: PairDataModule, split: Split, output_dir: Path
) -> Scores:
    """Score the task on a split, write a line per image and per patient, and return all numbers."""
    loop = trainer.validate if split == "val" else trainer.test
    loop(task, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        dataset = data.dataset(split)
        write_tables(
            output_dir,
            split,
            task.tally(split).scores,
            names=[pair.name for pair in dataset.pairs],
            cases=dataset.cases,
            truth=hash_of_masks(dataset.pairs),
        )
    values = task.results[split] | final_numbers(task.tally(split).scores)
    return {f"{split}/{name}": value for name, value in values.items()}


def choose_scores(
    task: SegmentationTask, config: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    """Have a task compute the scores of a run's config, or those that a command names instead."""
    settings: dict[str, Any] = {
        "scores": [],
        "tolerance": 2.0,
        "spacing": None,
    }  # of runs of earlier releases
    for source in (config, changes):
        settings |= {key: source[key] for key in settings if source.get(key) is not None}
    task.choose_scores(
        settings["scores"], tolerance=settings["tolerance"], spacing=settings["spacing"]
    )


def write_tables(
    folder: Path,
    split: Split,
    scores: SegmentationScores,
    *,
    names: Sequence[str],
    cases: Sequence[str | None],
    truth: str,
) -> None:
    """Write a line per image and per patient of a split, and how they were scored.

    Args:
        folder: Where ``cases_SPLIT.csv``, ``patients_SPLIT.csv`` and ``scores.json`` go.
        split: The split.
        scores: Its scores, computed.
        names: The images' names, by index.
        cases: The images' cases, by index.
        truth: A hash of the masks.
    """
    table, classes = scores.table(), scores.class_names
    write_text(folder / f"cases_{split}.csv", cases_text(table, classes, names=names, cases=cases))
    if table.has_cases:
        write_text(folder / f"patients_{split}.csv", patients_text(table, classes, cases=cases))
    file = folder / RECORD_FILE
    earlier = json.loads(file.read_text()) if file.is_file() else {}
    write_json(file, earlier | {split: record_of(scores, truth)})


def warn_of_absent_classes(task: SegmentationTask) -> None:
    """Say, beside the table, which classes no mask of a split holds."""
    for split, names in task.absent.items():
        if names:
            logger.warning("%s", sentence_of_absence(split, names))


def _warn_of_brightness(
    checkpoint: Mapping[str, Any], found: Mapping[str, Any], where: str
) -> None:
    """Say that images lie far from those of training, as those of another window do."""
    if words := far_apart(found, checkpoint["liverseg"].get("intensities")):
        logger.warning(
            "%s: images differ in brightness from those that the network was trained on (%s); if "
            "they were saved with another intensity window or scaling, it is lost in them",
            *(where, words),
        )


def _scoring_trainer(
    config: DictConfig, checkpoint: Mapping[str, Any], callback: Callback | None = None
) -> Trainer:
    """Return a trainer that computes as the run of the checkpoint did, where not told otherwise."""
    precision = checkpoint["liverseg"]["config"]["trainer"].get("precision", "32-true")
    settings = {"precision": precision, **plain_values(config.trainer)}
    settings |= progress_of(settings)
    trainer: Trainer = instantiate(settings, _convert_="all")(callbacks=callback)
    return trainer


def progress_of(settings: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether bars are drawn, where the settings of a trainer do not say: for eyes alone."""
    if "enable_progress_bar" in settings:
        return {"enable_progress_bar": bool(settings["enable_progress_bar"])}
    return {"enable_progress_bar": sys.stdout.isatty() or "ipykernel" in sys.modules}


def plain_values(config: DictConfig) -> dict[str, Any]:
    """Return a config with everything resolved, as plain dictionaries, lists and values."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"{missing[0]} is not set; add {missing[0]}=... to the command")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def quieten() -> None:
    """Silence what users can do nothing about."""
    # Lightning hangs a handler of its own on its logger; Hydra's root logger prints as well.
    logging.getLogger("lightning").handlers.clear()
    # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # Samples in memory need no workers; data.num_workers is documented.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # A resumed run continues in its folder on purpose.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    # The order of an epoch does resume, in the middle too: see ResumableSampler.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # An epoch without a check on val has no score; that the monitor is one is checked before.
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # Each split is short by design in small studies.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Losses and scores are summed over all processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # On the login node of a cluster: how to use srun stands in docs/.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    for name in (
        "lightning.pytorch.utilities.rank_zero",  # what devices it did not find, and tips
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.trainer.connectors.signal_connector",  # handlers of Slurm's signals
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
