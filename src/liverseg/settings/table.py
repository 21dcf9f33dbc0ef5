"""What values must be where no parameter of ours says it: keys at the top, and others' classes."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from liverseg.settings.values import Section

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Direction = Literal["max", "min"]
Folder = Annotated[str, Field(min_length=1, description="a folder")]
Endless = Annotated[
    AtLeastOne | Literal[-1], Field(description="a whole number from 1 up, or -1 for no end")
]
Batches = Annotated[  # without a batch there is no score
    AtLeastOne | Annotated[float, Field(gt=0, le=1)],
    Field(description="a number of batches from 1 up, or a part of them above 0.0 and up to 1.0"),
]


def _words(*words: str) -> Any:
    """Return the type of one of several words, of which some look like numbers: 16, say."""
    as_text = BeforeValidator(lambda value: value if isinstance(value, bool) else str(value))
    return Annotated[Literal[words], as_text]


def _strategy(name: str) -> str:
    from lightning.pytorch.strategies import StrategyRegistry

    if name not in ("auto", *StrategyRegistry.available_strategies()):
        raise ValueError("no strategy")  # pydantic takes it up
    return name


TOP: dict[str, Any] = {
    "seed": Annotated[int, Field(ge=0, le=2**32 - 1)],
    "fold": Count | None,
    "monitor": str,
    "monitor_mode": Direction,
    "scheduler_interval": Literal["epoch", "step"],
    "threshold": Annotated[float, Field(gt=0, lt=1)],
    "compile": bool,
    "sweep_name": Annotated[int | Annotated[str, Field(min_length=1)], Field(description="a name")],
    "output_dir": Folder,
    "ckpt_path": Annotated[str, Field(description="text")] | None,
    "source": Annotated[
        int | Annotated[str, Field(min_length=1)] | list[str],
        Field(description="an image, a folder or a list of them"),
    ],
    "split": Literal["val", "test"],
    "allow": list[str],
    "callbacks": Annotated[
        dict[Any, Any], Field(description="a mapping of names to callbacks, {} for none")
    ],
    "logger": Annotated[
        list[Section] | dict[str, Section] | None,
        Field(description="a class, a list of them, or null"),
    ],
    "num_pictures": Count,
    "num_worst": Count,
}

# By package and class: a rule holds for the parameter of the class and of those derived from it.
_OTHERS: dict[str, dict[str, Any]] = {
    "torch.Optimizer": {
        "lr": Positive,
        "weight_decay": NotNegative,
        "momentum": BelowOne,
        "betas": Annotated[
            list[BelowOne],
            Field(min_length=2, max_length=2, description="two numbers from 0 up, below 1"),
        ],
        "eps": NotNegative,
    },
    "torch.LRScheduler": {
        "T_max": Annotated[
            AtLeastOne,
            Field(
                description="a whole number from 1 up; for training without end choose "
                "scheduler=constant"
            ),
        ],
        "factor": Positive,
        "patience": Count,
        "total_iters": Count,
        "step_size": AtLeastOne,
        "gamma": Positive,
        "mode": Direction,
    },
    "lightning.ModelCheckpoint": {
        "mode": Direction,
        "filename": Annotated[str, Field(description="text")] | None,
    },
    "lightning.EarlyStopping": {"mode": Direction, "patience": Count},
    "lightning.Trainer": {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
        "devices": Annotated[
            Literal["auto", "-1", -1]
            | Annotated[str, Field(pattern=r"^[1-9]\d*$")]
            | AtLeastOne
            | Annotated[list[Count], Field(min_length=1)],
            Field(
                description="auto, a number of devices from 1 up, -1 for all, or a list of their "
                "numbers"
            ),
        ],
        "strategy": Annotated[
            Literal["auto", "ddp", "fsdp"] | Annotated[str, AfterValidator(_strategy)],
            Field(description="auto, ddp or another strategy of Lightning"),
        ],
        "num_nodes": AtLeastOne,
        "precision": _words(
            *("auto", "32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true"),
            *("transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16"),
        ),
        "profiler": Literal["simple", "advanced", "pytorch", "xla"] | None,
        "max_epochs": Endless,
        "max_steps": Endless,
        "min_epochs": Count | None,
        "min_steps": Count | None,
        "limit_train_batches": Batches | None,
        "limit_val_batches": Batches | None,
        "limit_test_batches": Batches | None,
        "check_val_every_n_epoch": AtLeastOne,
        "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
        "log_every_n_steps": Count | None,
        "accumulate_grad_batches": AtLeastOne,
        "gradient_clip_val": NotNegative | None,
        "gradient_clip_algorithm": Annotated[Literal["norm", "value"], Field()] | None,
    },
}


def rules_of(target: type) -> Iterator[tuple[str, Any]]:
    """Yield parameter and type of what the table says of a class, the most general class first."""
    for one in reversed(target.__mro__):
        yield from _OTHERS.get(f"{one.__module__.partition('.')[0]}.{one.__name__}", {}).items()
