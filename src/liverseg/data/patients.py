"""Whose images a split holds, and which another one holds too: said at the start of a run."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

Cases = Sequence[str | None]  # the case (patient) of each pair, None where its name carries none


def count_pairs(splits: Mapping[str, Cases]) -> str:
    """Say how many pairs and patients each split holds.

    >>> count_pairs({"train": ["Ann", "Ann", "Bob"], "val": ["Cem", None], "test": [None]})
    'train 3 pairs of 2 patients, val 2 pairs (1 of 1 patient), test 1 pair'

    Args:
        splits: The cases by the split's name.
    """
    return ", ".join(f"{split} {_count(cases)}" for split, cases in splits.items())


def shared_patients(splits: Mapping[str, Cases]) -> Iterator[str]:
    """Yield one sentence for any two splits that hold images of one patient.

    >>> list(shared_patients({"train": ["Ann", "Bob"], "val": [None, "Cem"], "test": ["Bob"]}))
    ['1 patient is in train and in test (Bob): scores of test will flatter the network']

    Args:
        splits: The cases by the split's name, train first.
    """
    for (first, some), (second, others) in combinations(splits.items(), 2):
        if shared := sorted(({*some} & {*others}) - {None}, key=str):
            yield (
                f"{_number(len(shared), 'patient')} {'is' if len(shared) == 1 else 'are'} in "
                f"{first} and in {second} ({', '.join(map(str, shared[:3]))}"
                f"{' ...' if len(shared) > 3 else ''}): scores of {second} will flatter the network"
            )


def shared_images(splits: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield one sentence for any two splits that hold the same image.

    >>> list(shared_images({"train": {"12ab": "a.png", "34cd": "b.png"}, "val": {"34cd": "c.png"}}))
    ['1 image is in train and in val (b.png is c.png): scores of val will flatter the network']

    Args:
        splits: A file name by what is equal for equal images, such as a hash; train first.
    """
    for (first, some), (second, others) in combinations(splits.items(), 2):
        if shared := [f"{some[one]} is {others[one]}" for one in some if one in others]:
            yield (
                f"{_number(len(shared), 'image')} {'is' if len(shared) == 1 else 'are'} in "
                f"{first} and in {second} ({', '.join(shared[:3])}"
                f"{' ...' if len(shared) > 3 else ''}): scores of {second} will flatter the network"
            )


def _count(cases: Cases) -> str:
    """Return such as 6 pairs of 3 patients."""
    pairs, named = _number(len(cases), "pair"), [case for case in cases if case is not None]
    if not named:
        return pairs
    patients = f"of {_number(len(set(named)), 'patient')}"
    if len(named) == len(cases):
        return f"{pairs} {patients}"
    return f"{pairs} ({len(named)} {patients})"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
