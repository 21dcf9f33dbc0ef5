"""A network with all that stands around it, from the pixels of a file to classes, as one graph."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from liverseg.network import TILE_SIZE, Shrinking
from liverseg.prediction import OUTPUTS, RECORD, Input, imported
from liverseg.scores import class_probabilities, predict_classes
from liverseg.sharing.portable import Portable

Format = Literal["onnx", "torch"]
_OPSET = 20  # of ONNX: the first with all that is used here; the runtimes of 2024 read it
_MOST_BYTES = 19 * 10**8  # of weights; a file of ONNX holds two gigabytes
_TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir")
# Of the image that is traced: none is 1, a multiple of what a network halves, or equal to another.
_TRACED = (2, 53, 77)


class ImageToClasses(nn.Module):
    """Scale, resize, normalise, pad, compute, crop, resize back and decide.

    Args:
        net: Maps normalised images to logits.
        image_size: Height and width that images are resized to; None keeps each image's own.
        normalize: Maps an image in [0, 1] to what the network takes.
        threshold: With one logit, a pixel is foreground where its probability exceeds this.

    Raises:
        ValueError: If the network is one without padding whose tiles cannot be put together.
    """

    def __init__(
        self,
        net: nn.Module,
        normalize: Callable[[Tensor], Tensor],
        threshold: float,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self._normalize = normalize
        self._threshold = threshold
        self._image_size = image_size
        self._steps = _steps(net) if _is_shrinking(net) else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :data:`~liverseg.prediction.OUTPUTS` names.

        Args:
            image: Pixels of shape (N, C, H, W), uint8 in 0 ... 255 or float32 in 0 ... 1.

        Returns:
            Classes, uint8 (N, H, W); probabilities, float32 (N, K, H, W); logits likewise.
        """
        image = functional.to_dtype(image, torch.float32, scale=True)
        height, width = image.shape[-2:]
        if self._image_size is not None:
            image = interpolate(image, self._image_size, mode="bilinear", antialias=True)
        image = self._normalize(image)
        if self._steps is None:
            logits = self.net(image).float()  # in one view, however large; tiles are for predict.py
        else:
            logits = self._untiled_logits(image, *self._steps)
        if self._image_size is not None:
            logits = interpolate(logits, (height, width), mode="bilinear")
        classes = predict_classes(logits, self._threshold)
        return classes, class_probabilities(logits), logits

    def _untiled_logits(self, image: Tensor, smallest: int, covered: int, step: int) -> Tensor:
        """Return the logits of a network without padding, from one view of the whole image.

        Its tiles lie on one grid and leave no seam, so one view gives the same, at any size.
        """
        height, width = image.shape[-2:]
        for axis, side in ((-2, height), (-1, width)):
            length = smallest + step * ((side - covered + step - 1) // step)
            index = torch.arange(length, device=image.device) - (smallest - covered) // 2
            period = torch.full((), 2 * (side - 1), device=image.device).clamp(min=1)
            index = index.remainder(period)
            image = image.index_select(axis, torch.where(index < side, index, period - index))
        logits: Tensor = self.net(image)
        return logits[..., :height, :width].float()


def to_onnx(graph: ImageToClasses, takes: Input, channels: int, record: Mapping[str, Any]) -> bytes:
    """Return a graph as a file of ONNX, with batch, height and width free.

    Args:
        graph: What is written.
        takes: Type of the pixels.
        channels: Channels of the image.
        record: Plain values that are kept in the file, each under its name and together, as JSON.

    Raises:
        ValueError: If the graph cannot be written, with what stands in the way.
    """
    onnx = imported("onnx")
    imported("onnxscript")
    held = sum(one.numel() * one.element_size() for one in graph.state_dict().values())
    if held > _MOST_BYTES:
        raise ValueError(
            f"the weights take {held:,} bytes, more than a file of ONNX can hold; use format=torch"
        )
    with _traced(), Portable():
        program = torch.onnx.export(
            graph.eval(),
            (_example(takes, channels),),
            dynamo=True,
            dynamic_shapes={"image": {0: "batch", 2: "height", 3: "width"}},
            input_names=["image"],
            output_names=list(OUTPUTS),
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for one in (*model.graph.input, *model.graph.output):
        sides = one.type.tensor_type.shape.dim
        for place, name in ((0, "batch"), (-2, "height"), (-1, "width")):
            sides[place].dim_param = name  # the exporter writes out how it got there
    onnx.helper.set_model_props(model, _metadata(record))
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def to_program(
    graph: ImageToClasses, takes: Input, channels: int, record: Mapping[str, Any]
) -> bytes:
    """Return a graph as a file of ``torch.export``; the rest is as in :func:`to_onnx`."""
    stream = io.BytesIO()
    free = torch.export.Dim.DYNAMIC
    with _traced():
        program = torch.export.export(
            graph.eval(),
            (_example(takes, channels),),
            dynamic_shapes={"image": {0: free, 2: free, 3: free}},
        )
        torch.export.save(program, stream, extra_files={RECORD: json.dumps(record)})
    return stream.getvalue()


def _example(takes: Input, channels: int) -> Tensor:
    count, height, width = _TRACED
    pixels = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)
    return pixels if takes == "uint8" else pixels / 255


def _metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """Return texts by name: what others look for, and all together for the commands here."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in record.items()
        if name != "config"
    }
    return {**texts, RECORD: json.dumps(record)}


@contextlib.contextmanager
def _traced() -> Iterator[None]:
    """Trace with sizes of 1 as free as others, quietly; what goes wrong becomes a sentence."""
    from torch.fx.experimental import _config

    levels = {one: logging.getLogger(one).level for one in _TALKATIVE}
    try:
        with (
            # Else a batch, a height or a width of 1 would be refused by a program.
            _config.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]  # torch adds it
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")  # of the exporter, about itself
            for one in _TALKATIVE:
                logging.getLogger(one).setLevel(logging.ERROR)
            yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(
            "the network cannot be written as a graph whose sizes are free "
            f"({' '.join(str(cause).split())[:300]}); see docs/share.md"
        ) from error
    finally:
        for one, level in levels.items():
            logging.getLogger(one).setLevel(level)


def _is_shrinking(net: nn.Module) -> bool:
    """Tell whether a network gives logits for the middle of its image alone."""
    return isinstance(net, Shrinking) and net.input_size(TILE_SIZE) != TILE_SIZE


def _steps(net: nn.Module) -> tuple[int, int, int]:
    """Return the smallest image side, the side of its logits, and the step to the next ones."""
    assert isinstance(net, Shrinking)
    smallest = net.input_size(1)
    covered = net.output_size(smallest)
    step = net.input_size(covered + 1) - smallest
    regular = all(
        net.input_size(side) == smallest + step * -(-(side - covered) // step)
        for side in range(1, 4 * step)
    )
    seamless = TILE_SIZE % step == 0 and not any(
        isinstance(one, nn.Upsample) and one.mode == "bilinear" for one in net.modules()
    )
    if not (regular and seamless):
        raise ValueError(
            "this network without padding sees large images in tiles that leave seams, which one "
            "graph cannot repeat; export one with model.upsampling=transposed or nearest, or with "
            "model.padding=same"
        )
    return smallest, covered, step
