"""What values must be where no parameter of ours says it: keys at the top, and others' classes."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from liverseg.settings.values import Section


def _told(hint: Any, words: str) -> Any:
    """Return a type that a sentence tells in these words."""
    return Annotated[hint, Field(description=words)]


def _words(*words: str) -> Any:
    """Return the type of one of several words, of which some look like numbers: 16, say."""
    as_text = BeforeValidator(lambda value: value if isinstance(value, bool) else str(value))
    return Annotated[Literal[words], as_text]


def _strategy(name: str) -> str:
    from lightning.pytorch.strategies import StrategyRegistry

    if name not in ("auto", *StrategyRegistry.available_strategies()):
        raise ValueError("no strategy")  # pydantic takes it up
    return name


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Direction = Literal["max", "min"]
NotEmpty = Annotated[str, Field(min_length=1)]
Endless = _told(AtLeastOne | Literal[-1], "a whole number from 1 up, or -1 for no end")
Batches = _told(  # without a batch there is no score
    AtLeastOne | Annotated[float, Field(gt=0, le=1)],
    "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0",
)

Time = (
    Annotated[str, Field(pattern=r"^\d+(:\d\d){3}$")]
    | dict[Literal["weeks", "days", "hours", "minutes", "seconds"], NotNegative]
)
_TIME = "days:hours:minutes:seconds, such as 00:08:00:00"

TOP: dict[str, Any] = {
    "seed": Annotated[int, Field(ge=0, le=2**32 - 1)],
    "fold": Count | None,
    "monitor": str,
    "monitor_mode": Direction,
    "scheduler_interval": Literal["epoch", "step"],
    "threshold": Annotated[float, Field(gt=0, lt=1)],
    "scores": Annotated[list[str], Field(description="a list of scores")],
    "tolerance": Positive,
    "spacing": Annotated[
        list[Positive],
        Field(min_length=2, max_length=2, description="two lengths, of height and width"),
    ]
    | None,
    "predictions": _told(NotEmpty, "a folder of masks") | None,
    "runs": _told(NotEmpty | list[NotEmpty], "a list of folders, such as [A,B]"),
    "score": NotEmpty,
    "compile": bool,
    "weights": _told(NotEmpty, "a file of weights") | None,
    "freeze": _told(list[NotEmpty], "a list of parts of the network, such as [encoder]"),
    "freeze_epochs": AtLeastOne | None,
    "optimizer_parts": _told(
        dict[Any, NotNegative], "a mapping of parts to factors of the rate, such as {encoder: 0.1}"
    )
    | None,
    "sweep_name": _told(int | NotEmpty, "a name"),
    "output_dir": _told(NotEmpty, "a folder"),
    "ckpt_path": _told(NotEmpty | list[NotEmpty], "a checkpoint or a list of them") | None,
    "source": _told(int | NotEmpty | list[str], "an image, a folder or a list of them"),
    "labels": _told(int | NotEmpty | list[str], "a file, a folder or a list of them"),
    "split": Literal["val", "test"],
    "val": Annotated[float, Field(gt=0, lt=1)],
    "test": BelowOne,
    "overwrite": bool,
    "preview": bool,
    "seg": bool,
    "allow": list[str],
    "format": Literal["onnx", "torch"],
    "input": Literal["uint8", "float"],
    "port": _told(Annotated[int, Field(ge=0, le=65535)], "a whole number from 0 to 65535"),
    "callbacks": _told(dict[Any, Any], "a mapping of names to callbacks, {} for none"),
    "logger": _told(list[Section] | dict[str, Section] | None, "a class, a list of them, or null"),
    "num_pictures": Count,
    "num_worst": Count,
    # How evaluate.py and predict.py find classes, and what they write.
    "flips": _told(list[Literal["horizontal", "vertical"]], "a list of horizontal and vertical")
    | None,
    "min_pixels": _told(
        Count | dict[str, Count], "a whole number from 0 up, or a mapping of classes to such"
    )
    | None,
    "largest_component": _told(bool | list[str], "true, false or a list of classes") | None,
    "fill_holes": _told(bool | list[str], "true, false or a list of classes") | None,
    "tile_size": AtLeastOne | None,
    "tuned": _told(NotEmpty, "a file") | None,
    "tune": bool,
    "pictures": bool,
    "probabilities": _told(Literal["png", "npy"], "png or npy") | None,
    "batch_size": AtLeastOne | None,
    "num_workers": Count,
}

# By package and class: a rule holds for the parameter of the class and of those derived from it.
_OTHERS: dict[str, dict[str, Any]] = {
    "torch.Optimizer": {
        "lr": Positive,
        "weight_decay": NotNegative,
        "momentum": BelowOne,
        "betas": _told(
            Annotated[list[BelowOne], Field(min_length=2, max_length=2)],
            "two numbers from 0 up, below 1",
        ),
        "eps": NotNegative,
    },
    "torch.LRScheduler": {
        "T_max": _told(
            AtLeastOne,
            "a whole number from 1 up; for training without end choose scheduler=constant",
        ),
        "factor": Positive,
        "patience": Count,
        "total_iters": Count,
        "step_size": AtLeastOne,
        "gamma": Positive,
        "mode": Direction,
    },
    "lightning.ModelCheckpoint": {"mode": Direction, "filename": _told(str, "text") | None},
    "lightning.EarlyStopping": {"mode": Direction, "patience": Count},
    "lightning.Trainer": {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
        "devices": _told(
            Literal["auto", "-1", -1]
            | Annotated[str, Field(pattern=r"^[1-9]\d*$")]
            | AtLeastOne
            | Annotated[list[Count], Field(min_length=1)],
            "auto, a number of devices from 1 up, -1 for all, or a list of their numbers",
        ),
        "strategy": _told(
            Literal["auto", "ddp", "fsdp"] | Annotated[str, AfterValidator(_strategy)],
            "auto, ddp or another strategy of Lightning",
        ),
        "num_nodes": AtLeastOne,
        "precision": _words(
            *("auto", "32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true"),
            *("transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16"),
        ),
        "profiler": Literal["simple", "advanced", "pytorch", "xla"] | None,
        "max_epochs": Endless,
        "max_steps": Endless,
        "max_time": _told(Time, _TIME) | None,
        "val_check_interval": _told(
            AtLeastOne | Annotated[float, Field(gt=0, le=1)] | Time,
            "a number of batches from 1 up, a part of an epoch above 0.0 and up to 1.0, or "
            f"{_TIME}",
        )
        | None,
        "min_epochs": Count | None,
        "min_steps": Count | None,
        **{f"limit_{split}_batches": Batches | None for split in ("train", "val", "test")},
        "check_val_every_n_epoch": AtLeastOne,
        "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
        "log_every_n_steps": Count | None,
        "accumulate_grad_batches": AtLeastOne,
        "gradient_clip_val": NotNegative | None,
        "gradient_clip_algorithm": _told(Literal["norm", "value"], "norm or value") | None,
    },
}


def rules_of(target: type) -> Iterator[tuple[str, Any]]:
    """Yield parameter and type of what the table says of a class, the most general class first."""
    for one in reversed(target.__mro__):
        yield from _OTHERS.get(f"{one.__module__.partition('.')[0]}.{one.__name__}", {}).items()
