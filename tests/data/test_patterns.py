"""Patterns of names: those in use are taken, those that some name keeps busy are refused."""

import re
import time

import pytest

from liverseg.data.patterns import is_slow, one_group

USED = [
    "",
    r"^(.+)_slice\d+$",
    r"^(patient\d+)_",
    r"^([A-Za-z]+(?:-[A-Za-z]+)*)_\d+$",
    r"^((?:[a-z]+\.)*[a-z]+)_\d+$",
    r"^(\w+)_(?:\w+)-(?:\w+)_\d+$",
    r"^([A-Z]{2}\d{4})",
    r"(?:liver|spleen)_(\d+)",
    r"^(.+?)(?:_[a-z]+)?_\d+$",
    r"(?i)^(case[ _-]?\d+)",
    r"^(?!test)(.+)_\d+$",
]
SLOW = [
    r"^(a+)+$",
    r"^((?:a+)+)$",
    r"^(?:a|a)*(b)$",
    r"^(?:a|ab)*(b)$",
    r"^(?:a?){30}a{30}(b)$",
    r"^(?:.*a){20}(b)$",
    r"(?:\w+_)+(x)",
    r"^(?=(a+)+b)",
    r"(.*).*.*.*.*.*$",
    r"(x)(?:(?:){65535}){65535}",
    "(" + "a" * 600 + ")",
]


@pytest.mark.parametrize("pattern", USED)
def test_a_pattern_in_use_is_taken_and_quick_on_the_longest_names(pattern: str) -> None:
    assert one_group(pattern) == pattern
    for name in ("a" * 255, "a_" * 127, "a-" * 127 + "!", "case" + "1" * 250 + "!"):
        start = time.perf_counter()
        re.search(pattern, name)
        assert time.perf_counter() - start < 20  # one that backtracks takes years


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_some_name_keeps_busy_is_refused(pattern: str) -> None:
    assert is_slow(pattern)


@pytest.mark.parametrize("pattern", ["(", "()()", "a", "(" * 400 + ")" * 400, "(a{99999999999})"])
def test_what_has_not_one_group_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"must be a regular expression with exactly one group$"):
        one_group(pattern)
