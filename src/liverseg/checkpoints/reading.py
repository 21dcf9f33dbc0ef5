"""A checkpoint that was written by anybody: read, its task rebuilt, its data rebuilt."""

import logging
import os
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn

from liverseg.checkpoints.building import build, targets
from liverseg.checkpoints.files import is_whole, newest_good
from liverseg.checkpoints.limits import (
    Budget,
    OverBudgetError,
    is_modest,
    makes_memory,
    refuse_large_numbers,
)
from liverseg.data import PairDataModule
from liverseg.labels import IGNORED
from liverseg.network import faulty_logits
from liverseg.prediction import ExportedNetwork, Threshold, is_exported, read_record
from liverseg.settings import find_sentence
from liverseg.settings.classes import check_node, class_nodes, rules_of
from liverseg.settings.values import check_value
from liverseg.training import (
    SegmentationTask,
    bring_up_to_date,
    weights_in,
    with_key_of_today,
    with_names_of_today,
)

_EXPORTED = "exported"  # of what was read: the file that stands in the place of weights
_SLACK = 2**28  # bytes that building may take besides eight times those of the weights
_MOST_PROBED = 2**30  # bytes that a rebuilt network may make, besides four times its weights
_LONGEST = 400  # characters of what others say
logger = logging.getLogger(__name__)


def load_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project, or what an exported file says about itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is a folder, damaged, holds code, or is of another project.
    """
    path = Path(file)
    if path.is_dir():
        found = path / "checkpoints" / "best.ckpt"
        example = shlex.quote(str(found)) if found.is_file() else "RUN/checkpoints/best.ckpt"
        raise ValueError(f"{path} is a folder; name a checkpoint such as {example}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; name a checkpoint such as RUN/checkpoints/best.ckpt"
        )
    if is_exported(path):
        return _refused_or_renamed(
            path, {"liverseg": read_record(path), "state_dict": {}, _EXPORTED: path}
        )
    if not is_whole(path):
        good = newest_good(path.parent, apart_from=path)
        with path.open("rb") as stream:
            what = "is damaged" if stream.read(2) in (b"PK", b"") else "is no checkpoint"
        remedy = "name that one, or delete the other, and its run goes on from there"
        end = f"{good} is whole: {remedy}" if good else "no other lies beside it"
        raise ValueError(f"{path} {what}; {end}")
    checkpoint = _plain_content(path)
    if not isinstance(checkpoint, dict) or not {"liverseg", "state_dict"} <= checkpoint.keys():
        raise ValueError(f"{path} was not written by liverseg: it carries no config")
    return _refused_or_renamed(path, checkpoint)


def _refused_or_renamed(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Refuse a config that nobody wrote by hand; return it with the names of today."""
    if not is_modest(checkpoint["liverseg"]):
        raise ValueError(
            f"{path} holds a config that is nested too deeply, holds itself, is too large or more "
            "than plain values; take another file"
        )
    checkpoint["liverseg"] = with_names_of_today(checkpoint["liverseg"])
    return checkpoint


def load_weights(file: str | Path, task: SegmentationTask) -> dict[str, Tensor]:
    """Read weights by name, to start from: a checkpoint, or a state dict of any project.

    Args:
        file: As ``torch.save`` writes it.
        task: The task that they are for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, holds code, or holds no weights.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights={path} {'is a folder' if path.is_dir() else 'does not exist'}; name a file "
            "such as RUN/checkpoints/best.ckpt"
        )
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise ValueError(f"weights={path} is damaged; take another file")
    remedy = "; save the weights alone, with torch.save(net.state_dict(), FILE)"
    content = _plain_content(path, remedy)
    try:
        if isinstance(content, dict) and isinstance(content.get("liverseg"), dict):
            bring_up_to_date(content, task)
            theirs = [str(name) for name in content["liverseg"].get("class_names") or ()]
            ours = task.tally("val").scores.class_names
            if theirs != ours and sorted(theirs) == sorted(ours):
                logger.warning(
                    "weights=%s has the classes %s, in another order than here (%s), and its last "
                    "layer is taken as it is; give masks and data.class_names its order",
                    *(path, ", ".join(theirs), ", ".join(ours)),
                )
        return weights_in(content)
    except Exception as error:  # of structures that nobody foresaw
        raise ValueError(
            f"weights={path} holds no weights by name; save those of a network with "
            "torch.save(net.state_dict(), FILE)"
        ) from error


def _plain_content(path: Path, remedy: str = "") -> Any:
    """Read tensors and plain values."""
    not_plain = f"{path} holds more than tensors and plain values, so it is not read{remedy}"
    if zipfile.is_zipfile(path) and makes_memory(path):
        raise ValueError(not_plain)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for what is not plain
        raise ValueError(not_plain) from error
    return with_key_of_today(content) if isinstance(content, dict) else content


def load_task(checkpoint: dict[str, Any], allow: Sequence[str] = ()) -> SegmentationTask:
    """Rebuild the task of a checkpoint, for scoring and predicting.

    Args:
        checkpoint: What :func:`load_checkpoint` returned.
        allow: Modules whose networks, losses and data may be named in it, besides :data:`ALLOWED`.

    Raises:
        ValueError: If the config names a class that is not allowed, or does not fit the weights.
    """
    _refuse_other_structure(checkpoint)
    config, weights = checkpoint["liverseg"]["config"], checkpoint["state_dict"]
    num_classes = config["data"]["num_classes"]
    for section in ("model", "loss"):
        refuse_large_numbers(section, config[section])
        list(targets(config[section], allow))  # each name is looked at before anything is built
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in weights.values()}
    held = sum(storage.nbytes() for storage in storages.values())
    if _EXPORTED in checkpoint:
        record = checkpoint["liverseg"]
        net: nn.Module = ExportedNetwork(
            checkpoint[_EXPORTED],
            takes=record["input"],
            resizes=record.get("resizes") is True,
            allow=allow,
        )
        with Budget("loss", _SLACK):
            loss = build(config["loss"], allow)
        weights = {f"loss.{name}": value for name, value in loss.state_dict().items()}
    else:
        net = _built_within("net", config["model"], weights, held, allow)
        loss = _built_within("loss", config["loss"], weights, held, allow)
    try:
        task = SegmentationTask(
            net=net,
            loss=loss,
            num_classes=num_classes,
            class_names=checkpoint["liverseg"]["class_names"],
            threshold=config["threshold"],
            record=checkpoint["liverseg"],
        )
        bring_up_to_date(checkpoint, task)
        task.load_state_dict(weights)
    except Exception as error:  # of whatever does not fit
        raise ValueError(
            f"the checkpoint's weights do not fit its config: {_one_line(error)}"
        ) from error
    task.eval()
    # Data of one's own may have other keys.
    channels, slices = config["data"].get("channels"), config["data"].get("slices", 1)
    if type(channels) is int and type(slices) is int and min(channels, slices) >= 1:
        _refuse_other_logits(task.net, channels * slices, num_classes, _MOST_PROBED + 4 * held)
    return task


def _refuse_other_structure(checkpoint: Mapping[str, Any]) -> None:
    """Hold the parts that are needed against what they must be."""
    record, weights = checkpoint.get("liverseg"), checkpoint.get("state_dict")
    wrong = ""
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and _is_plain(weight) for name, weight in weights.items()
    ):
        wrong = "state_dict must be weights by name"
    elif not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        wrong = "liverseg.config must be a mapping"
    else:
        config, names = record["config"], record.get("class_names")
        for section in ("model", "loss", "data", "trainer"):
            if not wrong and not isinstance(config.get(section), dict):
                wrong = f"config.{section} must be a mapping"
        count: Any = None if wrong else config["data"].get("num_classes")
        if not wrong and type(count) is not int:
            wrong = "config.data.num_classes must be a number"
        elif not wrong and not 1 <= count < IGNORED - 1:
            wrong = f"config.data.num_classes must lie in 1 ... {IGNORED - 2}"
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            wrong = wrong or "class_names must be a list of names"
        if type(record.get("format", 1)) is not int:
            wrong = wrong or "format must be a number"
        wrong = wrong or _first_wrong_value(config)
    if wrong:
        raise ValueError(f"the checkpoint is not as liverseg writes it: {wrong}; take another file")


def _is_plain(weight: Any) -> bool:
    """Tell whether a weight is a tensor whose every number stands in the file."""
    return (
        isinstance(weight, Tensor)
        and weight.layout == torch.strided
        and weight.device.type == "cpu"
        and not weight.is_quantized
        and weight.numel() * weight.element_size() <= weight.untyped_storage().nbytes()
    )


def _first_wrong_value(config: Mapping[str, Any]) -> str:
    """Return what is wrong with the values that scoring takes, or ""."""
    trainer = config["trainer"] if isinstance(config.get("trainer"), dict) else {}
    precision = trainer.get("precision") or "32-true"
    try:
        if not isinstance(config.get("threshold"), int | float):
            return "config.threshold must be a number"
        check_value("config.threshold", config["threshold"], Threshold)
        check_value("config.trainer.precision", precision, dict(rules_of(Trainer))["precision"])
    except ValueError as error:
        return str(error)
    return ""


def _built_within(
    part: str, node: Any, weights: Mapping[str, Tensor], held: int, allow: Sequence[str]
) -> nn.Module:
    """Build a part within the memory that its weights justify, and hold its shapes against them."""
    with _told_of(part):
        with Budget(part, 8 * held + _SLACK):
            built = build(node, allow)
        if not isinstance(built, nn.Module):
            raise ValueError(f"the checkpoint's config makes no network or loss of {part}")
        values = built.state_dict()
        shapes = {name: list(value.shape) for name, value in values.items()}
    for name, shape in shapes.items():
        found = weights.get(f"{part}.{name}")
        if found is None or list(found.shape) != shape:
            had = "none" if found is None else list(found.shape)
            raise ValueError(
                "the checkpoint's weights do not fit its config: "
                f"{part}.{name} is {had}, and the config asks for {shape}"
            )
        if found.is_floating_point() != values[name].is_floating_point():
            raise ValueError(
                f"the checkpoint's weights do not fit its config: {part}.{name} is {found.dtype}, "
                f"and the config asks for {values[name].dtype}"
            )
    return built


def _refuse_other_logits(net: nn.Module, channels: int, num_classes: int, most_bytes: int) -> None:
    """Show a network an image of zeros: it may take little memory, and must give logits."""
    try:
        with Budget("net", most_bytes):
            fault = faulty_logits(net, channels, num_classes)
    except OverBudgetError:
        raise
    except Exception:  # it may need another size, and says so when it meets an image
        return
    if fault:
        raise ValueError(f"the checkpoint's network {fault}; take another file")


@contextmanager
def _told_of(part: str) -> Iterator[None]:
    """Make a sentence of whatever a constructor does with arguments of another kind."""
    try:
        yield
    except Exception as error:
        told = find_sentence(error)
        if told is not None and len(told) <= _LONGEST:
            raise
        raise ValueError(
            f"{part} of the checkpoint cannot be built ({_one_line(error)})"
        ) from error


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def load_data(
    checkpoint: Mapping[str, Any], changes: Mapping[str, Any], allow: Sequence[str] = ()
) -> PairDataModule:
    """Rebuild the data module of a checkpoint, without augmentation.

    Args:
        checkpoint: What :func:`load_checkpoint` returned.
        changes: Values that differ from the run's, by argument of the data module. Another
            ``root`` is a folder of one's own: no phantom is drawn into it, and its val/ is taken
            as it is, whichever fold the run had.
        allow: Modules whose networks, losses and data may be named in it, besides :data:`ALLOWED`.
    """
    of_run = checkpoint["liverseg"]["config"]["data"]
    settings = {**of_run, "augment": {}, **changes}
    list(targets(settings, allow))  # each name is looked at before anything is built
    if isinstance(settings.get("num_workers"), int):  # those of a larger computer, say
        settings["num_workers"] = min(settings["num_workers"], os.cpu_count() or 1)
    if "root" in changes:
        settings["phantom"] = None
        is_elsewhere = Path(of_run.get("root", "")).absolute() != Path(changes["root"]).absolute()
        if is_elsewhere and "fold" not in changes and settings.pop("fold", None) is not None:
            logger.info(
                "%s is another folder than the run's, so its val/ is taken as it is, not a fold",
                changes["root"],
            )
    with _told_of("data"):
        for key, node in class_nodes(settings, "data"):
            check_node(key, node)
        data = build(settings, allow)
    if not isinstance(data, PairDataModule):
        raise ValueError("the checkpoint's config makes no data of data; take another file")
    return data
