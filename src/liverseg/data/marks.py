"""What ``predict.py`` has written into a folder of images: its files carry a mark of their own."""

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_ENDS = ("_prediction", "_picture", "_probability")  # of the names of what a prediction writes
_MARK = ("Software", "liverseg predict.py")  # a text chunk: this file is a prediction's


def mark() -> PngInfo:
    """Return the text chunk by which :func:`is_ours` knows a file again."""
    info = PngInfo()
    info.add_text(*_MARK)
    return info


def is_ours(file: Path) -> bool:
    """Tell whether a prediction wrote a file; an array of probabilities, by the mask beside it."""
    if file.suffix == ".npy" and file.stem.endswith("_probability"):
        return is_ours(file.with_name(f"{file.stem.removesuffix('_probability')}_prediction.png"))
    if file.suffix != ".png" or not any(end in file.stem for end in _ENDS) or not file.is_file():
        return False
    try:
        with Image.open(file) as picture:
            return picture.info.get(_MARK[0]) == _MARK[1]
    except Exception:  # damaged, in whichever way: it will be named when it is read
        return False
