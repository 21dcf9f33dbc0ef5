"""From a checkpoint file back to objects, without trusting the file.

A checkpoint is tensors and plain values. Under ``"liverseg"`` it carries the config of its run,
which suffices to rebuild network and preprocessing. Classes are named there by text, so a name is
looked up only if it stands on an allowlist.
"""

import importlib
import inspect
import logging
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from liverseg.data import PairDataModule, Phantom
from liverseg.training import (
    NotFiniteError,
    SegmentationTask,
    bring_up_to_date,
    with_names_of_today,
)

ALLOWED = ("liverseg", "torch.nn", "torchvision.models")
_BUILDABLE = (nn.Module, PairDataModule, Phantom)
logger = logging.getLogger(__name__)
_NEVER_PROPOSED = ("", "torch", "torchvision", "lightning", "hydra", "omegaconf", "liverseg")
_MOST_LEVELS = 30  # of parts within parts
_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, then renames it.

    A write that fails or is killed leaves the file that stood there before as it was.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written.
        """
        target = Path(path)
        unfinished = target.with_name(f"{target.name}.unfinished")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(unfinished, target)
        except (OSError, RuntimeError) as error:  # torch hides a full disk in a RuntimeError
            unfinished.unlink(missing_ok=True)
            good = newest_good(target.parent)
            raise OSError(
                f"{target} could not be written ({str(error).splitlines()[0]}); is the disk full? "
                + (f"{good} is still good" if good else "no earlier checkpoint exists")
            ) from error


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: the end of the latest epoch, or where a run was interrupted.

    A run that ended because its loss was not finite leaves the file of the epoch before.

    Args:
        dirpath: The folder of the file.
    """

    def __init__(self, *, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath, filename="last", enable_version_counter=False, save_on_exception=True
        )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what there is, if it can be gone on from exactly."""
        # Lightning resumes a checkpoint from after an epoch's last step without that epoch's
        # validation: the file of the epoch before is the better one.
        is_past_steps = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not is_past_steps and not isinstance(exception, NotFiniteError):
            super().on_exception(trainer, pl_module, exception)


def newest_good(folder: Path, apart_from: Path | None = None) -> Path | None:
    """Return the newest checkpoint of a folder that is whole, or None."""
    files = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime, reverse=True)
    return next((file for file in files if file != apart_from and is_whole(file)), None)


def is_whole(file: Path) -> bool:
    """Tell whether every part of a checkpoint has the checksum that was written with it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _is_stored(archive, file) and archive.testzip() is None
    except Exception:  # a flipped bit of a header raises one of a dozen kinds
        return False


def _is_stored(archive: zipfile.ZipFile, file: Path) -> bool:
    """Tell whether an archive unfolds to no more than its own size, as what torch writes does."""
    entries = archive.infolist()
    return (
        all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        and sum(entry.file_size for entry in entries) <= file.stat().st_size
    )


def load_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is a folder, damaged, holds code, or is of another project.
    """
    path = Path(file)
    if path.is_dir():
        found = path / "checkpoints" / "best.ckpt"
        example = found if found.is_file() else "RUN/checkpoints/best.ckpt"
        raise ValueError(f"{path} is a folder; name a checkpoint such as {example}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; name a checkpoint such as RUN/checkpoints/best.ckpt"
        )
    if not is_whole(path):
        good = newest_good(path.parent, apart_from=path)
        with path.open("rb") as stream:
            what = "is damaged" if stream.read(2) in (b"PK", b"") else "is no checkpoint"
        raise ValueError(
            f"{path} {what}; " + (f"{good} is whole" if good else "no other lies beside it")
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for what is not plain
        raise ValueError(
            f"{path} holds more than tensors and plain values, so it is not read"
        ) from error
    if not isinstance(checkpoint, dict) or not {"liverseg", "state_dict"} <= checkpoint.keys():
        raise ValueError(f"{path} was not written by liverseg: it carries no config")
    try:
        checkpoint["liverseg"] = with_names_of_today(checkpoint["liverseg"])
    except RecursionError as error:
        raise ValueError(f"{path} holds a config that is nested too deeply") from error
    return checkpoint


def load_task(checkpoint: dict[str, Any], allow: Sequence[str] = ()) -> SegmentationTask:
    """Rebuild the task of a checkpoint, for scoring and predicting.

    Args:
        checkpoint: What :func:`load_checkpoint` returned.
        allow: Modules whose networks, losses and data may be named in it, besides :data:`ALLOWED`.

    Raises:
        ValueError: If the config names a class that is not allowed, or does not fit the weights.
    """
    _refuse_other_structure(checkpoint)
    config = checkpoint["liverseg"]["config"]
    for section, name in (("model", "net"), ("loss", "loss")):
        _refuse_other_shapes(name, config[section], checkpoint["state_dict"], allow)
    task = SegmentationTask(
        net=build(config["model"], allow),
        loss=build(config["loss"], allow),
        num_classes=config["data"]["num_classes"],
        class_names=checkpoint["liverseg"]["class_names"],
        threshold=config["threshold"],
        record=checkpoint["liverseg"],
    )
    bring_up_to_date(checkpoint, task)
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's weights do not fit its config: {error}") from error
    return task.eval()


def _refuse_other_structure(checkpoint: Mapping[str, Any]) -> None:
    """Hold the parts that are needed against what they must be."""
    record, weights = checkpoint.get("liverseg"), checkpoint.get("state_dict")
    wrong = ""
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, torch.Tensor)
        for name, weight in weights.items()
    ):
        wrong = "state_dict must be weights by name"
    elif not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        wrong = "liverseg.config must be a mapping"
    else:
        config, names = record["config"], record.get("class_names")
        for section in ("model", "loss", "data", "trainer"):
            if not wrong and not isinstance(config.get(section), dict):
                wrong = f"config.{section} must be a mapping"
        if not wrong and type(config["data"].get("num_classes")) is not int:
            wrong = "config.data.num_classes must be a number"
        if not wrong and not isinstance(config.get("threshold"), int | float):
            wrong = "config.threshold must be a number"
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            wrong = wrong or "class_names must be a list of names"
    if wrong:
        raise ValueError(f"the checkpoint is not as liverseg writes it: {wrong}; take another file")


def _refuse_other_shapes(
    part: str, node: Any, weights: Mapping[str, Any], allow: Sequence[str]
) -> None:
    """Build a part without memory first, and hold its shapes against those of the weights."""
    held = sum(weight.untyped_storage().nbytes() for weight in weights.values())
    try:
        with torch.device("meta"):
            built = build(node, allow)
    except NotImplementedError:  # a network that looks at its own numbers while it is built
        return
    except (TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{part} of the checkpoint cannot be built ({_one_line(error)})"
        ) from error
    if not isinstance(built, nn.Module):
        raise ValueError(f"the checkpoint's config makes no network or loss of {part}")
    for name, value in built.state_dict().items():
        found = weights.get(f"{part}.{name}")
        if found is None or found.shape != value.shape:
            had = "none" if found is None else list(found.shape)
            raise ValueError(
                "the checkpoint's weights do not fit its config: "
                f"{part}.{name} is {had}, and the config asks for {list(value.shape)}"
            )
        if value.numel() * value.element_size() > 2 * held:  # a view that repeats one number
            raise ValueError(f"the checkpoint's {part}.{name} is larger than what the file holds")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


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
    settings = {**checkpoint["liverseg"]["config"]["data"], "augment": {}, **changes}
    if "root" in changes:
        settings["phantom"] = None
        before = checkpoint["liverseg"]["config"]["data"]["root"]
        is_elsewhere = Path(before).absolute() != Path(changes["root"]).absolute()
        if is_elsewhere and "fold" not in changes and settings.pop("fold", None) is not None:
            logger.info(
                "%s is another folder than the run's, so its val/ is taken as it is, not a fold",
                changes["root"],
            )
    data: PairDataModule = build(settings, allow)
    return data


def build(node: Any, allow: Sequence[str] = ()) -> Any:  # what the config names
    """Build the object that a plain config describes, its parts first.

    All names are checked before anything is called.

    Args:
        node: Arguments by name, with the class under ``_target_``; parts are nested likewise.
        allow: Modules whose networks, losses and data may be named, besides :data:`ALLOWED`.

    Raises:
        ValueError: If a name is not allowed, or is not the name of something that may be built.
    """
    for target in _targets(node, levels=_MOST_LEVELS):
        _find(target, allow)
    return _build(node, allow)


def _build(node: Any, allow: Sequence[str]) -> Any:
    if isinstance(node, Mapping):
        parts = {key: _build(value, allow) for key, value in node.items() if key not in _HYDRA_KEYS}
        if "_target_" not in node:
            return parts
        maker = _find(node["_target_"], allow)
        return maker(**{**parts, **_without_fetching(maker)})
    if isinstance(node, list):
        return [_build(value, allow) for value in node]
    return node


def _without_fetching(maker: Callable[..., Any]) -> dict[str, None]:
    """Return the arguments by which a network of torchvision is built without a download."""
    if not str(getattr(maker, "__module__", "")).startswith("torchvision."):
        return {}
    taken = inspect.signature(maker).parameters
    return {name: None for name in ("weights", "weights_backbone") if name in taken}


def _targets(node: Any, levels: int) -> Iterator[str]:
    """Yield every name that a config would have built."""
    if levels == 0:
        raise ValueError("the checkpoint's config is nested too deeply or holds itself")
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value, levels - 1)


def _find(target: str, allow: Sequence[str]) -> Callable[..., Any]:
    """Look a name up, if it and the module that defines what it names stand on the allowlist."""
    module_name, _, name = target.rpartition(".")
    if _stands_under(target, (*ALLOWED, *allow)):
        try:
            found = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError):
            raise ValueError(
                f"the checkpoint names {target}, which this installation does not have"
            ) from None
        home = str(getattr(found, "__module__", ""))
        if _stands_under(home, (*ALLOWED, *allow)) and (
            (inspect.isclass(found) and issubclass(found, _BUILDABLE))
            or (_stands_under(home, ("torchvision.models",)) and _builds_a_network(found))
        ):
            return found  # type: ignore[no-any-return]  # a class or a function
    remedy = ""
    if module_name.partition(".")[0] not in (*sys.stdlib_module_names, *_NEVER_PROPOSED):
        remedy = f"; if you trust the file, add allow=[{module_name}]"
    raise ValueError(
        f"the checkpoint names {target}, which is not allowed: it may build networks, losses and "
        f"data of {', '.join((*ALLOWED, *allow))}{remedy}"
    )


def _builds_a_network(found: Any) -> bool:
    """Tell whether a function of torchvision makes one network, and can make it without weights."""
    return inspect.isfunction(found) and "weights" in inspect.signature(found).parameters


def _stands_under(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
