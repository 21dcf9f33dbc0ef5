"""README and guides: what they say is so, and every command in them works when it is typed."""

import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from forks import Command
from sketches import FEW_PICTURES

from liverseg.data import MaskReader, read_image
from liverseg.data.pairs import find_pairs
from liverseg.scores.metrics import SegmentationScores

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*GUIDES, ROOT / "CHANGELOG.md", ROOT / "notebooks" / "README.md"]
LANGUAGES = {"sh", "bash", "text", "python", "yaml"}
PROGRAMS = {
    *("python", "make", "git", "source", "tensorboard", "torchrun", "srun", "sbatch", "pip"),
    *("ssh", "cd", "pre-commit"),
}

# What stands in a command for something of the user's own, and what the tests put there.
PLACEHOLDERS = {
    "IMAGE_OR_FOLDER": "pairs/test",
    "DIR": "pairs",
    "RUN": "logs/train/runs/first",
    "FILE": "logs/train/runs/first/checkpoints/best.ckpt",
    "OTHER": "logs/evaluate/other",
    "MASKS": "pairs/test",
    "MAPS": "labels",
    "VOLUMES": "volumes",
    "LABELS": "labels",
    "PAIRS": "converted",
    "NAME": "named",
    "HOST": "localhost",
    "URL": "address",
}
# Commands that cannot be run by a test, each with the reason.
NOT_RUN = {
    "source .venv/bin/activate": "changes the shell that it is typed in",
    "pip install 'liverseg[slurm]'": "installs a package",
    "pip install 'liverseg[volumes]'": "likewise",
    "pip install 'liverseg[networks]'": "likewise",
    "pip install 'liverseg[export]'": "likewise",
    "python benchmarks/fuzz_checkpoints.py": "3,000 damaged checkpoints, some minutes; "
    "test_fuzz_checkpoints.py reads some of them",
    "python train.py -m experiment=liver_cpu optimizer.block=256 data.root=pairs 'fold=range(5)' "
    "model.width=8 sweep_name=folds": "needs 5 patients",
    "python evaluate.py ckpt_path=logs/train/sweeps/folds split=test": "needs that sweep",
    "python train.py -m experiment=liver_cpu data.root=pairs seed=1,2,3": "three jobs; "
    "test_sweep.py runs four",
    "python train.py -m experiment=liver_cpu optimizer.block=256 data.root=pairs seed=1,2,3 "
    "trainer.max_epochs=6": "likewise",
    "python train.py -m experiment=liver_cpu data.root=pairs seed=1,2,3 trainer.max_epochs=6 "
    "scheduler_interval=step ~scheduler.T_max "
    "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR +scheduler.max_lr=1e-2 "
    "+scheduler.total_steps=360 +scheduler.pct_start=0.1 +scheduler.cycle_momentum=false": "too",
    "pre-commit install": "changes the repository",
    "sbatch train.slurm": "needs Slurm; the script itself is checked",
    "ssh -L 6006:localhost:6006 localhost": "needs a second computer",
    "ssh -L 8000:127.0.0.1:8000 localhost": "likewise",
    "python benchmarks/phantom_window.py": "a measurement on the whole phantom, a minute long",
    "python benchmarks/dashboard.py": "a measurement, five minutes long",
    "python benchmarks/sweep.py": "likewise",
    "python benchmarks/machinery.py": "likewise",
    "python benchmarks/augmentation.py": "likewise",
    "python benchmarks/check.py": "draws and reads 11,000 pairs",
    "python benchmarks/start.py": "draws and reads 111,000 pairs",
    "python benchmarks/start.py 20000 100000": "likewise",
    "python benchmarks/intervals.py": "a measurement, some minutes long",
    "python benchmarks/fuzz_settings.py": "1,000 commands; test_fuzz_settings.py types some",
    "python benchmarks/fuzz_volumes.py": "5,000 damaged volumes, some minutes; "
    "test_fuzz_volumes.py reads some of them",
    "python benchmarks/fuzz_files.py": "10,000 damaged files, half a minute; test_fuzz_files.py "
    "reads some of them",
    "python train.py -m hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1 "
    "hydra.launcher.timeout_min=600 seed=1,2,3 sweep_name=named": "needs Slurm and a package",
    "python train.py -m 'fold=range(2)' model=unet,unet_dilated sweep_name=named": "four jobs; "
    "test_comparing.py compares what such a sweep leaves",
    "python compare.py runs=logs/train/sweeps/named": "likewise",
    "python train.py -m seed=1,2,3 model=unet,unet_dilated": "six jobs",
    "python train.py -m experiment=compare_networks": "eighteen jobs; test_sweep.py runs four",
    "python train.py -m experiment=compare_networks model=unet,unet_attention seed=1,2 "
    "hydra.launcher.jobs=2": "likewise",
    "python train.py -m trainer=ddp trainer.devices=2 seed=1,2 hydra.launcher.jobs=2": "half a "
    "minute of importing; test_sweep.py runs such a sweep",
}
# A repository has no address here, and no folder of its own name.
CLONING = ("git clone ", "cd ")
# The config of these is composed, and that is all.
COMPOSED = {
    "srun python ": "needs Slurm",
    "torchrun --nnodes=2 ": "needs two computers",
    "python train.py trainer=ddp trainer.devices=2": "on a CPU it is ddp_sim, which is run",
    "python train.py trainer.max_steps=5000": "as long as it says; test_length.py trains so",
    "python train.py trainer.max_time=00:00:10:00": "likewise",
}

PHANTOM = [
    "data.phantom.num_patients=[4,2,1]",
    "data.phantom.slices_per_patient=2",
    "data.phantom.image_size=32",
]
SMALL_TRAINER = ["data.min_steps=1", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
SMALL_MODEL = ["model.depth=2", "model.width=4"]


@dataclass(frozen=True)
class Typed:
    """A command of a document; ``sentence`` is what it answers where it is to fail."""

    text: str
    sentence: str | None = None


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield language, content and preceding line of every fenced block."""
    pattern = r"^( *)```(\w*)\n(.*?)^\1```$"
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        before = text[: found.start()].rstrip().rpartition("\n")[2]
        content = "".join(
            line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True)
        )
        yield found[2], content, before


def without_blocks(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def files_of(text: str) -> dict[str, str]:
    """Return the files that a document shows: a block, and the path before it."""
    files = {}
    for language, content, before in blocks(text):
        paths = re.findall(r"`([\w/]+\.(?:py|yaml|slurm))`", before)
        if language in ("python", "yaml", "bash") and paths:
            files[paths[0]] = content
    return files


def commands_of(text: str) -> list[Typed]:
    """Return all commands of a document in order, none twice."""
    commands: dict[str, Typed] = {}

    def add(typed: str, sentence: str | None = None) -> None:
        for part in typed.split(" && "):
            if part.split(" ")[0] in PROGRAMS and (" " in part or part == "make"):
                commands.setdefault(part, Typed(part, sentence))

    is_failing, is_code, language = False, False, ""
    for line in text.splitlines():
        if line.strip().startswith("```"):
            is_code, language = not is_code, line.strip()[3:]
        elif is_code:
            if language in ("sh", "bash"):
                add(re.sub(r"\s+#.*", "", line.strip()))
        elif line.startswith("|"):
            spans = re.findall(r"`([^`]+)`", line)
            if re.match(r"\| you type \| it says", line):
                is_failing = True
            elif is_failing and spans:
                add(spans[0], spans[1])
            else:
                for span in spans:
                    add(span)
        else:
            is_failing = False
            for span in re.findall(r"`([^`]+)`", line):
                add(span)
    return list(commands.values())


def filled(text: str) -> str:
    """Return a command or a sentence with the tests' own in the place of every placeholder."""
    names = "|".join(map(re.escape, PLACEHOLDERS))
    return re.sub(rf"(?<![\w.])({names})(?!\w)", lambda found: PLACEHOLDERS[found[1]], text)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as code-hosting sites make them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def script(name: str) -> ModuleType:
    """Import a script of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_name(document: Path) -> str:
    return str(document.relative_to(ROOT))


# Fast


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(document.read_text()))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_table_of_groups_is_that_of_the_configs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert script("write_groups").updated(readme, ROOT / "configs") == readme, "run make groups"


def test_the_table_of_groups_has_a_row_for_every_choice(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "model" / "a.yaml").write_text("# @package _global_\n# One: python train.py a=b\n")
    (tmp_path / "model" / "b.yaml").write_text("# Another | one\nwidth: 1\n")
    (tmp_path / "hydra" / "launcher" / "c.yaml").write_text("# Third\n")
    (tmp_path / "train.yaml").write_text("defaults: [model: b, override hydra/launcher: c]\n")
    (tmp_path / "evaluate.yaml").write_text("defaults: [_self_]\n")
    module = script("write_groups")
    assert module.table(tmp_path).splitlines()[2:] == [
        r"| `model` | **`b`** | Another \| one |",
        "|  | `a` | One: `python train.py a=b` |",
        "| `hydra/launcher` | **`c`** | Third |",
    ]
    (tmp_path / "model" / "b.yaml").write_text("width: 1  # no comment of its own\n")
    with pytest.raises(ValueError, match=r"b\.yaml must begin with a comment"):
        module.table(tmp_path)


def test_the_worked_example_of_the_scores_is_right() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "(TP 90, FP 10, FN 10)" in readme
    assert "(FP 1)" in readme
    assert "(TP 5, FN 5)" in readme
    cells = torch.tensor([[90, 10, 10], [0, 1, 0], [5, 0, 5]])  # TP, FP, FN
    prediction, mask = torch.zeros(3, 1, 200), torch.zeros(3, 1, 200)
    for image, (hits, alarms, misses) in enumerate(cells.tolist()):
        prediction[image, 0, : hits + alarms] = 1
        mask[image, 0, :hits] = 1
        mask[image, 0, hits + alarms : hits + alarms + misses] = 1
    scores = SegmentationScores(1)
    scores.update(prediction, mask, torch.arange(3), torch.tensor([0, 0, 1]))
    values = scores.compute()
    assert f"`dice` = {values['dice']:.3f}" in readme
    assert f"`dice_pooled` = 190 / 216 = {values['dice_pooled']:.3f}" in readme
    assert f"`dice_case` = {values['dice_case']:.3f}" in readme


def test_the_example_is_drawn_from_the_median_and_the_worst_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    module = script("draw_example")
    run = tmp_path / "logs" / "train" / "runs" / "a"
    (run / "pictures").mkdir(parents=True)
    lines = [f"{name},,{dice}" for name, dice in zip("abcd", (0.1, 0.9, 0.5, 0.2), strict=True)]
    (run / "cases_test.csv").write_text("\n".join(["name,case,dice", *lines]))
    for shade, name in enumerate("abc"):
        Image.new("RGB", (4, 2), (shade, 0, 0)).save(run / "pictures" / f"test_{name}.png")
    (run / "metrics.json").write_text("{}")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_example.py"])
    module.main()
    drawn = Image.open(tmp_path / "docs" / "example.png")
    assert drawn.size == (4, 12)
    assert drawn.getpixel((0, 0)) == (2, 0, 0)  # c, the median of a, b, c
    assert drawn.getpixel((0, 5)) == (255, 255, 255)
    assert drawn.getpixel((0, 11)) == (0, 0, 0)  # a, the worst; d was not drawn


@pytest.mark.parametrize("document", GUIDES, ids=by_name)
def test_every_block_says_what_it_is(document: Path) -> None:
    for language, content, _ in blocks(document.read_text()):
        assert language in LANGUAGES, content
        if language == "text":  # else a command would go untried
            assert not [line for line in content.splitlines() if line.split(" ")[0] in PROGRAMS]


@pytest.mark.parametrize("document", GUIDES, ids=by_name)
def test_every_placeholder_of_a_command_is_known(document: Path) -> None:
    for command in commands_of(document.read_text()):
        left = re.sub(r"(ARGS|PYTHON)=", "", filled(command.text))
        assert not re.findall(r"(?<!\w)[A-Z][A-Z_]+(?!\w)", left), command.text


def test_what_a_guide_says_of_a_command_is_read() -> None:
    text = (
        "```sh\nmake train   # comment\npython a.py && make b\n```\n"
        "`my.py`, beside `train.py`:\n\n```python\nx = 1\n```\n"
        "Type `python c.py` or `model.depth=3`.\n\n"
        "| you type | it says |\n|---|---|\n| `python d.py` | `wrong` |\n\n`python e.py`\n"
    )
    assert commands_of(text) == [
        *map(Typed, ("make train", "python a.py", "make b", "python c.py")),
        *(Typed("python d.py", "wrong"), Typed("python e.py")),
    ]
    assert files_of(text) == {"my.py": "x = 1\n"}


def spoil(kind: str, root: Path) -> None:
    """Put a fault into a folder of pairs, on the pair 003 of val."""
    from PIL import Image

    for path in sorted((root / "val").glob("*.png")):
        path.rename(path.with_name(path.name.replace("patient003_slice00", "003")))
    mask, image = root / "val" / "003_mask.png", root / "val" / "003.png"
    if kind == "an image without a mask":
        mask.unlink()
    elif kind == "a mask of another size":
        Image.new("L", (64, 64)).save(mask)
    elif kind == "a mask with a value nobody declared":
        odd = Image.new("L", (32, 32))
        odd.putpixel((0, 0), 7)
        odd.save(mask)
    elif kind == "a damaged file":
        image.write_bytes(image.read_bytes()[:60])
    else:
        raise AssertionError(f"test_documents.py does not know how to make: {kind}")


def write_volumes(images: Path, labels: Path) -> None:
    """Write a small CT and its label."""
    import nibabel
    import numpy as np

    for folder, values in ((images, (-100, 100)), (labels, (0, 1))):
        folder.mkdir()
        voxels = np.full((32, 32, 3), values[0], np.int16)
        voxels[8:20, 8:16] = values[1]
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "anna.nii.gz")


def read_all(folder: Path) -> None:
    for pair in find_pairs(folder):
        read_image(pair.image, 1)
        MaskReader(num_classes=1).read(pair.mask)


FAULTS = re.findall(
    r"^\| (\w[^|`]*) \| `(DIR/[^`]+)` \|$",
    (ROOT / "docs" / "own_data.md").read_text(),
    re.MULTILINE,
)


def test_the_guide_names_faulty_files() -> None:
    assert len(FAULTS) == 4


@pytest.mark.parametrize(("kind", "sentence"), FAULTS)
def test_a_faulty_file_is_answered_as_the_guide_says(
    kind: str, sentence: str, tmp_path: Path
) -> None:
    root = tmp_path / "DIR"
    write_pairs(root)
    spoil(kind, root)
    with pytest.raises(ValueError, match="003") as caught:
        read_all(root / "val")
    pattern = ".*".join(map(re.escape, sentence.split("...")))
    assert re.search(pattern, str(caught.value).replace(f"{tmp_path}/", ""))


# Slow: the commands themselves


class Workplace:
    """A copy of the project with pairs and a run in it, and what is needed to type commands."""

    def __init__(self, folder: Path, pairs: Path) -> None:
        self.folder = folder
        for name in ("configs", "docs", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name)
        for name in (*(file.name for file in ROOT.glob("*.py")), "Makefile"):
            shutil.copy(ROOT / name, folder)
        for name in ("requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(pairs, folder / "pairs")
        shutil.copytree(pairs, folder / "data" / "vessels")
        write_volumes(folder / "volumes", folder / "labels")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        self._count = 0
        self.tried: set[str] = set()

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            (self.folder / name).write_text(content)

    def python(self, arguments: list[str]) -> tuple[int, str]:
        """Run a script, or a module after -m; return exit status and output."""
        is_first = self._count == 1
        return Command(
            *arguments, folder=self.folder, environment=self.environment, rendered=is_first
        ).end()

    def run(self, *command: str) -> tuple[int, str]:
        """Run any other program."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    def train(self, arguments: list[str]) -> tuple[int, str]:
        """Run train.py as typed, with small data and a small network."""
        self._count += 1
        return self.python(["train.py", *arguments, *shrinking(arguments, str(self._count))])

    def try_out(self, command: str) -> tuple[int, str]:
        """Type a command in the way that fits it; an unknown one is refused."""
        words = shlex.split(command)
        if command in NOT_RUN or command.startswith(CLONING):
            return 0, ""
        if command.startswith(tuple(COMPOSED)):
            return self.python(["train.py", *words[words.index("train.py") + 1 :], "--cfg", "job"])
        if words[:2] == ["python", "train.py"]:
            return self.train(words[2:])
        if words[0] == "python" and words[1] in (
            "evaluate.py",
            "predict.py",
            "convert.py",
            "check.py",
            "compare.py",
            "draw_volumes.py",  # which a guide shows, as the next one
            "my_script.py",
        ):
            return self.python(words[1:])
        if words[:2] == ["python", "split.py"]:
            return self.split(words[1:])
        if words[:2] == ["python", "demo.py"]:
            return self.open_page(words[1:])
        if words[:2] == ["python", "export.py"]:
            return self.python([*words[1:], "output_dir=logs/export/first"])
        if words[0] == "python" and words[1].startswith("docs/"):
            return self.python(words[1:])
        if words[0] == "make":
            return self.make(words[1:])
        if words[0] == "tensorboard":
            return self.serve(words[1:])
        if words[0] == "torchrun":
            place = words.index("train.py") + 1
            arguments = [*words[1:place], *words[place:], *shrinking(words[place:], "torchrun")]
            return self.python(["-m", "torch.distributed.run", *arguments])
        raise AssertionError(f"test_documents.py does not know how to try: {command}")

    def make(self, words: list[str]) -> tuple[int, str]:
        """Look whether the targets exist, and run what make train would be given."""
        code, text = self.run("make", "--dry-run", *words)
        given = dict(word.split("=", 1) for word in words if "=" in word)
        if code == 0 and words[:1] == ["train"] and "ARGS" in given:
            return self.train(shlex.split(given["ARGS"]))
        return code, text

    def split(self, words: list[str]) -> tuple[int, str]:
        """Divide a folder, and take back the table where other commands need the folders."""
        done = self.python(words)
        (self.folder / PLACEHOLDERS["DIR"] / "cases.csv").unlink(missing_ok=True)
        return done

    def open_page(self, words: list[str]) -> tuple[int, str]:
        """Start the page to try a model, and ask it for its model."""
        server = subprocess.Popen(
            [sys.executable, *words, "port=0"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        address = ""
        while not address and (line := server.stdout.readline()):
            address = "".join(re.findall(r"http://[\d.:]+", line))
        try:
            with urllib.request.urlopen(f"{address}/model", timeout=60) as answer:
                return 0, answer.read().decode()
        finally:
            server.kill()
            server.communicate(timeout=60)

    def serve(self, words: list[str]) -> tuple[int, str]:
        """Open the dashboard; where another command has done so, look for its runs alone."""
        if "served" in self.tried:
            return self.python(["-m", "tensorboard.main", "--inspect", *words])
        self.tried.add("served")
        words = [*words, "--port", "0"]
        server = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.stderr is not None
        address, deadline = "", time.monotonic() + 120
        while not address and time.monotonic() < deadline and (line := server.stderr.readline()):
            address = "".join(re.findall(r"http://\S+", line))
        try:
            with urllib.request.urlopen(f"{address}data/runs", timeout=60) as answer:
                return 0, answer.read().decode()
        finally:
            server.kill()
            server.communicate(timeout=60)


def shrinking(arguments: list[str], name: str) -> list[str]:
    """Return overrides that make a command's run small and give it a folder of its own."""
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    if "resume" in given or "--cfg" in arguments:
        return []
    own = {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    chosen = set(given.get("model", "unet").split(","))
    is_shipped = chosen <= own and all(one.startswith("unet") for one in chosen)
    is_searched = given.get("search") is not None or given.get("experiment") == "best"
    wanted = [*SMALL_TRAINER, "++trainer.enable_progress_bar=false"]
    wanted += FEW_PICTURES if not any(one.startswith("~callbacks") for one in arguments) else []
    wanted += SMALL_MODEL if is_shipped and not is_searched else []
    if given.get("data", "phantom") == "phantom" and "data.root" not in given:
        wanted += PHANTOM
    if "-m" not in arguments:
        wanted += [f"hydra.run.dir=logs/train/runs/{name}"]
    else:
        wanted += [f"sweep_name={name}", "hydra.launcher.jobs=2"]
        wanted += ["search.num_trials=2"] if "search" in given else []
    return [one for one in wanted if one.split("=")[0] not in given]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("documents")
    pairs = folder / "small_pairs"
    write_pairs(pairs)
    (folder / "copy").mkdir()
    place = Workplace(folder / "copy", pairs)
    code, text = place.train(["hydra.run.dir=logs/train/runs/first"])
    assert code == 0, text
    first, other = (place.folder / PLACEHOLDERS[word] for word in ("RUN", "OTHER"))
    shutil.copytree(first, other)
    return place


def write_pairs(root: Path) -> None:
    """Write train/ (4 pairs), val/ (2) and test/ (2): a bright square, as masks of 0/1."""
    from PIL import Image

    for split, patients in {"train": (1, 1, 2, 2), "val": (3, 3), "test": (4, 4)}.items():
        (root / split).mkdir(parents=True)
        for place, patient in enumerate(patients):
            stem = root / split / f"patient{patient:03}_slice{place:02}"
            image, mask = Image.new("L", (32, 32), 20), Image.new("L", (32, 32), 0)
            square = (4 + patient, 6 + place, 20 + patient, 26 + place)
            image.paste(200, square)
            mask.paste(1, square)
            image.save(f"{stem}.png")
            mask.save(f"{stem}_mask.png")


@pytest.mark.slow
@pytest.mark.parametrize("document", GUIDES, ids=by_name)
def test_every_command_works(document: Path, workplace: Workplace) -> None:
    text = document.read_text()
    workplace.write(files_of(text))
    failed = []
    for command in commands_of(text):
        typed = filled(command.text)
        if typed in workplace.tried:
            continue
        workplace.tried.add(typed)
        code, output = workplace.try_out(typed)
        if command.sentence is None and code != 0:
            failed.append(f"$ {command.text}\nended with status {code}\n{output[-2000:]}")
        elif command.sentence is not None:
            is_said = filled(command.sentence) in " ".join(output.split())
            if code == 0 or not is_said:
                failed.append(
                    f"$ {command.text}\nended with status {code}, not with: {command.sentence}\n"
                    f"{output[-2000:]}"
                )
    assert not failed, "\n\n".join(failed)


@pytest.mark.slow
def test_the_metric_of_the_guide_is_right(workplace: Workplace) -> None:
    workplace.write(files_of((ROOT / "docs" / "own_loss_or_metric.md").read_text()))
    run = workplace.folder / "logs" / "train" / "runs" / "metric"
    code, text = workplace.train(
        ["callbacks=accuracy", f"hydra.run.dir={run}", "trainer.max_epochs=8"]
    )
    assert code == 0, text
    scores = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        with (run / f"cases_{split}.csv").open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        wrong = sum(int(line["fp"]) + int(line["fn"]) for line in lines)
        pixels = len(lines) * 32 * 32
        assert 0 < wrong < pixels
        assert scores[f"{split}/accuracy"] == pytest.approx(1 - wrong / pixels, abs=1e-4)


@pytest.mark.slow
def test_an_unknown_command_is_refused(workplace: Workplace) -> None:
    with pytest.raises(AssertionError, match=r"does not know how to try: python unheard_of\.py"):
        workplace.try_out("python unheard_of.py")


@pytest.mark.slow
def test_the_script_for_slurm_can_be_read(workplace: Workplace) -> None:
    files = files_of((ROOT / "docs" / "sweep.md").read_text())
    workplace.write(files)
    assert "train.slurm" in files
    assert workplace.run("bash", "-n", "train.slurm") == (0, "")
