"""Damaged files are read or refused in one sentence: the short form of benchmarks/fuzz_files.py."""

import importlib.util
import random
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "fuzz_files.py"
pytest.importorskip("resource", reason="the benchmark measures by Unix means")


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_files", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damaged_files_are_read_or_refused_in_one_sentence_with_their_path(fuzz, tmp_path):
    files = fuzz.originals()
    counts, faults = Counter(), []
    for number in range(400):
        chance = random.Random(number)
        suffix, content = chance.choice(files)
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(fuzz.damaged(suffix, content, chance))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on a file that it then reads or refuses
            for reading in fuzz.READINGS:
                kind, details = fuzz.outcome(reading, path)
                counts[kind] += 1
                faults += [(number, reading, details)] if kind == "other" else []
    assert faults == []
    # Neither so mild that every file can be read, nor so hard that none can.
    assert counts["read"] > 200
    assert counts["refused"] > 200


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ValueError("{path} is damaged; restore it"), ("refused", "{path} is damaged; restore it")),
        (ValueError("damaged"), ("other", "ValueError: damaged")),
        (ValueError("{path}\nis damaged"), ("other", "ValueError: {path}\nis damaged")),
        (IndexError("{path}"), ("other", "IndexError: {path}")),
    ],
)
def test_only_a_sentence_with_the_path_counts_as_a_refusal(
    fuzz, tmp_path, monkeypatch, error, found
):
    path = tmp_path / "a.png"

    def fail(path: Path, channels: int) -> None:
        raise type(error)(str(error).format(path=path))

    monkeypatch.setattr(fuzz, "read_image", fail)
    kind, text = found
    assert fuzz.outcome("image", path) == (kind, text.format(path=path))


def test_parts_of_a_png_that_are_put_together_again_are_the_file(fuzz):
    contents = [content for suffix, content in fuzz.originals() if suffix == "png"]
    assert len(contents) > 10
    for content in contents:
        assert fuzz.png_of(fuzz.png_chunks(content)) == content
        assert content.endswith(b"IEND\xaeB`\x82")


def test_a_seed_damages_every_file_and_each_time_in_the_same_way(fuzz):
    for suffix, content in fuzz.originals():
        one, two = (fuzz.damaged(suffix, content, random.Random(3)) for _ in range(2))
        assert one == two
        assert one != content
