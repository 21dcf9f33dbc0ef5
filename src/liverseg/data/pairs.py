"""What belongs together on disk: an image ``NAME.png`` and its mask ``NAME_mask.png``.

:func:`find_pairs` lists those of a folder, :func:`list_below` those of a whole tree.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, not_
from pathlib import Path

from liverseg.data.arrays import channels_first
from liverseg.data.images import FORMATS, IMAGE_SUFFIXES, decoded_bytes
from liverseg.data.layouts import no_masks, one_more_mask, one_name, other_folders, other_suffix

_MOST_NAMED = 5
SPLIT_NAMES = ("train", "val", "test")
Headers = Callable[[Sequence[Path]], Sequence[tuple[tuple[int, int], int]]]


@dataclass(frozen=True)
class Pair:
    """One image and its mask on disk.

    ``name`` is the image's file name without its ending, or another that is unique in its split.
    ``case`` is whose image it is, None where that is not known; ``spacing`` height and width of a
    pixel in mm, and ``number`` that of the slice within its case, where a table says them.
    """

    name: str
    image: Path
    mask: Path
    case: str | None = None
    spacing: tuple[float, float] | None = None
    number: int | None = None


def find_pairs(folder: Path, mask_suffix: str = "_mask", case_pattern: str = "") -> list[Pair]:
    """List the image/mask pairs of one split, ordered by name, as :func:`list_pairs` does.

    Raises:
        FileNotFoundError: If ``folder`` is missing.
        ValueError: As :func:`list_pairs`, or if image and mask differ in size, or if a file is no
            image.
    """
    pairs = list_pairs(folder, mask_suffix=mask_suffix, case_pattern=case_pattern)
    check_sizes(pairs)
    return pairs


def list_pairs(
    folder: Path, masks: Path | None = None, *, mask_suffix: str = "_mask", case_pattern: str = ""
) -> list[Pair]:
    """List the image/mask pairs of one split by their names; no file is opened.

    An image is ``NAME.png`` and its mask ``NAME_mask.png`` beside it, or they are
    ``images/NAME.png`` and ``masks/NAME.png`` (or ``NAME_mask.png`` there).
    Files may be PNG, JPEG, TIFF, BMP, WebP, GIF, PPM or NPY; what a mask's format loses,
    :class:`~liverseg.data.MaskReader` refuses. Other files are ignored.

    Args:
        folder: The folder of the split.
        masks: The folder of its masks, where they have one; None looks for itself.
        mask_suffix: What a mask's name has behind that of its image.
        case_pattern: Regular expression whose first group is the case in a file name.

    Raises:
        FileNotFoundError: If ``folder`` is missing.
        ValueError: If an image or a mask stands alone, if two files have one name, if the folder
            holds no pair, or pairs side by side and apart.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} does not exist; set data.root")
    base, images = folder, folder
    if masks is not None:
        base = Path(os.path.commonpath([folder, masks]))
    elif _is_apart(folder):
        images, masks = folder / "images", folder / "masks"
        if loose := _listed(folder):
            raise ValueError(
                f"{folder} holds images/ and masks/, and {loose[0].name} beside them, so it is not "
                "clear which are meant; move or remove one or the other"
            )
    is_beside = masks is None
    files = _listed(images)
    are_masks = [is_beside and is_mask(one, mask_suffix) for one in files]
    named = _by_name(base, [*compress(files, map(not_, are_masks))])
    masked = _by_name(base, _listed(masks) if masks else [*compress(files, are_masks)], mask_suffix)
    if lone := sorted(named.keys() ^ masked.keys()):
        is_image = lone[0] in named
        file = named.get(lone[0]) or masked[lone[0]]
        there = (masks or images) if is_image else images
        end = f"{mask_suffix if is_image and is_beside else ''}.png"
        wanted = (there / f"{lone[0]}{end}").relative_to(base).as_posix()
        more = f" (and {len(lone) - 1} more such files)" if len(lone) > 1 else ""
        other = other_suffix(list(named)) if is_beside and not masked else ""
        remedy = f"set data.mask_suffix={other}, by which names differ" if other else ""
        alone = [[files[name] for name in lone if name in files] for files in (named, masked)]
        remedy = remedy or _remedy_for(base, alone[0], alone[1], named, mask_suffix)
        raise ValueError(
            f"{base}: {file.relative_to(base).as_posix()} has no partner {wanted}{more}; {remedy}"
        )
    if not named:
        raise ValueError(
            f"{folder} holds no pair NAME.png + NAME{mask_suffix}.png (found "
            f"{_census(folder)}); {_other_layout(folder, mask_suffix)}"
        )
    return [
        Pair(name, named[name], masked[name], case_of(named[name].stem, case_pattern))
        for name in sorted(named)
    ]


def _other_layout(folder: Path, mask_suffix: str) -> str:
    """Say what to do with a split's folder that holds no files of its own."""
    below = sorted(one.name for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    if {*SPLIT_NAMES} & set(below):
        return "set data.root to the folder above train/ and val/"
    others = [folder.parent / name for name in SPLIT_NAMES if name != folder.name]
    if folder.name in SPLIT_NAMES and not _holds_files(folder) and any(map(_holds_files, others)):
        return f"put pairs into it{', or remove it' if folder.name == 'test' else ''}"
    listed = [_listed(folder / one) for one in below]
    hold_pairs = any(len({is_mask(one, mask_suffix) for one in files}) > 1 for files in listed)
    files = [] if hold_pairs else [one for some in listed for one in some]
    if told := other_folders(folder, files, mask_suffix):
        return told
    if below:
        return (
            f"files in folders such as {below[0]}/ are found by a cases.csv that names them and "
            "their split; python split.py writes one, which divides them anew"
        )
    if any(one.is_file() and one.name[0] != "." for one in folder.iterdir()):
        return f"images are {FORMATS}: convert others"
    return "set data.root to the folder above train/ and val/"


def _holds_files(folder: Path) -> bool:
    """Tell whether there is a file below a folder, hidden ones apart."""
    return any(one.is_file() and one.name[0] != "." for one in folder.rglob("*"))


def _remedy_for(
    root: Path,
    images: Sequence[Path],
    masks: Sequence[Path],
    names: Collection[str],
    mask_suffix: str,
) -> str:
    """Say what to do with images and masks without a partner, from the names of all images."""
    has_no_mask = not masks and len(images) >= len(names)
    return (
        (no_masks(root, images, mask_suffix) if has_no_mask else "")
        or one_more_mask([*images, *masks], names, mask_suffix)
        or one_name([one.stem for one in images], [one.stem for one in masks], mask_suffix)
        or "add or remove it"
    )


def list_below(root: Path, *, mask_suffix: str = "_mask", case_pattern: str = "") -> list[Pair]:
    """List all pairs below a folder, whatever folders they lie in; no file is opened.

    Masks lie beside their images, or below ``masks/`` as the images lie below ``images/``. A pair's
    name has its folder in front where one name is in two folders.

    Raises:
        ValueError: If an image or a mask stands alone, or there is no pair.
    """
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for folder, is_of_masks in _folders_below(root):
        places = [one for one in folder.relative_to(root).parts if one not in ("images", "masks")]
        files = _listed(folder)
        are_masks = [is_of_masks or is_mask(file, mask_suffix) for file in files]
        for kind, named in (
            (images, _by_name(root, [*compress(files, map(not_, are_masks))])),
            (masks, _by_name(root, [*compress(files, are_masks)], mask_suffix)),
        ):
            for name, file in named.items():
                first = kind.setdefault("/".join([*places, name]), file)
                if first != file:
                    raise ValueError(
                        f"{root}: {file.relative_to(root)} and {first.relative_to(root)} have one "
                        "name; rename or remove one"
                    )
    if lone := sorted(images.keys() ^ masks.keys()):
        file = images.get(lone[0]) or masks[lone[0]]
        what = "mask" if lone[0] in images else "image"
        more = f" (and {len(lone) - 1} more such files)" if len(lone) > 1 else ""
        other = other_suffix(list(images)) if not masks else ""
        remedy = f"set data.mask_suffix={other}" if other else ""
        alone = [[kind[name] for name in lone if name in kind] for kind in (images, masks)]
        remedy = remedy or other_folders(root, [*alone[0], *alone[1]], mask_suffix)
        names = {image.stem for image in images.values()}
        remedy = remedy or _remedy_for(root, alone[0], alone[1], names, mask_suffix)
        raise ValueError(f"{root}: {file.relative_to(root)} has no {what}{more}; {remedy}")
    if not images:
        raise ValueError(
            f"{root} holds no pair NAME.png + NAME{mask_suffix}.png (found {_census(root)}); "
            f"images are {FORMATS}: name a folder of them, or convert others (volumes by python "
            "convert.py)"
        )
    shared = Counter(path.rpartition("/")[2] for path in images)
    pairs = [
        Pair(
            path.replace("/", "_") if len(shared) < len(images) else path.rpartition("/")[2],
            image,
            masks[path],
            case_of(image.stem, case_pattern),
        )
        for path, image in images.items()
    ]
    return sorted(pairs, key=lambda pair: (pair.name, str(pair.image)))


def check_sizes(pairs: Sequence[Pair], headers: Headers | None = None) -> None:
    """Refuse a pair whose image and mask differ in size, from the headers of their files.

    Args:
        pairs: Any pairs.
        headers: What returns :func:`~liverseg.data.images.decoded_bytes` of files; None reads them.

    Raises:
        ValueError: If they do, or a file is no image.
    """
    files = [file for pair in pairs for file in (pair.image, pair.mask)]
    found = headers(files) if headers else [decoded_bytes(file) for file in files]
    for pair, (image_size, _), (mask_size, _) in zip(pairs, found[::2], found[1::2], strict=True):
        if image_size != mask_size:
            for file in (pair.image, pair.mask):
                if remedy := channels_first(file):
                    raise ValueError(f"{file} has its channels first; {remedy}")
            turned = "; one of them is turned, as a photograph is by what its camera noted (EXIF)"
            raise ValueError(
                f"{pair.mask} is {_size_text(mask_size)} (height x width) but its image is "
                f"{_size_text(image_size)}; both must have the same size"
                f"{turned if image_size[::-1] == mask_size else ''}"
            )


def is_mask(path: Path, mask_suffix: str = "_mask") -> bool:
    """Tell whether a file is a mask by its name."""
    return path.stem.endswith(mask_suffix)


def masks_of(images: Sequence[Path], mask_suffix: str = "_mask") -> dict[Path, Path]:
    """Return the masks that belong to images by their names, as :func:`list_pairs` has it.

    A mask lies beside its image, or below ``masks/`` as the image lies below ``images/``. Images
    without a mask are left out.

    Raises:
        ValueError: If an image has several masks.
    """
    found = {}
    for place in dict.fromkeys(image.parent for image in images):
        apart = _masks_apart(place)
        files = _listed(apart or place)
        if apart is None:
            files = [file for file in files if is_mask(file, mask_suffix)]
        named = _by_name(apart or place, files, mask_suffix)
        for image in images:
            name = unicodedata.normalize("NFC", image.stem)
            if image.parent == place and name in named and named[name] != image:
                found[image] = named[name]
    return found


def _masks_apart(place: Path) -> Path | None:
    """Return the folder of masks that belongs to a folder of images, where they lie apart."""
    for depth, part in reversed(list(enumerate(place.parts))):
        masks = Path(*place.parts[:depth], "masks", *place.parts[depth + 1 :])
        if part == "images" and masks.is_dir():
            return masks
    return None


def case_of(name: str, case_pattern: str) -> str | None:
    """Return the case (patient) that a file name carries: the pattern's first group, or None."""
    found = re.search(case_pattern, name) if case_pattern else None
    return found.group(1) if found else None


def _is_apart(folder: Path) -> bool:
    """Tell whether images and masks have a folder each."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _folders_below(root: Path) -> Iterator[tuple[Path, bool]]:
    """Yield a folder and all below it, hidden ones apart, and whether it is one of masks."""
    seen: set[str] = set()
    for place, folders, _ in os.walk(root, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(place)
        parts = folder.relative_to(root).parts
        above = [root.joinpath(*parts[:at]) for at, part in enumerate(parts) if part == "masks"]
        yield folder, any(map(_is_apart, above))


def some_of(names: Sequence[str]) -> str:
    """Return the first few of many names, and how many more there are, for a sentence."""
    more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _listed(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.iterdir(), key=attrgetter("name"))  # of 200,000 in a second
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    for path in files:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{str(folder)!r} holds a file whose name is no UTF-8 ({path.name!a}); rename it"
            ) from None
    return files


def _by_name(folder: Path, files: Sequence[Path], mask_suffix: str = "") -> dict[str, Path]:
    """Return files by the name of their pair: NFC, whichever form the file system gives."""
    named: dict[str, Path] = {}
    for path in files:
        name = unicodedata.normalize("NFC", path.stem).removesuffix(mask_suffix)
        if name in named:
            raise ValueError(
                f"{folder}: {path.name} and {named[name].name} have one name; rename or remove one"
            )
        named[name] = path
    return named


def _census(folder: Path) -> str:
    """Say what a folder holds, for an error message."""
    suffixes = [
        "folder" if path.is_dir() else path.suffix.lower() or "file" for path in folder.iterdir()
    ]
    counts: Mapping[str, int] = Counter(suffixes)
    return ", ".join(f"{counts[suffix]} x {suffix}" for suffix in sorted(counts)) or "nothing"


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
