"""What the page asks for: a prediction of an image, a mask beside it, a file to keep."""

import io
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import Pair, stored_size
from liverseg.labels import first_scored
from liverseg.pictures import as_shown, class_colour
from liverseg.prediction import Prediction, Predictor
from liverseg.sharing.computing import computing_as, device_of
from liverseg.sharing.encoding import deep_png, encoded, png
from liverseg.sharing.volumes import VolumeAnswers

MOST_PIXELS = 2**22  # of an image, 2048 x 2048: what a network makes of it must fit into memory
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # Pillow reads others by other programs
_MOST_KEPT = 4  # predictions that a mask can be fetched of
_MOST_EXAMPLES = 24


class _Kept(NamedTuple):
    """A prediction and the classes of its own threshold, on the CPU."""

    probabilities: Tensor  # (K, H, W)
    classes: Tensor  # (H, W)


class Answers:
    """Answers one question at a time; what is wrong with a question is a ``ValueError``.

    Args:
        predictor: Finds the classes.
        title: What the page is headed with.
        examples: Pairs that the page offers.
        precision: What the run computed in, as Lightning names it.
        volumes: Answers what is asked of volumes; None where none are taken.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        title: str,
        examples: Sequence[Pair] = (),
        precision: str = "32-true",
        volumes: VolumeAnswers | None = None,
    ) -> None:
        self.volumes = volumes
        self._predictor = predictor
        self._title = title
        step = max(1, -(-len(examples) // _MOST_EXAMPLES))
        self._examples = list(examples)[::step]
        self._precision = precision
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def model(self) -> dict[str, Any]:
        """Return what the page must know before anything is asked."""
        first = first_scored(self._predictor.num_classes, self._predictor.class_names)
        return {
            "title": self._title,
            "names": ["background"] * first + self._predictor.class_names,
            "first": first,
            "colours": [
                "#{:02x}{:02x}{:02x}".format(*class_colour(index))
                for index in range(first + len(self._predictor.class_names))
            ],
            "threshold": self._predictor.threshold if self._predictor.num_classes == 1 else None,
            "examples": [pair.name for pair in self._examples],
            "volumes": self.volumes is not None,
        }

    def predict(self, content: bytes) -> dict[str, Any]:
        """Return the prediction of an image file, as numbers and texts.

        Raises:
            ValueError: If it is no image that can be predicted; the sentence says why.
        """
        if (stacks := self._predictor.stacks) is not None:
            raise ValueError(
                f"the network sees {stacks.slices} slices at once, and a file is one; choose a "
                "volume (.nii.gz) or an image of val, or use predict.py with the folder as source"
            )
        with self._lock:
            return self._predicted(self._decoded(content))

    def predict_example(self, index: int) -> dict[str, Any]:
        """Return the prediction of an example, and its mask."""
        if not 0 <= index < len(self._examples):
            raise ValueError("there is no such example; choose another one")
        pair = self._examples[index]
        with self._lock:
            _refuse_large(*stored_size(pair.image))
            found = self._predicted(self._predictor.read(pair.image))
            truth = self._predictor.mask_reader.read(pair.mask)
            return {**found, "truth": png(truth), "spacing": pair.spacing}

    def mask(self, content: bytes) -> dict[str, Any]:
        """Return the class indices of a mask file, 255 where pixels count nowhere."""
        with self._lock:
            mask = self._read(content, self._predictor.mask_reader.read, "mask")
        return {"height": mask.shape[0], "width": mask.shape[1], "truth": png(mask)}

    def file(self, name: str, threshold: float | None) -> bytes:
        """Return the mask of an earlier prediction as a PNG file, in the values of the data set."""
        with self._lock:
            kept = self._kept.get(name)
        if kept is None:
            raise ValueError("this prediction is kept no longer; predict the image once more")
        classes = kept.classes
        if threshold is not None and self._predictor.num_classes == 1:
            classes = (kept.probabilities[0] > threshold).to(torch.uint8)
        stream = io.BytesIO()
        self._predictor.mask_reader.to_file(classes).save(stream, "PNG")
        return stream.getvalue()

    def _decoded(self, content: bytes) -> Tensor:
        image: Tensor = self._read(content, self._predictor.read, "image")
        return image

    def _read(self, content: bytes, read: Any, what: str) -> Any:  # a reader of paths
        """Read what was sent by a reader of files, without a name of the sender's."""
        if not content:
            raise ValueError(f"the {what} is empty; choose another file")
        with tempfile.TemporaryDirectory(prefix="liverseg-") as folder:
            path = Path(folder) / what
            path.write_bytes(content)
            try:
                _refuse_other_formats(path, what)
                return read(path)
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), f"the {what}")) from error

    def _predicted(self, image: Tensor) -> dict[str, Any]:
        try:
            with computing_as(self._predictor, self._precision):
                device = device_of(self._predictor)
                found: Prediction = self._predictor.predict(image[None].to(device))
        except (RuntimeError, MemoryError) as error:  # a size that the network does not take, say
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"the network does not take this image ({reason})") from error
        kept = _Kept(found.probabilities[0].cpu().float(), found.classes[0].cpu())
        name = secrets.token_urlsafe(12)
        self._kept[name] = kept
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        stacks, channels = self._predictor.stacks, self._predictor.channels
        own = image if stacks is None else image[stacks.slices // 2 * channels :][:channels]
        shown = to_pil_image(as_shown(own[: 3 if len(own) > 2 else 1]))
        return {
            "id": name,
            "height": image.shape[-2],
            "width": image.shape[-1],
            "image": encoded(shown),
            "classes": png(kept.classes),
            "probability": deep_png(kept.probabilities[0]) if len(kept.probabilities) == 1 else "",
        }


def _refuse_other_formats(path: Path, what: str) -> None:
    """Refuse what is no image of a common kind by its head, or is too large."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
    except Exception as error:  # decoders raise all kinds
        other = ", or a volume as .nii.gz (predict.py reads DICOM too)" if what == "image" else ""
        raise ValueError(
            f"the {what} is no file that this page reads; choose a PNG, JPEG, TIFF, BMP or WebP "
            f"file{other}"
        ) from error
    _refuse_large(height, width)


def _refuse_large(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"the file is {height:,} x {width:,} pixels, and this page takes {MOST_PIXELS:,} in "
            "all; make it smaller or cut it, or use predict.py, which takes more"
        )
