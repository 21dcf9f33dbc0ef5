"""Damaged volumes are read or refused in one sentence: the short form of a benchmark."""

import importlib.util
import random
import shutil
import warnings
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "benchmarks" / "fuzz_volumes.py"
pytest.importorskip("resource", reason="the benchmark measures by Unix means")


@pytest.mark.slow
def test_damaged_volumes_are_read_or_refused_in_one_sentence_with_their_path(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("fuzz_volumes", SOURCE)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    whole = tmp_path / "whole"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of tags that do not conform
        fuzz.originals(whole)
        judge = fuzz.judge_in(whole)
        counts, faults = Counter(), []
        # Decoders are not made to survive everything: the benchmark runs them in other processes.
        kinds = [kind for kind in fuzz.KINDS if kind != "compressed"]
        for number in range(150):
            chance = random.Random(number)
            folder = tmp_path / str(number)
            folder.mkdir()
            kind = chance.choice(kinds)
            outcome, details = judge(kind, fuzz.damage(kind, whole, folder, chance))
            counts[outcome] += 1
            faults += [(number, kind, details)] if outcome == "other" else []
            shutil.rmtree(folder)
    assert faults == []
    # Neither so mild that every file can be read, nor so hard that none can.
    assert counts["read"] > 40
    assert counts["refused"] > 40
