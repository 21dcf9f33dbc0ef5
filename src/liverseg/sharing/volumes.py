"""What the page asks for of a volume: its slices one after another, and a label volume to keep."""

import logging
import math
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from liverseg.data.volumes import (
    SliceView,
    Slicing,
    Volume,
    millilitres,
    need_packages,
    promised_bytes,
    read_source,
    shown_slice,
    slicing_of,
    write_label,
)
from liverseg.prediction import SLICES_AT_ONCE, Predictor, SliceDataset
from liverseg.sharing.computing import computing_as, device_of
from liverseg.sharing.encoding import encoded, png

MOST_BYTES = 2**28  # of a file
MOST_PIXELS = 2**22  # of a slice, as of an image
_MOST_STORED = 2**29  # bytes of the voxels, once they are unpacked
_SECONDS = 1.0  # that one answer computes at least, so that the page can tell how far it is
_GZIP = b"\x1f\x8b"
_READING = logging.getLogger("liverseg.data.volumes")
_MOST_WARNINGS = 100


class _Folder:
    """A folder that is gone when nobody needs it any more, or the page ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="liverseg-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@contextmanager
def _heard() -> Iterator[list[logging.LogRecord]]:
    """Keep what reading a volume warns of from the terminal, where nobody knows its file."""
    handler = BufferingHandler(_MOST_WARNINGS)
    handler.setLevel(logging.WARNING)
    _READING.addHandler(handler)
    _READING.propagate = False
    try:
        yield handler.buffer
    finally:
        _READING.propagate = True
        _READING.removeHandler(handler)


@dataclass(eq=False)
class _Taken:
    """A volume on its way.

    ``place`` is where its file lies until ``file``, the label volume, is made; ``warnings`` say
    what is odd about it.
    """

    name: str
    volume: Volume
    slicing: Slicing
    dataset: SliceDataset
    place: "_Folder"
    warnings: list[str]
    found: list[Tensor] = field(default_factory=list)  # classes of slices (H, W)
    classes: Tensor | None = None  # of all, cleaned, (S, H, W)
    file: bytes = b""


class VolumeAnswers:
    """Answers one question at a time; what is wrong with a question is a ``ValueError``.

    One volume is kept, the one that was sent last.

    Args:
        predictor: Finds the classes.
        view: How slices are seen; or the sentence that says why this is not known.
        precision: What the run computed in, as Lightning names it.
    """

    def __init__(self, predictor: Predictor, view: SliceView | str, precision: str) -> None:
        self._predictor = predictor
        self._view = view
        self._precision = precision
        self._taken: _Taken | None = None
        self._lock = threading.Lock()

    def take(self, content: bytes) -> dict[str, Any]:
        """Read a NIfTI file, and return what it holds.

        Raises:
            ValueError: If it is none that can be predicted; the sentence says why.
        """
        need_packages()
        if isinstance(self._view, str):
            raise ValueError(self._view)
        if not content:
            raise ValueError("the volume is empty; choose another file")
        with self._lock:
            self._taken = None  # before another one takes memory
            place = _Folder()
            ending = ".nii.gz" if content[:2] == _GZIP else ".nii"
            path = place.path / f"volume{ending}"
            try:
                path.write_bytes(content)
                self._taken = self._read(path, self._view, place)
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), "the volume")) from None
            return self._described(self._taken)

    def _read(self, path: Path, view: SliceView, place: _Folder) -> _Taken:
        if (stored := promised_bytes(path)) > _MOST_STORED:
            raise ValueError(
                f"the voxels take {stored:,} bytes, and this page takes {_MOST_STORED:,}; use "
                "predict.py, which takes more"
            )
        with _heard() as records:
            volume = read_source(path, view.assume)
            slicing = slicing_of(volume, view.plane)
            dataset = SliceDataset(volume, slicing, view, self._predictor)
        height, width = dataset.size
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"its slices are {height:,} x {width:,} pixels, and this page takes "
                f"{MOST_PIXELS:,} in all; use predict.py, which takes more"
            )
        warnings = [one.getMessage().replace(str(path), "the volume") for one in records]
        return _Taken(secrets.token_urlsafe(12), volume, slicing, dataset, place, warnings)

    def _described(self, taken: _Taken) -> dict[str, Any]:
        height, width = taken.dataset.size
        return {
            "id": taken.name,
            "slices": len(taken.dataset),
            "height": height,
            "width": width,
            "plane": taken.slicing.plane,
            "spacing": list(taken.slicing.spacing[1:]),
            "warnings": taken.warnings,
        }

    def go_on(self, name: str) -> dict[str, Any]:
        """Compute some more slices, and return how many are done; at the end, what they hold."""
        with self._lock:
            taken = self._of(name)
            ends = time.monotonic() + _SECONDS
            try:
                while len(taken.found) < len(taken.dataset) and time.monotonic() < ends:
                    self._compute(taken)
                if len(taken.found) == len(taken.dataset) and taken.classes is None:
                    self._finish(taken)
            except (RuntimeError, MemoryError) as error:  # a size that the network does not take
                self._taken = None
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise ValueError(f"the network does not take this volume ({reason})") from error
            answer: dict[str, Any] = {"done": len(taken.found), "slices": len(taken.dataset)}
            if taken.classes is not None:
                counts = torch.bincount(taken.classes.flatten(), minlength=256)
                one = millilitres(taken.volume)
                per_slice = (taken.classes > 0).flatten(1).sum(dim=1)
                answer |= {
                    "millilitres": None if math.isnan(one) else (counts * one).tolist(),
                    "most": int(per_slice.argmax()),  # the slice with most foreground
                }
            return answer

    def _compute(self, taken: _Taken) -> None:
        first = len(taken.found)
        some = range(first, min(first + SLICES_AT_ONCE, len(taken.dataset)))
        images = torch.stack([taken.dataset[place]["image"] for place in some])
        with torch.inference_mode(), computing_as(self._predictor, self._precision):
            logits = self._predictor(images.to(device_of(self._predictor)), taken.dataset.size)
            taken.found += self._predictor.decide(logits).cpu().unbind()

    def _finish(self, taken: _Taken) -> None:
        """Clean the whole, and make the file, whose header is that of the source."""
        classes = self._predictor.clean(torch.stack(taken.found)[None])[0]
        label = np.ascontiguousarray(taken.slicing.join(classes.numpy()))
        file = taken.place.path / "label.nii.gz"
        write_label(file, label, taken.volume)
        taken.file, taken.classes = file.read_bytes(), classes
        taken.place.remove()

    def slice(self, name: str, index: int) -> dict[str, Any]:
        """Return a slice as it is seen, and its classes."""
        with self._lock:
            taken = self._of(name)
            if taken.classes is None or not 0 <= index < len(taken.classes):
                raise ValueError("there is no such slice; choose another one")
            return {
                "height": taken.dataset.size[0],
                "width": taken.dataset.size[1],
                "image": encoded(self._drawn(taken, index)),
                "classes": png(taken.classes[index]),
                "spacing": list(taken.slicing.spacing[1:]),
            }

    def file(self, name: str) -> bytes:
        """Return the label volume, with the geometry of its source, as a ``.nii.gz`` file."""
        with self._lock:
            if not (file := self._of(name).file):
                raise ValueError("this volume is not computed yet; wait for its last slice")
            return file

    def _of(self, name: str) -> _Taken:
        if self._taken is None or name != self._taken.name:
            raise ValueError("this volume is kept no longer; choose it once more")
        return self._taken

    def _drawn(self, taken: _Taken, index: int) -> Image.Image:
        assert isinstance(self._view, SliceView)
        values = taken.slicing.cut(taken.volume.voxels)[index]
        shown = shown_slice(values, taken.dataset.size, taken.dataset.limits)
        if shown.dtype == np.uint16:  # no window
            white = self._predictor.white_value or int(shown.max()) or 1
            shown = (shown.clip(0, white).astype(np.float32) * (255 / white)).astype(np.uint8)
        return Image.fromarray(shown).convert("L")
