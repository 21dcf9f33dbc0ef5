"""Which callbacks and loggers a run can have, and which it needs to be scored at its end."""

import importlib.util
import inspect
from collections.abc import Iterator

from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
)

from liverseg.settings.classes import Plain, class_nodes, find_target

_SETS_ANOTHER_VALUE = {
    LearningRateFinder: ("optimizer.lr", "-m optimizer.lr=1e-4,1e-3,1e-2"),
    BatchSizeFinder: ("data.batch_size", "-m data.batch_size=4,8,16"),
}

_PACKAGES = {  # by Lightning's logger: the module that it imports, and the package that brings it
    "WandbLogger": ("wandb", "wandb"),
    "MLFlowLogger": ("mlflow", "mlflow"),
    "CometLogger": ("comet_ml", "comet-ml"),
    "NeptuneLogger": ("neptune", "neptune"),
    "LitLogger": ("litlogger", "litlogger"),
}


def check_callbacks(plain: Plain) -> None:
    """Refuse callbacks that need what a run does not have, or that keep no best checkpoint."""
    for name, node, target in _callbacks(plain):
        known = f"callbacks.{name}._target_={node['_target_']}"
        for finder, (key, sweep) in _SETS_ANOTHER_VALUE.items():
            if issubclass(target, finder):
                raise ValueError(
                    f"{known} would train with another value than the one that is recorded as "
                    f"{key}; leave it out, and try values side by side: python train.py {sweep}"
                )
        if issubclass(target, BackboneFinetuning):
            raise ValueError(
                f"{known} needs a part of the task that is named backbone, and there is none; "
                f"leave it out with ~callbacks.{name}"
            )
    _check_checkpoints(plain)


def check_loggers(plain: Plain) -> None:
    """Refuse a logger whose package is not installed."""
    for key, node in class_nodes(plain.get("logger"), "logger"):
        kind = str(node["_target_"]).rpartition(".")[2]
        module, package = _PACKAGES.get(kind, ("lightning", ""))
        if importlib.util.find_spec(module) is None:
            raise ValueError(
                f"{key}._target_={node['_target_']} needs a package that is not installed; pip "
                f"install {package}"
            )


def _check_checkpoints(plain: Plain) -> None:
    """Refuse checkpoints that overwrite each other, and a run without the best one."""
    files: dict[tuple[str, str], str] = {}
    has_best = False
    for name, node, target in _callbacks(plain):
        if not issubclass(target, ModelCheckpoint):
            continue
        is_last = "filename" not in inspect.signature(target).parameters
        file = (str(node.get("dirpath")), "last" if is_last else str(node.get("filename")))
        if first := files.get(file):
            key, other = (first, name) if is_last else (name, first)
            raise ValueError(
                f"callbacks.{key}.filename={file[1]} is the file of callbacks.{other}, too; name "
                "another, such as best"
            )
        files[file] = name
        if node.get("monitor") != plain["monitor"]:
            continue
        if node.get("save_top_k", 1) == 0:
            raise ValueError(
                f"callbacks.{name}.save_top_k=0 keeps no checkpoint that could be scored; set it "
                "to 1"
            )
        has_best = True
    if not has_best:
        raise ValueError(
            f"no callback keeps the best checkpoint by monitor={plain['monitor']}, which is scored "
            "at the end; leave callbacks.best as it is"
        )


def _callbacks(plain: Plain) -> Iterator[tuple[str, Plain, type]]:
    """Yield name, section and class of each callback."""
    for name, node in (plain.get("callbacks") or {}).items():
        target = find_target(f"callbacks.{name}", node["_target_"])
        if isinstance(target, type):
            yield name, node, target
