"""Damaged checkpoints are read or refused: the short form of benchmarks/fuzz_checkpoints.py."""

import importlib.util
import random
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).parents[1] / "benchmarks" / "fuzz_checkpoints.py"
pytest.importorskip("resource", reason="the benchmark measures by Unix means")


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_checkpoints", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_damaged_checkpoints_are_read_right_or_refused_in_one_sentence(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, counts, faults = tmp_path / "a.ckpt", Counter(), []
    files = fuzz.originals()
    for content in files:
        path.write_bytes(content)
        assert fuzz.outcome("bytes", path)[0] == "read"
    for number in range(80):
        chance = random.Random(number)
        way = list(fuzz.WAYS)[number % len(fuzz.WAYS)]
        path.write_bytes(fuzz.WAYS[way](chance.choice(files), chance))
        kind, details = fuzz.outcome(way, path)
        counts[kind] += 1
        faults += [(number, way, details)] if kind == "other" else []
    assert faults == []
    assert counts["read"] > 12
    assert counts["refused"] > 30
    assert list(tmp_path.iterdir()) == [path]


def test_a_seed_damages_every_checkpoint_and_each_time_in_the_same_way(fuzz: ModuleType) -> None:
    content = fuzz.originals()[0]
    for way, damage in fuzz.WAYS.items():
        one, two = (damage(content, random.Random(3)) for _ in range(2))
        assert one == two, way
        assert one != content


def test_what_this_package_did_not_say_is_a_fault(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise ValueError("from elsewhere")

    monkeypatch.setattr(fuzz, "load_checkpoint", fail)
    assert fuzz.outcome("bytes", tmp_path) == ("other", "ValueError: from elsewhere")
