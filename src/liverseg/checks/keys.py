"""What the keys at the top of a command's config must be; below them, a class says it."""

from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from liverseg.prediction import Options, Threshold
from liverseg.settings.classes import AtLeastOne, BelowOne, Count, Direction, NotNegative, Positive
from liverseg.settings.values import Section, told

NotEmpty = Annotated[str, Field(min_length=1)]

TOP: dict[str, Any] = {
    "seed": Annotated[int, Field(ge=0, le=2**32 - 1)],
    "fold": Count | None,
    "monitor": str,
    "monitor_mode": Direction,
    "scheduler_interval": Literal["epoch", "step"],
    "scores": told(list[str], "a list of scores, such as [hd95]"),
    "tolerance": Positive,
    "spacing": Annotated[
        list[Positive],
        Field(
            min_length=2,
            max_length=2,
            description="two lengths, of height and width, such as [0.7,0.7]",
        ),
    ]
    | None,
    "predictions": told(NotEmpty, "a folder of masks") | None,
    "runs": told(NotEmpty | list[NotEmpty], "a list of folders, such as [A,B]"),
    "score": NotEmpty,
    "compile": bool,
    "weights": told(NotEmpty, "a file of weights") | None,
    "freeze": told(list[NotEmpty], "a list of parts of the network, such as [encoder]"),
    "freeze_epochs": AtLeastOne | None,
    "optimizer_parts": told(
        dict[Any, NotNegative], "a mapping of parts to factors of the rate, such as {encoder: 0.1}"
    )
    | None,
    "sweep_name": told(int | NotEmpty, "a name"),
    "output_dir": told(NotEmpty, "a folder"),
    "ckpt_path": told(NotEmpty | list[NotEmpty], "a checkpoint or a list of them") | None,
    "source": told(int | NotEmpty | list[str], "an image, a folder or a list of them"),
    "labels": told(int | NotEmpty | list[str], "a file, a folder or a list of them"),
    "split": Literal["val", "test"],
    "val": Annotated[float, Field(gt=0, lt=1)],
    "test": BelowOne,
    "overwrite": bool,
    "preview": bool,
    "seg": bool,
    "assume": told(str, "three of L R A P I S, such as RAS") | None,
    "allow": list[str],
    "format": Literal["onnx", "torch"],
    "input": Literal["uint8", "float"],
    "port": told(Annotated[int, Field(ge=0, le=65535)], "a whole number from 0 to 65535"),
    "callbacks": told(dict[Any, Any], "a mapping of names to callbacks, {} for none"),
    "logger": told(list[Section] | dict[str, Section] | None, "a class, a list of them, or null"),
    "num_pictures": Count,
    "num_worst": Count,
    # How evaluate.py and predict.py find classes, and what they write.
    **get_type_hints(Options, include_extras=True),
    "threshold": Threshold,
    "tuned": told(NotEmpty, "a file") | None,
    "tune": bool,
    "pictures": bool,
    "probabilities": told(Literal["png", "npy"], "png or npy") | None,
    "batch_size": AtLeastOne | None,
    "num_workers": Count,
}
