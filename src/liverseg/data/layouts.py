"""What helps where files lie or are called otherwise than pairs do: advice for error messages.

Advice that may be wrong is worse than none: each function returns "" where it is not sure.
"""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

_MOST_KINDS = 12  # of folders side by side; where there are more, each is a patient's
_OF_IMAGES = re.compile("im(g|age)", re.IGNORECASE)
_OF_MASKS = re.compile("mask|label|seg|truth|annot|gt|manual", re.IGNORECASE)
_OUTLINES = (".xml", ".json", ".txt")
_SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
_Ends = tuple[str, str]


def split_meant(folder: str) -> str:
    """Return the split that a word in a folder's name means, or "".

    >>> split_meant("ISIC2018_Task1-2_Training_Input"), split_meant("valid"), split_meant("testis")
    ('train', 'val', '')
    """
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", folder)
    return next((_SPLITS[word.lower()] for word in words if word.lower() in _SPLITS), "")


def renamed_split(root: Path, split: str) -> str:
    """Say which folder is to be renamed to a split that is missing; "" where none means it."""
    for places in (("",), ("images/", "masks/")):
        first = root / places[0]
        for name in sorted(one.name for one in first.iterdir()) if first.is_dir() else ():
            are_there = all((root / place / name).is_dir() for place in places)
            if are_there and _SPLITS.get(name.lower()) == split:
                told = [f"{place}{name}/ to {place}{split}/" for place in places]
                return f"rename {' and '.join(told)}"
    return ""


def likely_images(folders: Sequence[Path]) -> list[Path]:
    """Return folders, those first that hold images by their names, and those of masks last."""
    return sorted(folders, key=lambda one: (not _OF_IMAGES.search(one.name), is_of_masks(one.name)))


def is_of_masks(folder: str) -> bool:
    """Tell whether a folder holds masks by its name."""
    return bool(_OF_MASKS.search(folder)) and not _OF_IMAGES.search(folder)


def other_suffix(names: Sequence[str]) -> str:
    """Return the end by which every second name differs from another one, or ""."""
    ends = Counter(
        name[len(other) :] for other, name in pairwise(sorted(names)) if name.startswith(other)
    )
    end, count = ends.most_common(1)[0] if ends else ("", 0)
    is_rule = 2 * count == len(names) and end.isascii() and not end.isdigit()
    return end if is_rule else ""


def no_masks(root: Path, images: Sequence[Path], mask_suffix: str) -> str:
    """Say what to do with images whose outlines are in files of text, such as those of LabelMe."""
    stems = {image.stem for image in images}
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in _OUTLINES and file.stem in stems:
            return (
                f"{file.relative_to(root).as_posix()} is no image: draw what it outlines into "
                f"{file.stem}{mask_suffix}.png"
            )
    return ""


def one_more_mask(lone: Sequence[Path], images: Container[str], mask_suffix: str) -> str:
    """Say what to do with a second mask of an image, such as ``NAME_mask_1.png``."""
    for file in lone:
        name, _, rest = file.stem.partition(mask_suffix)
        if name in images and rest[:1] and not rest[0].isalpha():
            return (
                f"{file.name} is one more mask of {name}: merge them into {name}{mask_suffix}.png, "
                "a pixel being foreground in any of them"
            )
    return ""


def one_name(names: Sequence[str], others: Sequence[str], mask_suffix: str) -> str:
    """Say what gives image and mask one name, where those of images and masks differ by ends."""
    return _told_of_ends(_ends(names, others) or ("", ""), mask_suffix)


def other_folders(root: Path, files: Sequence[Path], mask_suffix: str) -> str:
    """Say what folders, or files in them, are to be called, from files without a partner."""
    stems: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        stems.setdefault(file.relative_to(root).parts[:-1], []).append(file.stem)
    return (
        _folder_per_case(stems, mask_suffix)
        or _folders_alike(root, stems, mask_suffix)
        or _folder_beside(root, stems)
    )


def _folder_per_case(stems: Mapping[tuple[str, ...], Sequence[str]], mask_suffix: str) -> str:
    """Say how files are to be called of which each folder holds the same, an image and a mask."""
    first = next(iter(stems.values()), [])
    are_masks = {is_of_masks(stem) for stem in first}
    if len(stems) < 2 or len(are_masks) < 2 or len({frozenset(one) for one in stems.values()}) > 1:
        return ""
    case = min(filter(None, stems))[-1]
    return (
        "name image and mask after their folder, such as "
        f"{case}/{case}.png and {case}/{case}{mask_suffix}.png"
    )


def _folders_alike(
    root: Path, stems: Mapping[tuple[str, ...], Sequence[str]], mask_suffix: str
) -> str:
    """Say what folders are to be called whose files have like names."""
    depth = max(map(len, stems), default=0)
    levels = [{folder[at] for folder in stems if len(folder) > at} for at in range(depth)]
    likely = sorted(
        range(depth), key=lambda at: (not any(map(is_of_masks, levels[at])), len(levels[at]))
    )
    for at in likely:
        if len(levels[at]) > _MOST_KINDS:
            continue
        places: dict[tuple[tuple[str, ...], ...], dict[str, Sequence[str]]] = {}
        for folder in sorted(stems):
            if len(folder) > at:
                place = places.setdefault((folder[:at], folder[at + 1 :]), {})
                place[folder[at]] = stems[folder]
        for (above, _), names in places.items():
            if told := _what_to_call(root.joinpath(*above), names, mask_suffix):
                told = told.replace("{}", "".join(f"{part}/" for part in above))
                is_one = len({above for above, _ in places}) == 1
                return told if is_one else f"{told}, and so on in the other folders"
    return ""


def _what_to_call(place: Path, names: Mapping[str, Sequence[str]], mask_suffix: str) -> str:
    """Say what folders beside each other are to be called; {} stands for where they lie."""
    alike = {pair: ends for pair in combinations(names, 2) if (ends := _ends_of(pair, names))}
    if ("images", "masks") in alike:
        return one_name(names["images"], names["masks"], mask_suffix)
    if not alike:
        return ""
    first = next(iter(alike))
    kin = sorted({word for pair in alike if {*pair} & {*first} for word in pair})
    missing = [kind for kind in ("images", "masks") if kind not in kin]
    is_in_split = place.name.lower() in _SPLITS
    below = "" if len(missing) < 2 or is_in_split else _split_of(first, [*names])
    wanted = [f"{kind}/{below}" for kind in missing]
    if any((place / one).exists() for one in wanted):
        return ""
    if len(wanted) == 2:
        told = f"call the folder of images {{}}{wanted[0]} and that of masks {{}}{wanted[1]}"
        told += " and move others out of data.root" if len(kin) > 2 else ""
    else:
        others = " or ".join(f"{{}}{word}/" for word in kin if word not in ("images", "masks"))
        what = "truth" if missing == ["masks"] else "images"
        which = f", whichever holds the {what}," if len(kin) > 2 else ""
        told = f"rename {others}{which} to {{}}{wanted[0]}"
    remedies = {_name_of_two(pair, alike[pair], mask_suffix) for pair in alike if {*pair} <= {*kin}}
    name = remedies.pop() if len(remedies) == 1 else "give image and mask one name"
    listed = ", ".join(f"{{}}{word}/" for word in kin[:-1])
    return f"{listed} and {{}}{kin[-1]}/ hold like names, so {told}" + (name and f", and {name}")


def _ends_of(pair: tuple[str, str], names: Mapping[str, Sequence[str]]) -> _Ends | None:
    """Return the ends by which names of two folders differ that may be of images and of masks."""
    splits = {split_meant(folder) for folder in pair} - {""}
    are_numbered = len({re.sub(r"\d+", "", folder) for folder in pair}) == 1
    if len(splits) > 1 or are_numbered or all(map(is_of_masks, pair)):
        return None
    ends = _ends(names[pair[0]], names[pair[1]])
    is_known = any(_OF_IMAGES.search(folder) or is_of_masks(folder) for folder in pair)
    return ends if is_known or ends != ("", "") else None  # files of two patients, say


def _split_of(pair: tuple[str, str], folders: Sequence[str]) -> str:
    """Return what two of several folders are of, a split or a site, as a folder of that name."""
    split = split_meant(pair[0]) or split_meant(pair[1])
    start = _common_start(pair).rstrip("_-")
    if not split and len(folders) > 2 and sum(one.startswith(start) for one in folders) == 2:
        split = start
    return f"{split}/" if split else ""


def _name_of_two(folders: tuple[str, str], ends: _Ends, mask_suffix: str) -> str:
    """Say what gives files of two folders one name."""
    if all(ends):
        return f"give image and mask one name, without {ends[0]} and {ends[1]}"
    with_end, without = folders if ends[0] else folders[::-1]
    is_of_images = is_of_masks(without) or bool(_OF_IMAGES.search(with_end))
    one, none = "".join(ends), ""
    return _told_of_ends((one, none) if is_of_images else (none, one), mask_suffix)


def _folder_beside(root: Path, stems: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    """Say what to do with a folder that lies beside images/ and masks/."""
    for folder in sorted(stems):
        for at, word in enumerate(folder):
            place = root.joinpath(*folder[:at])
            are_there = (place / "images").is_dir() and (place / "masks").is_dir()
            if are_there and word not in ("images", "masks"):
                return f"move {'/'.join(folder[: at + 1])}/ out of data.root"
    return ""


def _told_of_ends(ends: _Ends, mask_suffix: str) -> str:
    """Say what is to be done with the ends of images' and of masks' names."""
    of_images, of_masks = ends
    told = [f"take {of_images} out of the names of images"] if of_images else []
    if of_masks not in ("", mask_suffix):
        told.append(f"set data.mask_suffix={of_masks}")
    return " and ".join(told)


def _ends(names: Sequence[str], others: Sequence[str]) -> _Ends | None:
    """Return the ends by which most names of two folders differ, None where they differ otherwise.

    >>> _ends(["1_sat", "2_sat"], ["1_mask", "2_mask"])
    ('_sat', '_mask')
    """
    first, second = (_common_start([name[::-1] for name in some])[::-1] for some in (names, others))
    bare = {name.removesuffix(first) for name in names}
    bare_others = {name.removesuffix(second) for name in others}
    if len(bare & bare_others) <= max(1, len(bare) / 2, len(bare_others) / 2):
        return None
    shared = _common_start([first, second])
    is_whole = shared in (first, second)
    start = len(shared) if is_whole else max(shared.rfind("_"), shared.rfind("-"), 0)
    ends = first[start:], second[start:]
    return ("", "") if ends[0] == ends[1] else None if ends[0][:1].isdigit() else ends


def _common_start(names: Sequence[str]) -> str:
    """Return the longest start that all names have."""
    least, most = min(names, default=""), max(names, default="")
    differing = (at for at, (a, b) in enumerate(zip(least, most, strict=False)) if a != b)
    return least[: next(differing, len(least))]
