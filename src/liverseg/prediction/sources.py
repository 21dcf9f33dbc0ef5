"""What is to be predicted: the images that a source names, and a name for the files of each."""

import glob
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from liverseg.data import is_mask, is_of_masks, is_ours, likely_images, stored_size

IMAGE_FORMATS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".npy"),
)
_OF_VOLUMES = "(volumes are read as NIfTI, .nii or .nii.gz, or as DICOM: convert others)"
logger = logging.getLogger(__name__)


def find_images(
    source: str | Path | Sequence[str | Path], mask_suffix: str = "_mask"
) -> list[Path]:
    """List what is to be predicted, ordered by name within a folder.

    Of a folder these are all images that are no masks (``NAME_mask``), hidden files or files that
    a prediction wrote; other files are named in the log. Of a folder with ``images/`` and
    ``masks/`` they are those of the former, also where a pattern finds both.

    Args:
        source: An image, a folder, a pattern such as ``scans/*.png``, or a list of these.
        mask_suffix: What a mask's name has behind that of its image.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If a file is no image, or a source holds none.
    """
    if isinstance(source, list | tuple):
        if not source:
            raise ValueError("source=[] names nothing; name an image or a folder")
        listed = [image for one in source for image in find_images(one, mask_suffix)]
        return list({image.resolve(): image for image in listed}.values())
    path = Path(str(source)).expanduser()
    if path.is_dir():
        is_apart = (path / "images").is_dir() and (path / "masks").is_dir()
        folder = path / "images" if is_apart else path
        return _chosen(sorted(folder.iterdir()), folder, "" if is_apart else mask_suffix)
    if path.is_file():
        try:
            stored_size(path)
        except ValueError as error:
            if error.__cause__ is None:  # it is one, and why it is not taken is told already
                raise
            raise ValueError(
                f"source={source} is no image that can be read; name an image or a folder "
                f"{_OF_VOLUMES}"
            ) from error
        return [path]
    if glob.has_magic(str(source)):
        files = [Path(file) for file in sorted(glob.glob(str(path), recursive=True))]
        if "masks" not in path.parts:  # else they are meant
            files = [file for file in files if not _is_in_masks(file)]
        return _chosen(files, path, mask_suffix)
    if path.exists():
        raise ValueError(f"source={source} is no regular file; name an image or a folder")
    raise FileNotFoundError(f"source={source} does not exist; name an image or a folder")


def _is_in_masks(file: Path) -> bool:
    """Tell whether a file lies below a folder of masks, which has ``images/`` beside it."""
    return any(one.name == "masks" and (one.parent / "images").is_dir() for one in file.parents)


def _chosen(files: Sequence[Path], source: str | Path, mask_suffix: str) -> list[Path]:
    """Return those files that are images to predict; tell which others there are."""
    files = [file for file in files if not file.name.startswith(".") and not file.is_dir()]
    others = [file for file in files if file.suffix.lower() not in IMAGE_FORMATS]
    named = [file for file in files if file.suffix.lower() in IMAGE_FORMATS]
    images = [
        file
        for file in named
        if not (mask_suffix and is_mask(file, mask_suffix)) and not is_ours(file)
    ]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        logger.info(
            "left out, as no images by their names: %s%s",
            *(", ".join(file.name for file in others[:3]), more),
        )
    if not images:
        remedy = "name an image or a folder of them" + (f" {_OF_VOLUMES}" if others else "")
        if inside := sorted(Path(source).glob("[!.]*/")):
            below = [one for one in Path(source).rglob("[!.]*") if not _is_in_masks(one)]
            below = [one for one in below if one.suffix.lower() in IMAGE_FORMATS]
            inside = [one for one in inside if any(one in file.parents for file in below)] or inside
            inside = likely_images(inside)
            remedy = f"name a folder in it, such as {inside[0]}"
            endings = {one.suffix for one in below}
            names = {one.stem for one in below}  # each is the name of what is written
            are_images = not any(is_of_masks(folder.name) for folder in inside)
            if are_images and len(endings) == 1 and len(names) == len(below):
                remedy += f", or all: 'source={source}/**/*{endings.pop()}'"
        raise ValueError(
            f"source={source} holds no image ({', '.join(IMAGE_FORMATS[:6])} ...); {remedy}"
        )
    return images


def output_names(images: Sequence[Path], folder: Path, ends: Sequence[str]) -> list[str]:
    """Return a name for each image, such that no file of another is written over.

    It is the image's name without its ending, or with it where several share the former.

    Args:
        images: What is to be predicted.
        folder: Where the files will be written.
        ends: What their names have behind that of the image, such as ``_prediction.png``.

    Raises:
        ValueError: If two images would still write one file, or one would replace a file that no
            prediction wrote.
    """
    shared = Counter(image.stem.casefold() for image in images)
    names = [image.name if shared[image.stem.casefold()] > 1 else image.stem for image in images]
    images_by_name: dict[str, Path] = {}
    for name, image in zip(names, images, strict=True):
        # a.png and a.PNG lie in one folder only where a file system tells them apart
        if (other := images_by_name.setdefault(name, image)) != image:
            raise ValueError(
                f"{other} and {image} would both be written as {name}_prediction.png; predict "
                "them into different folders (output_dir=...)"
            )
        for end in ends:
            file = folder / f"{name}{end}"
            if _exists(file) and not is_ours(file):
                raise ValueError(
                    f"{file} exists and was not written by predict.py; choose another output_dir"
                )
    return names


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a name that is too long: told when it is written
        return False
