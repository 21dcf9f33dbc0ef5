import shutil
from pathlib import Path

import pytest
from studies import write_study


@pytest.fixture(scope="session")
def _written_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "root")


@pytest.fixture
def study(_written_study: Path, tmp_path: Path) -> Path:
    """A clean study: train/ and val/ of whole patients."""
    return Path(shutil.copytree(_written_study, tmp_path / "study"))
