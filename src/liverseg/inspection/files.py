"""Files that are missing, alone, unreadable or of another kind than the rest."""

from collections import Counter
from collections.abc import Iterator, Sequence

from liverseg.data import FORMATS, TABLE, is_coloured, renamed_split
from liverseg.inspection.findings import File, Finding, number
from liverseg.inspection.measures import Measured
from liverseg.inspection.reading import SplitSurvey, Survey

_MOST_LOOKED_AT = 24  # images whose colours are looked at where grey is read
_MOST_REMEDIES = 3  # of one kind of fault
_REMEDIES = {  # of kinds for which reading has none that fits
    "undeclared values": "correct the masks, or declare the values: data.num_classes, "
    "data.mask_values or data.ignore_index, or data.mask_threshold=1 where all above 0 are one "
    "structure",
    "soft edges": "save masks without smoothing or loss, or set data.mask_threshold=128",
    "size": "save image and mask at the same size",
}
_WORDS = {
    "unreadable image": ("image cannot be read", "images cannot be read"),
    "unreadable mask": ("mask cannot be read", "masks cannot be read"),
    "undeclared values": ("mask holds undeclared values", "masks hold undeclared values"),
    "soft edges": ("mask has soft edges", "masks have soft edges"),
    "lossy mask": ("mask was compressed with loss", "masks were compressed with loss"),
    "size": ("mask differs from its image in size", "masks differ from their images in size"),
}


def look_at_files(survey: Survey) -> Iterator[Finding]:
    """Yield what is wrong with files, whatever they show."""
    for name in survey.absent:
        yield _absent(survey, name)
    for split in survey.splits.values():
        yield from _partners(survey, split)
    yield from _faults(survey)
    yield from _formats(survey)
    yield from _blank(survey)
    yield from _lost_colours(survey)
    if survey.unread:
        yield Finding(
            "note",
            "folders that are not read",
            f"{number(len(survey.unread), 'folder')} {'is' if len(survey.unread) == 1 else 'are'} "
            "not read",
            len(survey.unread),
            "nothing, if that is meant; splits are named train, val and test, and pairs in folders "
            f"below them need a {TABLE}",
            [File(f"{name}/") for name in survey.unread],
        )


def _absent(survey: Survey, name: str) -> Finding:
    what, remedy = f"there is no {name}/", "put pairs there, or divide train/ into folds: fold=0"
    if survey.is_by_table:
        what, remedy = f"{TABLE} names no image for {name}", f"write {name} into its column split"
    elif renamed := renamed_split(survey.root, name):
        remedy = renamed
    elif name == "train":
        remedy = f"put pairs there, or divide all anew: python split.py data.root={survey.root}"
    place = TABLE if survey.is_by_table else f"{name}/"
    return Finding("error", "missing split", what, 1, remedy, [File(place)])


def _partners(survey: Survey, split: SplitSurvey) -> Iterator[Finding]:
    what, _, remedy = split.refused.partition("; ")
    if split.is_empty:
        below = (survey.root / split.name).glob("[!.]*")
        folders = {one.name for one in below if one.is_dir()}
        yield Finding(
            "error",
            "empty split",
            f"{split.name}/ holds no pair",
            1,
            remedy
            if folders and not folders >= {"images", "masks"}
            else "put pairs there, or remove the folder",
            [File(f"{split.name}/")],
        )
        return
    if split.alone:
        yield Finding(
            "error",
            "no partner",
            f"{number(len(split.alone), 'file')} of {split.name} "
            f"{'has' if len(split.alone) == 1 else 'have'} no partner, image or mask",
            len(split.alone),
            "add the partner, or remove the file"
            if " has no partner " not in what or remedy == "add or remove it"
            else remedy,
            [File(survey.shown(path)) for path in split.alone],
        )
    if split.clashing:
        yield Finding(
            "error",
            "one name twice",
            f"{number(len(split.clashing), 'file')} of {split.name} "
            f"{'has' if len(split.clashing) == 1 else 'have'} the name of another",
            len(split.clashing),
            "rename or remove one of the two",
            [File(survey.shown(path)) for path in split.clashing],
        )
    same = [one for one in survey.splits.values() if one.refused == split.refused]
    is_told = same[0] is not split or any(  # a table, or folds, may be refused for all at once
        one.is_empty or one.alone or one.clashing or _is_of_a_file(survey, one.refused)
        for one in same
    )
    if split.refused and not is_told:
        place = TABLE if split.is_by_table else f"{split.name}/"
        yield Finding("error", "refused", what, 1, remedy or "do so", [File(place)])
    if split.others:
        yield Finding(
            "note",
            "files that are not read",
            f"{number(len(split.others), 'file')} of {split.name} "
            f"{'is' if len(split.others) == 1 else 'are'} no image by the end of "
            f"{'its name' if len(split.others) == 1 else 'their names'}, and not read",
            len(split.others),
            f"nothing, if that is meant; images are {FORMATS}",
            [File(survey.shown(path)) for path in split.others],
        )


def _is_of_a_file(survey: Survey, sentence: str) -> bool:
    """Tell whether a sentence is about a file whose fault is told anyway."""
    return any(
        sentence.startswith((str(one.pair.image), str(one.pair.mask)))
        for split in survey.splits.values()
        for one in split.measured
        if not one.is_whole
    )


def _faults(survey: Survey) -> Iterator[Finding]:
    for kind, words in _WORDS.items():
        found = [
            (one, one.fault[1])
            for split in survey.splits.values()
            for one in split.measured
            if one.fault is not None and one.fault[0] == kind
        ]
        if found:
            files = [
                File(survey.shown(path), _without(str(path), sentence))
                for one, sentence in found
                for path in [one.pair.image if kind == "unreadable image" else one.pair.mask]
            ]
            remedy = _REMEDIES.get(kind) or _remedies([sentence for _, sentence in found])
            counted = f"{len(found):,} {words[len(found) > 1]}"
            yield Finding("error", kind, counted, len(found), remedy, files)


def _remedies(sentences: Sequence[str]) -> str:
    """Return what is to be done as reading says, which depends on the file; the commonest first."""
    told = Counter(one.partition("; ")[2] for one in sentences if "; " in one)
    most = [one for one, _ in told.most_common(_MOST_REMEDIES)]
    return "; ".join(most) or "restore them, or remove them and their partners"


def _without(path: str, sentence: str) -> str:
    """Return what a sentence says of a file, without its path and the remedy."""
    return sentence.removeprefix(f"{path} ").partition(";")[0]


def _formats(survey: Survey) -> Iterator[Finding]:
    """Tell of files that are of another kind than most."""
    whole = survey.whole
    for kind, values in (
        ("format", [one.format for one in whole]),
        ("image size", [f"{one.size[0]} x {one.size[1]}" for one in whole]),
    ):
        counts = Counter(values)
        if len(counts) < 2:
            continue
        ((usual, most),) = counts.most_common(1)
        rare = [(one, value) for one, value in zip(whole, values, strict=True) if value != usual]
        yield Finding(
            "note",
            f"another {kind}",
            f"{number(len(rare), 'image')} of {len(whole):,} {'is' if len(rare) == 1 else 'are'} "
            f"not {usual}, as {most:,} are",
            len(rare),
            "nothing, if that is meant; data.image_size makes sizes equal"
            if kind == "image size"
            else "nothing, if that is meant",
            [File(survey.shown(one.pair.image), value) for one, value in rare],
        )


def _blank(survey: Survey) -> Iterator[Finding]:
    blank = [one for one in survey.whole if one.deviation == 0 and one.size != (1, 1)]
    if blank:
        yield Finding(
            "warning",
            "blank image",
            f"{number(len(blank), 'image')} {'has' if len(blank) == 1 else 'have'} one value in "
            "all pixels",
            len(blank),
            "remove them and their masks, or restore them",
            [File(survey.shown(one.pair.image)) for one in blank],
        )


def _lost_colours(survey: Survey) -> Iterator[Finding]:
    if survey.recipe.channels != 1:
        return
    coloured = [one for one in survey.whole if one.format.endswith((" RGB", " RGBA", " CMYK"))]
    white = survey.recipe.white_value
    some = _spread(coloured, _MOST_LOOKED_AT)
    lost = [one for one in some if is_coloured(one.pair.image, white)]
    if lost:
        yield Finding(
            "warning",
            "colours are lost",
            "images are in colour and are read in grey",
            len(lost),
            "set data.channels=3, unless grey is meant",
            [File(survey.shown(one.pair.image)) for one in lost],
        )


def _spread(items: Sequence[Measured], most: int) -> Sequence[Measured]:
    """Return some of many, evenly spread."""
    step = -(-len(items) // most) or 1
    return items[::step]
