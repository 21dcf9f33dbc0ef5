"""Random settings end in a result or in a sentence: a few of benchmarks/fuzz_settings.py."""

from pathlib import Path

import pytest
from forks import Command

SOURCE = Path(__file__).parents[1] / "benchmarks" / "fuzz_settings.py"


@pytest.mark.slow
def test_random_settings_end_in_a_result_or_in_one_sentence(tmp_path: Path) -> None:
    code, said = Command(SOURCE, "--count", "20", folder=tmp_path).end()
    assert code == 0, said
