"""The notebooks as committed, and executed from top to bottom in a copy."""

import ast
import base64
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import hydra
import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NAMES = [
    "1_semantic_segmentation",
    "2_unet_by_hand",
    "3_upsampling",
    "4_dilated_convolution",
    "5_train_and_read_a_run",
    "6_judge_and_compare",
]
LARGEST_PICTURE, LARGEST_NOTEBOOK = 60_000, 400_000  # bytes
# Where somebody's files lie, or where an object lay in memory.
LOCAL = re.compile(r"/tmp/|/home/|/root/|/Users/|/private/|[A-Z]:\\|0x[0-9a-f]{6}")
every_notebook = pytest.mark.parametrize("name", NAMES)


def read(name: str, folder: Path = ROOT / "notebooks") -> NotebookNode:
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: NotebookNode) -> list[bytes]:
    return [
        base64.b64decode(output.data["image/png"])
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def texts(notebook: NotebookNode) -> list[str]:
    found = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            found.append(output.get("text", ""))
            found += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
    return found


def assert_clean(notebook: NotebookNode) -> None:
    """Every code cell was executed, in order, and left nothing but pictures and printed lines."""
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
            assert not output.get("metadata")
    assert all(not cell.metadata for cell in notebook.cells)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for text in texts(notebook):
        assert not LOCAL.search(text), text


def test_the_lesson_has_six_notebooks() -> None:
    assert sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


def test_each_notebook_leads_to_the_next() -> None:
    for name, following in pairwise(NAMES):
        title = read(following).cells[0].source.splitlines()[0].removeprefix("# ")
        assert read(name).cells[-1].source == f"Next: [{title}]({following}.ipynb)."


@every_notebook
def test_a_notebook_is_committed_as_it_was_executed(name: str) -> None:
    assert_clean(read(name))


@every_notebook
def test_a_notebook_reads_on_the_web_with_small_pictures(name: str) -> None:
    notebook = read(name)
    sizes = [len(picture) for picture in pictures(notebook)]
    assert len(sizes) >= 4
    assert max(sizes) <= LARGEST_PICTURE, sizes
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size <= LARGEST_NOTEBOOK


@every_notebook
def test_a_notebook_imports_from_the_package_and_defines_nothing(name: str) -> None:
    source = "\n".join(cell.source for cell in code_cells(read(name)))
    nodes = list(ast.walk(ast.parse(source)))
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert [node.name for node in nodes if isinstance(node, definitions)] == []
    assert any(
        isinstance(node, ast.ImportFrom) and "liverseg" in str(node.module) for node in nodes
    )


@every_notebook
def test_every_link_to_a_file_leads_to_one(name: str) -> None:
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (ROOT / "notebooks" / target).is_file(), target


def test_the_readme_leads_to_the_notebooks() -> None:
    assert "](notebooks/README.md)" in (ROOT / "README.md").read_text()
    index = (ROOT / "notebooks" / "README.md").read_text()
    assert all(f"{name}.ipynb" in index for name in NAMES)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom of three notebooks, drawn once for all processes; two others draw their own."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "drawn" / "phantom"
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        phantom = hydra.compose("train").data.phantom
    hydra.utils.instantiate(phantom, _convert_="all").write(folder)
    return folder


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(name: str, drawn: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("notebooks", "configs"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copytree(drawn, copy / "data" / "phantom")
    before = read(name)
    emptied = nbformat.from_dict(before)
    for cell in code_cells(emptied):
        cell.outputs, cell.execution_count = [], None
    file = copy / "notebooks" / f"{name}.ipynb"
    nbformat.write(emptied, file)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, copy / "notebooks" / "execute.py", file],
        # Jupyter starts a notebook in its own folder, some editors in the root.
        cwd=copy if name in NAMES[::2] else copy / "notebooks",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "TMPDIR": str(temporary),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    executed = read(name, folder=copy / "notebooks")
    assert_clean(executed)
    assert [cell.source for cell in executed.cells] == [cell.source for cell in before.cells]
    assert len(pictures(executed)) == len(pictures(before))
    assert not list(temporary.glob("tmp*")), "runs are left behind"  # torch leaves a cache
    assert {entry.name for entry in copy.iterdir()} <= {"configs", "data", "notebooks"}
