"""What is in two splits, or twice in one: patients, images, neighbours."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, islice, product

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from liverseg.data import read_image
from liverseg.inspection.findings import FIRST_FILES, File, Finding, number
from liverseg.inspection.measures import LOOK, Measured, grey_of, hash_of_image
from liverseg.inspection.reading import Survey
from liverseg.labels import IGNORED

_NEIGHBOURS = 24  # that each image is compared with, for each order of the bits of its hash
_ROTATIONS = (0, 16, 32, 48)
_MOST_BITS = 8  # of 64 that differ between images that may be the same
_LEAST_LOOK = 0.97  # correlation of two small pictures that are looked at closely
_MOST_CLOSE = 500  # couples that are looked at closely
_CLOSE = 96  # pixels of a side of the picture that is
_LEAST_WHOLE, _LEAST_DETAIL = 0.985, 0.95  # correlation there, and of what is finer than a blur
_BLUR = 2.0  # pixels
_NEAR_SHARE = 0.6  # how near neighbours in number are, compared with any two images
_LEAST_COUPLES = 5
_SEED = 0
Bits = npt.NDArray[np.uint64]
Couple = tuple[Measured, Measured]


def look_for_leaks(survey: Survey) -> Iterator[Finding]:
    """Yield what the images of two splits, or two images of one, have in common."""
    yield from _patients(survey)
    same = list(_equal(survey))
    yield from _duplicates(survey, same)
    yield from _turned(survey)
    yield from _two_masks(survey, same)
    near, cut = _nearly_equal(survey)
    yield from _one_mask_for_several(survey, near)
    yield from _near(survey, near, cut)
    yield from _consecutive(survey)


def _patients(survey: Survey) -> Iterator[Finding]:
    cases: dict[str, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for name, split in survey.splits.items():
        for one in split.measured:
            if one.case is not None:
                cases[one.case][name].append(one)
    images = sum(len(split.measured) for split in survey.splits.values())
    if not cases and images and len(survey.splits) > 1:
        yield Finding(
            "note",
            "patients not known",
            "no name carries a patient, so one in two splits would not be seen",
            images,
            "if images are of patients, say whose: in cases.csv, or by data.case_pattern",
        )
    for couple in combinations(survey.splits, 2):
        shared = sorted(case for case, splits in cases.items() if {*couple} <= splits.keys())
        if not shared:
            continue
        files = []
        for case in shared:  # what has strayed is where the patient has fewer images
            counts = {split: len(cases[case][split]) for split in couple}
            rare = min(couple, key=lambda split: counts[split])
            said = ", ".join(f"{count} in {split}" for split, count in counts.items())
            files += [
                File(survey.shown(one.pair.image), f"patient {case}: {said}")
                for one in cases[case][rare][:FIRST_FILES]
            ]
        verb = "is" if len(shared) == 1 else "are"
        yield Finding(
            "error",
            "patient in two splits",
            f"{number(len(shared), 'patient')} {verb} in {couple[0]} and in {couple[1]} "
            f"({', '.join(shared[:3])}{' ...' if len(shared) > 3 else ''})",
            len(shared),
            f"move all images of a patient into one split: scores of {couple[1]} flatter the "
            "network",
            files,
        )


def _equal(survey: Survey) -> Iterator[list[Measured]]:
    """Yield the pairs whose images are equal, pixel for pixel; blank ones aside."""
    groups: dict[bytes, list[Measured]] = defaultdict(list)
    for one in survey.whole:
        if one.deviation > 0:
            groups[one.image_hash].append(one)
    yield from (group for group in groups.values() if len(group) > 1)


def _duplicates(survey: Survey, same: Sequence[Sequence[Measured]]) -> Iterator[Finding]:
    across = [group for group in same if len({one.split for one in group}) > 1]
    within = [group for group in same if len({one.split for one in group}) == 1]
    for groups, where in ((across, "in two splits"), (within, "twice in one split")):
        if groups:
            yield Finding(
                "error" if groups is across else "warning",
                f"same image {where}",
                f"{number(len(groups), 'image')} {'is' if len(groups) == 1 else 'are'} {where}, "
                "equal pixel for pixel",
                len(groups),
                "remove all but one of each"
                + (": scores of that split flatter the network" if groups is across else ""),
                [_couple(survey, group[0], group[-1]) for group in groups],
            )


def _turned(survey: Survey) -> Iterator[Finding]:
    """Tell of images that are in two splits, value for value, but flipped or turned."""
    groups: dict[bytes, list[Measured]] = defaultdict(list)
    for one in survey.whole:
        if one.deviation > 0:
            groups[one.values_hash].append(one)
    found = []
    for group in groups.values():
        if len({one.split for one in group}) < 2 or len({one.image_hash for one in group}) < 2:
            continue  # the same values often are the same image, which is told as such
        ways: dict[bytes, list[Measured]] = defaultdict(list)
        for one in group:
            ways[_hash_of_any_way(survey, one)].append(one)
        for its in ways.values():
            couples = (
                (one, other)
                for one, other in combinations(its, 2)
                if one.split != other.split and one.image_hash != other.image_hash
            )
            found += [*islice(couples, 1)]
    if found:
        yield Finding(
            "error",
            "same image in two splits, flipped or turned",
            f"{number(len(found), 'image')} {'is' if len(found) == 1 else 'are'} in two splits, "
            "flipped or turned by quarters",
            len(found),
            "remove all but one of each: scores of that split flatter the network",
            [_couple(survey, *couple) for couple in found],
        )


def _hash_of_any_way(survey: Survey, one: Measured) -> bytes:
    """Return a hash that an image shares with its flips and quarter turns, and with them alone."""
    try:
        numbers = read_image(
            one.pair.image, survey.recipe.channels, survey.recipe.white_value
        ).numpy()
    except (OSError, ValueError):  # has gone since
        return one.image_hash
    turned = [np.rot90(numbers, turns, (1, 2)) for turns in range(4)]
    return min(hash_of_image(way) for each in turned for way in (each, each[:, :, ::-1]))


def _two_masks(survey: Survey, same: Sequence[Sequence[Measured]]) -> Iterator[Finding]:
    groups = [group for group in same if len({one.mask_hash for one in group}) > 1]
    if groups:
        yield Finding(
            "error",
            "same image, two masks",
            f"{number(len(groups), 'image')} {'has' if len(groups) == 1 else 'have'} two masks "
            "that differ",
            len(groups),
            "keep the right one of the two",
            [
                _couple(
                    survey,
                    group[0],
                    next(one for one in group if one.mask_hash != group[0].mask_hash),
                )
                for group in groups
            ],
        )


def _one_mask_for_several(survey: Survey, near: Sequence[Couple]) -> Iterator[Finding]:
    groups: dict[tuple[bytes, tuple[int, int]], list[Measured]] = defaultdict(list)
    for one in survey.whole:
        if len((one.counts or {}).keys() - {IGNORED}) > 1:  # empty masks are equal
            groups[one.mask_hash, one.size].append(one)
    told = {frozenset(one.image_hash for one in couple) for couple in near}
    found = []
    for first, *others in groups.values():
        told.add(frozenset([first.image_hash]))  # one image may be there twice
        couples = (
            (first, one)
            for one in others
            if frozenset([first.image_hash, one.image_hash]) not in told
        )
        found += [*islice(couples, 1)]
    if found:
        yield Finding(
            "warning",
            "same mask, several images",
            f"{number(len(found), 'mask')} {'belongs' if len(found) == 1 else 'belong'} to more "
            "than one image",
            len(found),
            "look at them; it may be the mask of one of them alone",
            [_couple(survey, *couple) for couple in found],
        )


def _nearly_equal(survey: Survey) -> tuple[list[Couple], str]:
    """Return images that are nearly equal, and among how many if not all were looked at."""
    whole = [one for one in survey.whole if one.look is not None and one.deviation > 0]
    couples = _alike(whole)
    kept = [(whole[first], whole[second]) for first, second in couples[:_MOST_CLOSE]]
    cut = f" among the {len(kept):,} most alike" if len(couples) > len(kept) else ""
    return [couple for couple in kept if _is_same_picture(survey, *couple)], cut


def _near(survey: Survey, near: Sequence[Couple], cut: str) -> Iterator[Finding]:
    """Tell of images that are nearly equal: saved anew, resized, brightened, or the next frame."""
    across = [(one, other) for one, other in near if one.split != other.split]
    within = [(one, other) for one, other in near if one.split == other.split]
    for found, where in ((across, "in two splits"), (within, "in one split")):
        if found:
            yield Finding(
                "error" if found is across else "note",
                f"nearly the same image {where}",
                f"{number(len(found), 'couple')} of images {where} "
                f"{'is' if len(found) == 1 else 'are'} nearly equal, as one that was saved anew, "
                f"or the next frame{cut}",
                len(found),
                "put both into one split, or remove one"
                if found is across
                else "nothing, if that is meant; the image counts twice",
                [_couple(survey, *couple) for couple in found],
            )


def _alike(whole: Sequence[Measured]) -> list[tuple[int, int]]:
    """Return couples whose small pictures resemble each other, those that do so most first.

    The images are sorted by a hash of 64 bits, four times from another bit on, and each is compared
    with its neighbours in that order alone, so that the time grows with their number, not with
    its square.
    """
    if len(whole) < 2:
        return []
    looks = np.stack([one.look[: LOOK * LOOK] for one in whole if one.look is not None])
    vectors = _standardised(looks.astype(np.float32))
    hashes = _hashes(looks)
    bits = np.stack([(hashes >> np.uint64(8 * place)) & np.uint64(255) for place in range(8)], 1)
    ones = np.array([value.bit_count() for value in range(256)], np.uint8)
    found: dict[tuple[int, int], float] = {}
    for rotation in _ROTATIONS:
        left, right = np.uint64(rotation), np.uint64((64 - rotation) % 64)
        turned = (hashes << left) | (hashes >> right) if rotation else hashes
        order = np.argsort(turned, kind="stable")
        for lag in range(1, min(_NEIGHBOURS, len(whole) - 1) + 1):
            firsts, seconds = order[:-lag], order[lag:]
            differing = ones[bits[firsts] ^ bits[seconds]].sum(axis=1)
            for place in np.flatnonzero(differing <= _MOST_BITS):
                couple = tuple(sorted((int(firsts[place]), int(seconds[place]))))
                one, other = whole[couple[0]], whole[couple[1]]
                is_neighbour = (
                    one.split == other.split and one.case is not None and one.case == other.case
                )
                if is_neighbour or one.image_hash == other.image_hash:
                    continue
                likeness = float(vectors[couple[0]] @ vectors[couple[1]])
                if likeness >= _LEAST_LOOK:
                    found[couple[0], couple[1]] = likeness
    return sorted(found, key=lambda couple: (-found[couple], couple))


def _hashes(looks: npt.NDArray[np.uint8]) -> Bits:
    """Return 64 bits of each small picture: which of two places side by side is brighter."""
    small = looks.reshape(-1, 8, LOOK // 8, 8, LOOK // 8).astype(np.float32).mean(axis=(2, 4))
    wide = np.concatenate([small, small[:, :, :1]], axis=2)
    brighter = (wide[:, :, 1:] > wide[:, :, :-1]).reshape(len(looks), 64)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    hashes: Bits = (brighter * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def _standardised(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows whose product is their correlation."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    standardised: npt.NDArray[np.float32] = rows / np.maximum(lengths, 1e-6)
    return standardised


def _is_same_picture(survey: Survey, one: Measured, other: Measured) -> bool:
    """Look at two images more closely: their whole, and what is finer than a blur.

    Of two sizes the larger one is resized first, as a copy may have been: smoothly, or by leaving
    out pixels.
    """
    try:
        pictures = [
            Image.fromarray(
                grey_of(
                    read_image(each.pair.image, survey.recipe.channels, survey.recipe.white_value)
                ).astype(np.uint8)
            )
            for each in (one, other)
        ]
    except (OSError, ValueError):  # has gone since
        return False
    size = min((picture.size for picture in pictures), key=math.prod)
    smooth, coarse = Image.Resampling.BOX, Image.Resampling.NEAREST
    return any(
        _are_alike([picture.resize(size, resampling) for picture in pictures])
        for resampling in ((smooth,) if one.size == other.size else (smooth, coarse))
    )


def _are_alike(pictures: Sequence[Image.Image]) -> bool:
    """Tell whether two pictures of one size are alike at _CLOSE x _CLOSE."""
    numbers = [
        np.asarray(picture.resize((_CLOSE, _CLOSE), Image.Resampling.BOX), np.float32)
        for picture in pictures
    ]
    details = [each - ndimage.gaussian_filter(each, _BLUR) for each in numbers]
    whole, detail = (
        float(np.prod(_standardised(np.stack([each.ravel() for each in two])), axis=0).sum())
        for two in (numbers, details)
    )
    return whole >= _LEAST_WHOLE and detail >= _LEAST_DETAIL


def _consecutive(survey: Survey) -> Iterator[Finding]:
    """Tell of slices whose neighbours, by number, are in another split, if they resemble them.

    Names that count at random, as those of photographs do, are no slices.
    """
    places = _numbered(survey.whole)
    couples: dict[tuple[str, str], list[Couple]] = defaultdict(list)
    for (rest, place), here in places.items():
        for one, other in product(here, places.get((rest, place + 1), ())):
            if one.split == other.split or (one.case is not None and other.case is not None):
                continue  # a patient in two splits is told of as such
            names = [name for name in survey.splits if name in (one.split, other.split)]
            couples[names[0], names[1]].append((one, other))
    for (first, second), found_couples in couples.items():
        if len(found_couples) < _LEAST_COUPLES or not _resemble(survey, found_couples):
            continue
        yield Finding(
            "warning",
            "consecutive slices in two splits",
            f"{number(len(found_couples), 'slice')} of {first} and {second} "
            f"{'is' if len(found_couples) == 1 else 'are'} next to one another and resemble each "
            "other",
            len(found_couples),
            "divide by patient or by recording, not by slice: scores flatter the network",
            [_couple(survey, *couple) for couple in found_couples],
        )


def _numbered(whole: Sequence[Measured]) -> dict[tuple[tuple[str, ...], int], list[Measured]]:
    """Return images by the rest of their name and its number: the last one that varies."""
    patterns: dict[str, list[Measured]] = defaultdict(list)
    for one in whole:
        patterns[re.sub(r"\d+", "0", one.pair.name)].append(one)
    places: dict[tuple[tuple[str, ...], int], list[Measured]] = defaultdict(list)
    for pattern, members in patterns.items():
        numbers = [re.findall(r"\d+", one.pair.name) for one in members]
        varying = [
            place for place, values in enumerate(zip(*numbers, strict=True)) if len({*values}) > 1
        ]
        for one, its in zip(members, numbers, strict=True):
            if varying:
                place = int(its.pop(varying[-1]))
                places[(pattern, *its), place].append(one)
    return places


def _resemble(survey: Survey, couples: Sequence[Couple]) -> bool:
    """Tell whether couples are nearer to one another than images of two splits mostly are."""
    splits = {one.split for couple in couples for one in couple}
    first, second = (
        [one for one in survey.splits[name].whole if one.look is not None]
        for name in sorted(splits)
    )
    generator = np.random.default_rng(_SEED)
    count = min(500, len(first) * len(second))
    others = [
        (first[int(one)], second[int(other)])
        for one, other in zip(
            generator.integers(len(first), size=count),
            generator.integers(len(second), size=count),
            strict=True,
        )
    ]
    near, far = (
        float(np.median([_difference(*couple) for couple in two])) for two in (couples, others)
    )
    return near < _NEAR_SHARE * far


def _difference(one: Measured, other: Measured) -> float:
    """Return the mean difference of two small pictures."""
    assert one.look is not None
    assert other.look is not None
    size = LOOK * LOOK
    return float(np.abs(one.look[:size].astype(int) - other.look[:size].astype(int)).mean())


def _couple(survey: Survey, one: Measured, other: Measured) -> File:
    return File(survey.shown(one.pair.image), other=survey.shown(other.pair.image))
