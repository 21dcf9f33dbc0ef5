"""Which room may import which: the order in which the package is read, held against its source."""

import ast
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# The science, in the order in which a slice travels, and the machinery; each may import all before.
SCIENCE = (
    *("labels", "network", "scores", "data", "inspection", "training", "pictures"),
    "prediction",
)
MACHINERY = ("settings", "runs", "sweeps")
FOR_ALL = "files"
ALLOWED: dict[str, tuple[str, ...]] = {
    FOR_ALL: (),
    **{room: SCIENCE[:place] for place, room in enumerate(SCIENCE)},
    **{room: MACHINERY[:place] for place, room in enumerate(MACHINERY)},
    "checks": (*SCIENCE, "settings"),
    "checkpoints": (*SCIENCE, "settings", "runs"),
    "inference": (*SCIENCE, "settings", "runs", "checks", "checkpoints"),
    "sharing": (*SCIENCE, "settings", "runs", "checks", "checkpoints", "inference"),
    "reports": (*SCIENCE, *MACHINERY),
    "ending": (*SCIENCE, "runs", "checkpoints", "inference", "reports"),
    "experiment": (
        *(*SCIENCE, "settings", "runs", "checks", "checkpoints", "inference", "reports", "ending"),
    ),
    "launch": (*SCIENCE, "settings", "runs", "checks", "checkpoints", "inference", "experiment"),
    "worker": ("settings", "runs", "experiment", "launch"),
    "hydra_plugins": MACHINERY,
}
# Files that are imported by their own names: their rooms are imported at every command, and what
# these need takes seconds.
BY_THEIR_OWN_NAMES = {
    "liverseg.runs.stopping",  # Lightning
    "liverseg.settings.classes",  # pydantic
    "liverseg.settings.values",  # pydantic
}
MOST_ON_TOP = 8  # modules beside the rooms


def faults(src: Path) -> list[str]:
    """Return what is wrong with the imports of a source tree, one line each."""
    files = {_module(file, src): file for file in sorted(src.rglob("*.py"))}
    trees = {module: ast.parse(file.read_text()) for module, file in files.items()}
    rooms = {
        module: _listed(trees[module])
        for module, file in files.items()
        if file.name == "__init__.py" and module != "liverseg"
    }
    found, graph = [], {}
    for module, tree in trees.items():
        here = _room(module)
        allowed = ALLOWED.get(here)
        if allowed is None and module != "liverseg":
            found.append(f"{module} has no place in the table")
        imported = sorted(set(_imports(tree, module, trees, is_room=module in rooms)))
        graph[module] = {target for target, _ in imported}
        for target, name in imported:
            there = _room(target)
            is_file_on_top = target == f"liverseg.{there}" and target not in rooms
            if here == there:
                continue
            if there not in (FOR_ALL, *(allowed or ())):
                found.append(f"{module} imports {target}, which {here} may not")
            elif not (
                is_file_on_top or target in BY_THEIR_OWN_NAMES or name in rooms.get(target, ())
            ):
                found.append(f"{module} imports {name or 'all'} of {target}, which is not offered")
    for room in rooms:
        found += [f"{room} {reason}" for reason in _faults_of_a_room(trees[room])]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"import one another: {', '.join(sorted(set(error.args[1])))}")
    return found


def _module(file: Path, src: Path) -> str:
    parts = file.relative_to(src).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "liverseg" else package


def _imports(
    tree: ast.Module, module: str, modules: Container[str], *, is_room: bool
) -> Iterator[tuple[str, str]]:
    """Yield what a file imports of the project, anywhere: modules, and names of them or ""."""
    package = module.split(".") if is_room else module.split(".")[:-1]
    pairs: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            pairs += [(source, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            pairs += [(str(one.value), "") for one in node.args if isinstance(one, ast.Constant)]
    for source, name in pairs:
        if source.partition(".")[0] in ("liverseg", "hydra_plugins"):
            is_module = f"{source}.{name}" in modules
            yield (f"{source}.{name}", "") if is_module else (source, name)


def _listed(room: ast.Module) -> list[str]:
    """Return the names that a room offers, its ``__all__``."""
    for node in room.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _faults_of_a_room(tree: ast.Module) -> list[str]:
    """Return in what an ``__init__`` is more, or less, than a paragraph and the names offered."""
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = [] if ast.get_docstring(tree) else ["has no docstring"]
    if not (listed := _listed(tree)):
        found.append("has no __all__")
    elif imported != set(listed):
        found.append(f"lists and imports differ: {sorted(imported ^ set(listed))}")
    if any(not isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in tree.body):
        found.append("holds code of its own")
    return found


def test_each_room_imports_only_what_the_rooms_before_it_offer() -> None:
    assert faults(SRC) == []


def test_at_most_eight_modules_stand_beside_the_rooms() -> None:
    assert len(list((SRC / "liverseg").glob("*.py"))) <= MOST_ON_TOP


SMALL = {
    "liverseg/__init__.py": '"""A package."""',
    "liverseg/labels.py": "IGNORED = 255",
    "liverseg/data/__init__.py": (
        '"""Pairs."""\nfrom liverseg.data.pairs import Pair\n__all__ = ["Pair"]'
    ),
    "liverseg/data/pairs.py": "from liverseg.labels import IGNORED\nclass Pair: ...",
    "liverseg/settings/__init__.py": (
        '"""Words."""\nfrom liverseg.settings.words import nearest\n__all__ = ["nearest"]'
    ),
    "liverseg/settings/words.py": "def nearest(): ...",
    "liverseg/experiment.py": (
        "from liverseg.data import Pair\nfrom liverseg.settings import nearest"
    ),
}


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("experiment.py", "import liverseg.labels", None),
        (
            "labels.py",
            "from liverseg.data import Pair",
            "liverseg.labels imports liverseg.data, which labels may not",
        ),
        (
            "settings/words.py",
            "def nearest():\n    from liverseg.labels import IGNORED",
            "liverseg.settings.words imports liverseg.labels, which settings may not",
        ),
        (
            "settings/words.py",
            "from ..experiment import train",
            "liverseg.settings.words imports liverseg.experiment, which settings may not",
        ),
        (
            "settings/words.py",
            "import importlib\nimportlib.import_module('liverseg.experiment')",
            "liverseg.settings.words imports liverseg.experiment, which settings may not",
        ),
        (
            "experiment.py",
            "from liverseg.data.pairs import Pair",
            "liverseg.experiment imports Pair of liverseg.data.pairs, which is not offered",
        ),
        (
            "experiment.py",
            "from liverseg.data import pairs",
            "liverseg.experiment imports all of liverseg.data.pairs, which is not offered",
        ),
        (
            "experiment.py",
            "from liverseg.data import find",
            "liverseg.experiment imports find of liverseg.data, which is not offered",
        ),
        (
            "data/pairs.py",
            "from liverseg.data import Pair",
            "import one another: liverseg.data, liverseg.data.pairs",
        ),
        ("utils.py", "", "liverseg.utils has no place in the table"),
        (
            "data/__init__.py",
            "from liverseg.data.pairs import Pair",
            "liverseg.data has no __all__",
        ),
        (
            "data/__init__.py",
            '"""Pairs."""\nfrom liverseg.data.pairs import Pair\n__all__ = ["Pair", "find"]',
            "liverseg.data lists and imports differ: ['find']",
        ),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str, fault: str | None, tmp_path: Path) -> None:
    for name, text in {**SMALL, f"liverseg/{file}": source}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = faults(tmp_path)
    assert fault in found if fault else found == []
