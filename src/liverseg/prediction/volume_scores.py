"""Volumes against the truth, in 3D: each is one image, whose voxels are counted together."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning import Trainer
from torch import Tensor

from liverseg.data import Intensities
from liverseg.data.volumes import (
    Case,
    ClassMap,
    SliceView,
    Volume,
    is_prediction,
    read_label,
    read_label_map,
    read_source,
    slicing_of,
    spacing_of,
)
from liverseg.prediction.predictor import Predictor
from liverseg.prediction.volumes import SLICES_AT_ONCE, predict_volume, sentence_about, tell_planes
from liverseg.scores import SegmentationScores, dice

_TOLERANCE = SliceView.tolerance  # where nothing says how label maps were made
Numbers = npt.NDArray[Any]
logger = logging.getLogger(__name__)


class ScoredVolumes(NamedTuple):
    """What came of scoring: the cases, why others were not, and a hash of what is true."""

    cases: list[Case]
    refused: dict[str, str]
    truth: str


class _Both(NamedTuple):
    """The voxels of a case, class indices of one shape, and where they lie."""

    volume: Volume
    truth: Numbers
    found: Numbers


def score_volumes(
    cases: Sequence[Case],
    predictor: Predictor,
    trainer: Trainer,
    view: SliceView,
    classes: ClassMap,
    scores: SegmentationScores,
    batch_size: int = SLICES_AT_ONCE,
    intensities: Intensities | None = None,
) -> ScoredVolumes:
    """Predict volumes and add their counts to scores, each as one image.

    A series without a label is not scored, and not refused, where another one of its patient has a
    label.

    Args:
        cases: Volumes and their labels.
        predictor: Maps slices to classes.
        trainer: Knows device and precision.
        view: How slices are cut and seen.
        classes: The class of each value of a label.
        scores: What is added to: the image's index is its place among those scored. Distances are
            in mm.
        batch_size: Slices that are predicted at once.
        intensities: Adds up how bright the slices are.
    """
    labelled = {case.patient for case in cases if case.label is not None}
    others: dict[int, str] = {}
    planes: list[tuple[Path, str]] = []

    def read(case: Case) -> _Both | None:
        if case.is_lone and case.patient in labelled:
            return None
        if case.label is None:
            raise ValueError(case.fault)
        volume = read_source(case.source, view.assume)
        truth, left = read_label(case.label, volume, classes, view.tolerance, view.assume)
        others.update({value: str(case.label) for value in left if value not in others})
        _refuse_more(truth, case.label, scores)
        found = predict_volume(volume, predictor, trainer, view, batch_size, intensities)
        planes.append((volume.path, slicing_of(volume, view.plane).plane))
        return _Both(volume, truth, found)

    result = _scored(cases, read, scores)
    _tell_others(others)
    tell_planes(planes, view)
    return result


def score_label_maps(
    cases: Sequence[Case],
    classes: ClassMap,
    scores: SegmentationScores,
    assume: str | None = None,
) -> ScoredVolumes:
    """Add the counts of label maps that are there already, see :func:`score_volumes`.

    Args:
        cases: What was ``predicted``, and as ``source`` what is true, or what it is a ``label`` of.
        classes: The class of each value of both; what :func:`predict_volumes` wrote holds class
            indices already.
        scores: What is added to.
        assume: Where axes point to in files that do not say.
    """
    others: dict[int, str] = {}  # values of no class, and where they were first seen

    def read(case: Case) -> _Both | None:
        if case.is_lone:
            return None
        if case.fault:
            raise ValueError(case.fault)
        assert case.predicted is not None
        true: object = case.label or case.source
        if case.label is not None:
            volume = read_source(case.source, assume)
            truth, left = read_label(case.label, volume, classes, _TOLERANCE, assume)
        else:
            assert isinstance(case.source, Path)
            volume, left = read_label_map(case.source, classes, assume)
            truth = volume.voxels
        is_ours = isinstance(case.predicted, Path) and is_prediction(case.predicted)
        own = ClassMap(None) if is_ours else classes
        found, more = read_label(case.predicted, volume, own, _TOLERANCE, assume)
        for name, values in ((true, left), (case.predicted, more)):
            others.update({value: str(name) for value in values if value not in others})
        _refuse_more(truth, true, scores)
        _refuse_more(found, case.predicted, scores)
        return _Both(volume, truth, found)

    result = _scored(cases, read, scores)
    _tell_others(others)
    return result


def _tell_others(others: Mapping[int, str]) -> None:
    """Say which label values are of no class, and where they were first seen."""
    if others:
        values = sorted(others)
        logger.warning(
            "label values of no class count as background: %s, as in %s",
            ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else ""),
            others[values[0]],
        )


def _scored(
    cases: Sequence[Case], read: Callable[[Case], _Both | None], scores: SegmentationScores
) -> ScoredVolumes:
    patients = list(dict.fromkeys(case.patient for case in cases))
    scored: list[Case] = []
    refused: dict[str, str] = {}
    spacings: list[Sequence[float]] = []
    scores.spacings = spacings
    digest = hashlib.blake2b(digest_size=16)
    for place, case in enumerate(cases, 1):
        path = case.source if isinstance(case.source, Path) else case.source.folder
        told = f"{place}/{len(cases)} {case.name}"
        try:
            both = read(case)
        except (ValueError, RuntimeError, MemoryError, OSError) as error:
            refused[str(case.source)] = sentence_about(path, error, "scored")
            logger.error("%s", refused[str(case.source)])
            continue
        if both is None:
            logger.info("%s: left out, since no label is of it", told)
            continue
        numbers = (torch.tensor([len(scored)]), torch.tensor([patients.index(case.patient)]))
        spacings.append(spacing_of(both.volume.affine))
        scores.update(_as_image(both.found), _as_image(both.truth), *numbers)
        digest.update(f"{case.name} {case.patient} {_hash(both)}\n".encode())
        values = dice(scores.latest()[1][0])
        named = zip(scores.class_names, values, strict=True)
        logger.info("%s: Dice %s", told, ", ".join(f"{name} {value:.4f}" for name, value in named))
        scored.append(case)
    return ScoredVolumes(scored, refused, f"volumes:{digest.hexdigest()}")


def _refuse_more(label: Numbers, file: object, scores: SegmentationScores) -> None:
    """Refuse a label map with more classes than are scored."""
    most = max(scores.num_classes, 2) - 1
    if label.max() > most:
        raise ValueError(
            f"{file} holds the class {label.max()}, and 0 ... {most} are known; set classes=..., "
            "such as classes={liver: [1,2]}"
        )


def _hash(both: _Both) -> str:
    """Return a hash of true classes that is the same whichever way a file stores them."""
    slices = slicing_of(both.volume, "axial").cut(both.truth)
    found = hashlib.blake2b(str(slices.shape).encode(), digest_size=16)
    for one in slices:
        found.update(one.tobytes())
    return found.hexdigest()


def _as_image(classes: Numbers) -> Tensor:
    """Return voxels (I, J, K) as one image (1, I, J, K), whose voxels are counted together."""
    return torch.from_numpy(np.ascontiguousarray(classes))[None]
