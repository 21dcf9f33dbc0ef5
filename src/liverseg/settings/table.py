"""What values must be where no parameter of ours says it: those of others' classes."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Predicate
from pydantic import BeforeValidator, Field

from liverseg.settings.values import told


def _words(*words: str) -> Any:
    """Return the type of one of several words, of which some look like numbers: 16, say."""
    return Annotated[Literal[words], BeforeValidator(str)]


def _is_strategy(name: str) -> bool:
    from lightning.pytorch.strategies import StrategyRegistry

    return name in StrategyRegistry.available_strategies()


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Direction = Literal["max", "min"]
Endless = told(AtLeastOne | Literal[-1], "a whole number from 1 up, or -1 for no end")
Batches = told(  # without a batch there is no score
    AtLeastOne | Annotated[float, Field(gt=0, le=1)],
    "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0",
)

Time = (
    Annotated[str, Field(pattern=r"^\d+(:\d\d){3}$")]
    | dict[Literal["weeks", "days", "hours", "minutes", "seconds"], NotNegative]
)
_TIME = "days:hours:minutes:seconds, such as 00:08:00:00"

# By package and class: a rule holds for the parameter of the class and of those derived from it.
_OTHERS: dict[str, dict[str, Any]] = {
    "torch.Optimizer": {
        "lr": Positive,
        "weight_decay": NotNegative,
        "momentum": BelowOne,
        "betas": told(
            Annotated[list[BelowOne], Field(min_length=2, max_length=2)],
            "two numbers from 0 up, below 1",
        ),
        "eps": NotNegative,
    },
    "torch.LRScheduler": {
        "T_max": told(
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
    "lightning.ModelCheckpoint": {"mode": Direction, "filename": told(str, "text") | None},
    "lightning.EarlyStopping": {"mode": Direction, "patience": Count},
    "lightning.Trainer": {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
        "devices": told(
            Literal["auto", "-1", -1]
            | Annotated[str, Field(pattern=r"^[1-9]\d*$")]
            | AtLeastOne
            | Annotated[list[Count], Field(min_length=1)],
            "auto, a number of devices from 1 up, -1 for all, or a list of their numbers",
        ),
        "strategy": told(
            Literal["auto", "ddp", "fsdp"] | Annotated[str, Predicate(_is_strategy)],
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
        "max_time": told(Time, _TIME) | None,
        "val_check_interval": told(
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
        "gradient_clip_algorithm": told(Literal["norm", "value"], "norm or value") | None,
    },
}


def rules_of(target: type) -> Iterator[tuple[str, Any]]:
    """Yield parameter and type of what the table says of a class, the most general class first."""
    for one in reversed(target.__mro__):
        yield from _OTHERS.get(f"{one.__module__.partition('.')[0]}.{one.__name__}", {}).items()
