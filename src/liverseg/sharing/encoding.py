"""Numbers as the page reads them: PNG files in base64."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

_SIXTEEN_BITS = 65535


def png(numbers: Tensor) -> str:
    """Return whole numbers up to 255, shape (H, W), as a grey PNG file."""
    return encoded(Image.fromarray(numbers.byte().numpy()))


def deep_png(probability: Tensor) -> str:
    """Return a probability in 16 bits: a browser gives eight back, so red and green hold them."""
    values = (probability * _SIXTEEN_BITS).round().int().numpy()
    parts = [values >> 8, values & 255, np.zeros_like(values)]
    return encoded(Image.fromarray(np.stack(parts, axis=-1).astype(np.uint8)))


def encoded(picture: Image.Image) -> str:
    """Return a picture as a PNG file."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode()
