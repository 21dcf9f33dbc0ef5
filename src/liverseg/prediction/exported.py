"""An exported file in the place of a network: what it says about itself, and its logits.

``export.py`` writes such files, see :mod:`liverseg.sharing`. Scaling and normalisation are inside,
so the config that comes with one asks for images in [0, 1] as they are.
"""

import functools
import json
import logging
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from liverseg.training import FORMER

RECORD = "liverseg"  # the key of the metadata that holds all that the commands need, as JSON
OUTPUTS = ("classes", "probabilities", "logits")
Input = Literal["uint8", "float"]
Engine = Literal["onnxruntime", "openvino"]
_SUFFIXES = {".onnx": "onnx", ".pt2": "torch"}
_MOST_RECORD = 2**24  # bytes of the record
logger = logging.getLogger(__name__)


def is_exported(file: str | Path) -> bool:
    """Tell whether a file is an exported one, by its ending."""
    return Path(file).suffix.lower() in _SUFFIXES


def read_record(file: Path) -> dict[str, Any]:
    """Return what an exported file says about itself, without running anything of it.

    Its ``config`` is that of the run; mean and std there are 0 and 1, for the file normalises, and
    images keep their sizes where the file resizes them.

    Raises:
        ValueError: If the file is damaged or was not exported by liverseg.
    """
    wrong = f"{file} was not exported by liverseg, or is damaged; write it anew with export.py"
    try:
        is_onnx = _SUFFIXES[file.suffix.lower()] == "onnx"
        text = _record_of_onnx(file) if is_onnx else _record_of_program(file)
        record = json.loads(text)
        data = record["config"]["data"]
        data["mean"], data["std"] = 0.0, 1.0
        if record.get("resizes"):
            data["image_size"] = None
        record["config"]["trainer"]["precision"] = "32-true"  # as the file computes, whatever run
        if record["input"] not in ("uint8", "float"):
            raise ValueError(record["input"])
    except (ImportError, OSError, MemoryError):
        raise
    except Exception as error:  # parsers of damaged files raise a dozen kinds
        raise ValueError(wrong) from error
    if not isinstance(record, dict) or not isinstance(data, dict):
        raise ValueError(wrong)
    return record


class ExportedNetwork(nn.Module):
    """Maps images to logits, as the network that was exported does with normalised ones.

    Args:
        file: What ``export.py`` has written.
        takes: Type of the pixels that the file takes.
        resizes: Whether it resizes images to the size that its network learnt, and logits back.
        allow: Modules that the user trusts. A file of ``torch.export`` is opened only where
            ``torch.export`` is among them, for opening one evaluates text that it holds.
        engine: What computes a file of ONNX; None is OpenVINO where it is installed, which is
            faster. Both compute in float32.

    Raises:
        ValueError: If the file cannot be opened.
    """

    def __init__(
        self,
        file: Path,
        *,
        takes: Input,
        resizes: bool = False,
        allow: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> None:
        super().__init__()
        self.resizes = resizes
        self._takes = takes
        if _SUFFIXES[file.suffix.lower()] == "torch":
            self._run = _program(file, allow)
        elif (engine or ("openvino" if find_spec("openvino") else "onnxruntime")) == "openvino":
            self._run = _openvino_model(file)
            logger.info("%s runs in OpenVINO, in float32", file)
        else:
            self._run = _session(file)

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 logits of shape (N, K, H, W) on the device of the image.

        Args:
            image: Images in [0, 1], float32 of shape (N, C, H, W).

        Raises:
            ValueError: If the file takes 8 bits and the image has more.
        """
        return self.outputs(image)["logits"]

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return all that the file gives, by name: see :data:`OUTPUTS`."""
        given = image.detach().to("cpu", torch.float32)
        if self._takes == "uint8":
            pixels = (given * 255).round()
            if not bool(torch.isclose(given * 255, pixels, rtol=0, atol=1e-3).all()):
                raise ValueError(
                    "the exported file takes images of 8 bits, and this one has more; export the "
                    "checkpoint with input=float"
                )
            given = pixels.to(torch.uint8)
        outputs = self._run(given.contiguous())
        return {name: one.to(image.device) for name, one in zip(OUTPUTS, outputs, strict=True)}


def _record_of_onnx(file: Path) -> str:
    onnx = imported("onnx")
    model = onnx.load(str(file), load_external_data=False)
    (text,) = [one.value for one in model.metadata_props if one.key in (RECORD, *FORMER)]
    return str(text)


def _record_of_program(file: Path) -> str:
    ends = tuple(f"extra/{key}" for key in (RECORD, *FORMER))
    with zipfile.ZipFile(file) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(ends)]
        if archive.getinfo(name).file_size > _MOST_RECORD:
            raise ValueError("the record is too long")
        return archive.read(name).decode()


def _session(file: Path) -> Any:  # maps a tensor to a list of tensors
    """Open a file of ONNX; data beside it are not looked for."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = runtime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime has a kind of its own for each cause
        raise ValueError(f"{file} cannot be opened ({_one_line(error)})") from error

    def run(image: Tensor) -> list[Tensor]:
        try:
            found = session.run(list(OUTPUTS), {"image": image.numpy()})
        except Exception as error:
            raise ValueError(f"{file} refuses the image ({_one_line(error)})") from error
        return [torch.from_numpy(one) for one in found]

    return run


def _openvino_model(file: Path) -> Any:
    """Open a file of ONNX with OpenVINO, which would compute in bf16 where that is faster."""
    core = _openvino_core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        model = core.compile_model(core.read_model(file.read_bytes()), "CPU", settings)
    except Exception as error:  # most are a RuntimeError with lines of C++
        raise ValueError(f"{file} cannot be opened ({_one_line(error)})") from error

    def run(image: Tensor) -> list[Tensor]:
        try:
            found = model({"image": image.numpy()})
        except Exception as error:
            raise ValueError(f"{file} refuses the image ({_one_line(error)})") from error
        return [torch.from_numpy(found[name].copy()) for name in OUTPUTS]

    return run


@functools.cache
def _openvino_core() -> Any:
    """Return the one core of OpenVINO in this process.

    Each core gives the thread a stack for signals, on processors with AMX, and on its end the stack
    of before. Of two cores, the one that is closed last leaves that of the other, which is gone:
    the next signal ends the process.
    """
    return imported("openvino").Core()


def _program(file: Path, allow: Sequence[str]) -> Any:
    """Open a file of torch.export."""
    if "torch.export" not in allow:
        raise ValueError(
            f"{file} is a program of torch.export, and opening one can run code that it holds; if "
            "you trust it, add allow=[torch.export], or export to ONNX, which is data alone"
        )
    try:
        program = torch.export.load(file).module()
    except Exception as error:
        raise ValueError(f"{file} cannot be opened ({_one_line(error)})") from error
    # Not the module itself: it would be a part of the network, whose weights a checkpoint lacks.
    return torch.no_grad()(lambda image: program(image))


def imported(name: str) -> Any:
    """Import a package of the extra ``export``."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"exported files need {name}, which is not installed; pip install 'liverseg[export]'"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
