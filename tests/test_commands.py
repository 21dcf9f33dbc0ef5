"""The commands as people type them, each in a process of its own.

One of each kind is started as a shell starts it; the others are forks that need not import torch.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from forks import Command
from sketches import FEW_PICTURES
from waiting import wait_for

ROOT = Path(__file__).parents[1]
SMALL = [
    *("data.min_steps=1", "model.depth=2", "model.width=4", "trainer.max_epochs=1"),
    *("++trainer.enable_progress_bar=false", "trainer.accelerator=cpu"),
    *FEW_PICTURES,
]
pytestmark = pytest.mark.slow


def run(*command: str | Path, code: int = 0, folder: Path = ROOT) -> str:
    """Run a script of the root and return what it printed; the exit status must be ``code``."""
    done = subprocess.run(
        [sys.executable, ROOT / command[0], *map(str, command[1:])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return right(done.returncode, done.stdout + done.stderr, code)


def fork(*command: str | Path, code: int = 0, folder: Path = ROOT) -> str:
    """Do as ``run`` does, in a fork."""
    return right(*Command(ROOT / command[0], *command[1:], folder=folder).end(), code)


def right(code: int, text: str, wanted: int) -> str:
    assert code == wanted, text
    assert "Warning" not in text, text
    return text


@pytest.fixture
def trained(pair_root: Path, tmp_path: Path) -> Path:
    """The best checkpoint of a short run."""
    fork(
        *("train.py", "data=liver", f"data.root={pair_root}", f"hydra.run.dir={tmp_path / 'run'}"),
        *SMALL,
    )
    return tmp_path / "run" / "checkpoints" / "best.ckpt"


def test_training_draws_the_phantom_and_says_where_everything_is(tmp_path: Path) -> None:
    phantom = [
        f"data.root={tmp_path / 'phantom'}",
        *("data.phantom.num_patients=[2,1,1]", "data.phantom.slices_per_patient=3"),
        "data.phantom.image_size=32",
    ]
    overrides = ["model=unet_dilated", "trainer.devices=1", *phantom, *SMALL]
    text = run("train.py", *overrides, f"hydra.run.dir={tmp_path / 'run'}")
    for name in ("loss", "dice", "iou", "dice_pooled", "dice_case"):
        assert f"\n{name} " in text
    assert f"run        {tmp_path / 'run'}\n" in text
    assert f"pictures   {tmp_path / 'run'}/pictures\n" in text
    assert f"dashboard  tensorboard --logdir {tmp_path / 'run'}\n" in text
    log = (tmp_path / "run" / "run.log").read_text()
    assert "UNet" in log
    assert "train 6 pairs of 2 patients, val 3 pairs of 1 patient, test" in log
    assert (tmp_path / "run" / ".hydra" / "config.yaml").is_file()


def test_evaluate_and_predict_need_the_checkpoint_alone(
    trained: Path, pair_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    assert "dice_case" in run("evaluate.py", f"ckpt_path={trained}", f"output_dir={out}")
    scores = json.loads((trained.parents[1] / "metrics.json").read_text())
    again = json.loads((out / "metrics.json").read_text())
    assert again == {key: value for key, value in scores.items() if key.startswith("test")}
    out = tmp_path / "prediction"
    overrides = [f"source={pair_root / 'test'}", f"output_dir={out}"]
    assert "3 x NAME_prediction.png" in run("predict.py", f"ckpt_path={trained}", *overrides)
    assert len(list(out.glob("*.png"))) == 6


def test_volumes_that_cannot_be_scored_are_told_at_the_end(trained: Path, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in "ac":
            image = nibabel.Nifti1Image(np.eye(32, dtype=np.uint8)[..., None], np.eye(4))
            nibabel.save(image, tmp_path / folder / f"{name}.nii")
    (tmp_path / "images" / "b.nii").write_bytes(b"\0" * 500)
    (tmp_path / "labels" / "c.nii").unlink()
    text = fork(
        *("evaluate.py", f"ckpt_path={trained}", f"source={tmp_path / 'images'}", "window=lung"),
        *(f"labels={tmp_path / 'labels'}", f"output_dir={tmp_path / 'out'}"),
        code=1,
    )
    paths = [str(tmp_path / "images" / f"{name}.nii") for name in "bc"]
    assert text.strip().endswith(f"2 not scored, for the reasons above: {', '.join(paths)}")
    assert f"{paths[1]} has no label" in text
    assert (tmp_path / "out" / "cases_test.csv").read_text().count("\n") == 2


def test_two_processes_score_as_one(pair_root: Path, tmp_path: Path) -> None:
    run(
        *("train.py", "data=liver", f"data.root={pair_root}", "trainer=ddp", "trainer.devices=2"),
        *(*SMALL, f"hydra.run.dir={tmp_path / 'two'}"),
    )
    run_folder = tmp_path / "two"
    assert "UNet" in (run_folder / "run.log").read_text()
    out = tmp_path / "evaluation"
    file = run_folder / "checkpoints" / "best.ckpt"
    fork("evaluate.py", f"ckpt_path={file}", f"output_dir={out}", "num_worst=1")
    two, one = (json.loads((folder / "metrics.json").read_text()) for folder in (run_folder, out))
    assert {key: two[key] for key in one} == pytest.approx(one, rel=1e-6)
    assert one["test/dice"] == two["test/dice"]
    for file in ("cases_test.csv", "pictures/best_and_worst_test.png"):
        assert (run_folder / file).read_bytes() == (out / file).read_bytes()


def test_a_failing_process_is_told_in_one_sentence(pair_root: Path, tmp_path: Path) -> None:
    (pair_root / "val" / "patient004_slice00_mask.png").unlink()
    text = fork(
        *("train.py", "data=liver", f"data.root={pair_root}", "trainer=ddp", "trainer.devices=2"),
        *(*SMALL, f"hydra.run.dir={tmp_path / 'two'}"),
        code=1,
    )
    assert "patient004_slice00.png has no partner patient004_slice00_mask.png" in text


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (("train.py", "data=liver"), 1, "data.root is not set; add data.root=... to the command"),
        (("train.py", "data=liver", "data.root=nowhere"), 1, "data.root=nowhere does not exist"),
        (("train.py", "model.depth=0"), 1, "model.depth=0 must be at least 1"),
        (("train.py", "model=unett"), 2, "unet"),
        (("train.py", "modle.depth=3"), 2, "model.depth"),
        (("train.py", "resume=nowhere"), 1, "resume=nowhere does not exist; name a run folder"),
        (("evaluate.py", "ckpt_path=none.ckpt"), 1, "none.ckpt does not exist; name a checkpoint"),
        (("convert.py", "source=a", "output_dir=b"), 1, "labels is not set; add labels=... to"),
        (
            ("convert.py", "source=a", "labels=b", "output_dir=c", "window=tissue"),
            *(1, "window=tissue must be soft_tissue, liver, "),
        ),
        (
            ("convert.py", "source=a", "labels=b", "output_dir=c", "spacing=0"),
            *(1, "spacing=0 must be two lengths, of height and width, such as [0.7,0.7], or null"),
        ),
        (("convert.py", "source=a", "labels=b", "output_dir=c"), 1, "source=a does not exist"),
        (("demo.py", "ckpt_path=a", "port=99999"), 1, "port=99999 must be a whole number from 0"),
        (("export.py", "ckpt_path=a", "format=tf"), 1, "format=tf must be onnx or torch"),
        (("predict.py", "ckpt_path=a"), 1, "source is not set; add source=... to the command"),
        (("split.py",), 1, "data.root is not set; add data.root=... to the command"),
        (("split.py", "data.root=none"), 1, "data.root=none is no folder; name that of the pairs"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    command: tuple[str, ...], code: int, sentence: str, tmp_path: Path
) -> None:
    text = fork(*command, code=code, folder=tmp_path)
    assert sentence in text
    assert len(text.strip().splitlines()) == 1
    assert "HYDRA_FULL_ERROR" not in text  # it is foreseen


def test_a_command_outside_its_environment_says_what_to_type(tmp_path: Path) -> None:
    for script in ("train.py", "evaluate.py", "predict.py", "convert.py", "export.py", "demo.py"):
        done = subprocess.run(
            [sys.executable, "-S", "-E", ROOT / script],  # no packages
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 1
        assert done.stderr == (
            "this Python has no Hydra; type: source .venv/bin/activate (after make setup)\n"
        )


@pytest.fixture
def is_interruptible() -> Iterator[None]:
    """Have processes that are started hear Ctrl-C, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("is_interruptible")
@pytest.mark.parametrize("moment", ["while it imports", "while it trains"])
def test_ctrl_c_ends_a_run_with_a_word_and_it_goes_on(
    moment: str, pair_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = ["data=liver", f"data.root={pair_root}", *SMALL, "trainer.max_epochs=200"]
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *command, f"output_dir={folder}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        early = folder / ".hydra" / "config.yaml"  # Hydra writes it before anything is imported
        wait_for((early if "imports" in moment else folder / "checkpoints/last.ckpt").exists)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=300)
    assert "Traceback" not in text
    if "imports" in moment:
        assert process.returncode == -signal.SIGINT
    else:
        assert process.returncode == 128 + signal.SIGINT, text
        assert f"stopped by SIGINT; python train.py resume={folder} continues" in text
        epoch = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
        shorter = f"resume_overrides=[trainer.max_epochs={epoch + 1}]"
        assert "continuing from" in fork("train.py", f"resume={folder}", shorter)


def test_help_and_config_do_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--cfg', 'job']\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_two_processes_stop_together_and_go_on_as_if_they_had_not(
    pair_root: Path, tmp_path: Path
) -> None:
    command = [
        *("train.py", "data=liver", f"data.root={pair_root}", "trainer=ddp_sim", *SMALL),
        *("trainer.max_epochs=20", "callbacks.pictures.num_pictures=0"),
    ]
    fork(*command, f"hydra.run.dir={tmp_path / 'whole'}")
    folder = tmp_path / "stopped"
    stopped = Command(ROOT / command[0], *command[1:], f"hydra.run.dir={folder}", folder=ROOT)
    wait_for((folder / "checkpoints/last.ckpt").exists)
    os.kill(stopped.pid, signal.SIGTERM)
    code, text = stopped.end()
    assert code == 128 + signal.SIGTERM, text
    assert not (folder / "metrics.json").exists()
    fork("train.py", f"resume={folder}")
    weights = [
        torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for path in (tmp_path / "whole", folder)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    scores = [
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "stopped")
    ]
    assert scores[0] == scores[1]
    checks = [
        [one for one in (tmp_path / name / "curves.csv").read_text().split() if ",val/" in one]
        for name in ("whole", "stopped")
    ]
    assert sorted(checks[0]) == sorted(checks[1])


def test_check_ends_with_status_1_where_it_finds_an_error(pair_root: Path, tmp_path: Path) -> None:
    where = (f"data.root={pair_root}", f"output_dir={tmp_path / 'checked'}")
    assert "0 errors" in fork("check.py", *where)
    for end in (".png", "_mask.png"):
        shutil.copy(
            pair_root / f"train/patient001_slice00{end}", pair_root / f"val/patient009_slice00{end}"
        )
    text = fork("check.py", *where, code=1)
    assert "train/patient001_slice00.png and val/patient009_slice00.png" in text
    assert (tmp_path / "checked" / "report.html").is_file()


def test_make_does_not_empty_an_environment_that_a_link_leads_to(tmp_path: Path) -> None:
    other, here = tmp_path / "other", tmp_path / "here"
    other.mkdir()
    here.mkdir()
    (other / "kept").touch()
    (here / ".venv").symlink_to(other)
    shutil.copy(ROOT / "Makefile", here)
    make = ["make", ".venv/made-in", f"PYTHON={sys.executable}"]
    subprocess.run(make, cwd=here, check=True, capture_output=True, timeout=300)
    assert (other / "kept").is_file()
    assert not (here / ".venv").is_symlink()
    assert (here / ".venv" / "made-in").read_text().strip() == str(here)
