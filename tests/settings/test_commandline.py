import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from liverseg.settings import commandline
from liverseg.settings.commandline import (
    check_overrides,
    prepare_command,
    refuse_bad_overrides,
)
from liverseg.settings.paths import expand_home, what_blocks
from liverseg.settings.words import nearest, nearest_key

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
FILE = Path(__file__)
MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
AUGMENTS = sorted(file.stem for file in (CONFIGS / "augment").glob("*.yaml"))
UNETS = f"all choices are {', '.join(MODELS)}"
NO_KEY = "names no known key; --cfg job shows all of them"


@pytest.fixture(autouse=True)
def _composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose what many command lines begin with once: it takes a tenth of a second."""

    def composed(name: str, lines: Sequence[str] = (), **options: bool) -> DictConfig:
        folders = str(GlobalHydra.instance().config_loader().get_search_path())
        return pickle.loads(_composed(folders, name, tuple(lines), **options))

    monkeypatch.setattr(commandline, "compose", composed)


@cache
def _composed(folders: str, name: str, lines: tuple[str, ...], **options: bool) -> bytes:
    return pickle.dumps(compose(name, list(lines), **options))


# A command line, and the sentence that answers it; {tmp} is a folder with a file in it.
BAD = {
    "modle.depth=3": "modle.depth=3 names no known key; the nearest is model.depth",
    "model.dept=3": "model.dept=3 names no known key; the nearest is model.depth",
    "depth=3": "depth=3 names no known key; the nearest is model.depth",
    "lr=1e-3": "lr=1e-3 names no known key; the nearest is optimizer.lr",
    "modell=unet": "modell=unet names no known key; the nearest is model",
    "moniter=val/iou": "moniter=val/iou names no known key; the nearest is monitor",
    "foo.bar=1": f"foo.bar=1 {NO_KEY}",
    "~modle": "~modle names no known key; the nearest is model",
    "trainer.max_epoch=3": (
        "trainer.max_epoch=3 names no known key; the nearest is trainer.max_epochs"
    ),
    "trainer.limit_val_batches=2": (
        "trainer.limit_val_batches=2 is not in the config, but Trainer takes it; add a + in front: "
        "+trainer.limit_val_batches=2"
    ),
    "trainer.limit_val_batch=2": (
        "trainer.limit_val_batch=2 names no known key; the nearest is +trainer.limit_val_batches"
    ),
    "optimizer=sgd optimizer.weight_decay=0.1": (
        "optimizer.weight_decay=0.1 is not in the config, but SGD takes it; add a + in front: "
        "+optimizer.weight_decay=0.1"
    ),
    "+model.depth=3": "+model.depth=3 adds a key that is there already; leave out the +",
    "+model=unet": "+model=unet adds a second model; leave out the + to choose another one",
    "model=unett": f"model=unett is not a choice; the nearest is model=unet, {UNETS}",
    "model=UNet": f"model=UNet is not a choice; the nearest is model=unet, {UNETS}",
    "model=vgg": f"model=vgg is not a choice; {UNETS}",
    "model=null": f"model=null is not a choice; {UNETS}",
    "augment=[flips,rotaton]": (
        "rotaton in augment=[flips,rotaton] is not a choice; the nearest is "
        f"augment=[flips,rotation], all choices are {', '.join(AUGMENTS)}"
    ),
    "augment=[flips,xyzq]": (
        f"xyzq in augment=[flips,xyzq] is not a choice; all choices are {', '.join(AUGMENTS)}"
    ),
    "experiment=tut": (
        "experiment=tut is not a choice; the nearest is experiment=tutorial, all choices are "
        "compare_networks, liver, liver_cpu, scenes, scenes_cpu, small, tutorial"
    ),
    "hydra/sweeper=resumabel": (
        "hydra/sweeper=resumabel is not a choice; the nearest is hydra/sweeper=resumable, all "
        "choices are basic, resumable"
    ),
    "hydra.rum.dir=x": "hydra.rum.dir=x names no known key; the nearest is hydra.run.dir",
    "model.depth": (
        "model.depth has no = in it; write model.depth=VALUE, and quote the whole where a value "
        "holds spaces"
    ),
    "=3": "=3 names no key; write KEY=VALUE",
    "help": "help has no = in it; write --help",
    "--seed=1": "--seed=1 is no option; settings have no dashes: seed=1",
    "-m seed=1 , 2": ", has no = in it; write a list without spaces, such as seed=1,2",
    "{tmp}/file": (
        "{tmp}/file has no = in it; write KEY={tmp}/file, with a key such as data.root, ckpt_path, "
        "source, resume, or runs for several in brackets"
    ),
    "epochs=3": "epochs=3 names no known key; the nearest is trainer.max_epochs",
    "optimizer.learning_rate=1": (
        "optimizer.learning_rate=1 names no known key; the nearest is optimizer.lr"
    ),
    "bs=4": "bs=4 names no known key; the nearest is data.batch_size",
    "+epochs=3": "+epochs=3 adds a key that nothing reads; the nearest is trainer.max_epochs",
    "++qwertz=3": "++qwertz=3 adds a key that nothing reads; leave it out",
    "model.dilations=[1,2": (
        "model.dilations=[1,2 cannot be read; close its brackets and quotes, or make its value a "
        "text: 'model.dilations=\"[1,2\"'"
    ),
    "data.root=a=b": (
        "data.root=a=b cannot be read; close its brackets and quotes, or make its value a text: "
        "'data.root=\"a=b\"'"
    ),
    "model.depth=3,4": (
        "model.depth=3,4 stands for several runs; add -m to run them, or write model.depth=[3,4] "
        "for a list"
    ),
    "model=unet,unet_small": ("model=unet,unet_small stands for several runs; add -m to run them"),
    "augment=flips,blur": (
        "augment=flips,blur stands for several runs; add -m to run them, or write "
        "augment=[flips,blur] for a list"
    ),
    "seed=range(3)": "seed=range(3) stands for several runs; add -m to run them",
    "-m model=unet,unett": f"model=unett is not a choice; the nearest is model=unet, {UNETS}",
    "-m modle.depth=3,4": "modle.depth=3 names no known key; the nearest is model.depth",
    "-m optimizer=sgd,adam optimizer.momentum=0.9": (
        f"optimizer.momentum=0.9 {NO_KEY} (in the run with optimizer=adam)"
    ),
    **{
        f"-m seed=1,2 {key}=x": f"{key}=x has no effect on a sweep, where each job has its own "
        "folder; name the folder of the sweep: sweep_name=NAME, or hydra.sweep.dir=FOLDER"
        for key in ("output_dir", "hydra.run.dir", "hydra.sweep.subdir")
    },
    "hydra.run.dir={tmp}/file/run": (
        "hydra.run.dir={tmp}/file/run cannot be written, {tmp}/file is a file; name another folder"
    ),
    "-m hydra.sweep.dir={tmp}/file": (
        "hydra.sweep.dir={tmp}/file cannot be written, {tmp}/file is a file; name another folder"
    ),
}


@pytest.mark.parametrize(("line", "sentence"), BAD.items(), ids=BAD)
def test_a_bad_override_is_answered_by_its_sentence(
    line: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    arguments = line.replace("{tmp}", str(tmp_path)).split()
    expected = sentence.replace("{tmp}", str(tmp_path))
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        check_overrides(CONFIGS, "train", arguments)


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("evaluate", "spilt=val", "spilt=val names no known key; the nearest is split"),
        ("evaluate", "model.depth=3", f"model.depth=3 {NO_KEY}"),
        (
            "evaluate",
            "data=liver",
            "data=liver is nothing to choose in this command; set single keys, such as data.root",
        ),
        (
            "predict",
            "~trainer",
            "~trainer is nothing to choose in this command; set single keys, such as "
            "trainer.accelerator",
        ),
        ("predict", "model=unet", "model=unet is nothing to choose in this command; leave it out"),
        ("predict", "sorce=a.png", "sorce=a.png names no known key; the nearest is source"),
        ("check", "data.rot=DIR", "data.rot=DIR names no known key; the nearest is data.root"),
        (
            "predict",
            f"output_dir={FILE}/out",
            f"output_dir={FILE}/out cannot be written, {FILE} is a file; name another folder",
        ),
        (
            "predict",
            "output_dir=???",
            "output_dir is not set; add output_dir=FOLDER to the command",
        ),
        (
            "convert",
            "source=a",
            "output_dir is not set; add output_dir=FOLDER to the command",
        ),
    ],
)
def test_the_other_commands_have_their_own_keys(name: str, line: str, sentence: str) -> None:
    needed = [] if name in ("check", "convert") else ["ckpt_path=a.ckpt"]
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_overrides(CONFIGS, name, [*needed, line])


def test_predict_may_write_beside_its_source(tmp_path: Path) -> None:
    words = ["ckpt_path=a.ckpt", f"source={tmp_path}", f"output_dir={tmp_path}"]
    check_overrides(CONFIGS, "predict", words)


@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("convert", "source={0} labels=a output_dir={0}/", "source"),
        ("convert", "source=[{0}/a.nii,{0}] labels=a output_dir={0}/../{1}", "source"),
        ("convert", "source={0} labels=a output_dir={0}/link", "source"),
        ("convert", "source={0} labels=a output_dir=/out hydra.run.dir={0}/link", "source"),
        ("convert", "source=a labels={0} output_dir={0}", "labels"),
        ("evaluate", "predictions={0} output_dir={0}", "predictions"),
        ("evaluate", "data.root={0} output_dir={0}", "data.root"),
        ("compare", "runs=[{0},b] output_dir={0}", "runs"),
        ("train", "data=liver data.root={0} hydra.run.dir={0}", "data.root"),
    ],
)
def test_what_is_written_does_not_lie_among_what_is_read(
    name: str, line: str, key: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    words = line.format(tmp_path, tmp_path.name).split()
    words += ["ckpt_path=a.ckpt"] if name in ("predict", "evaluate") else []
    with pytest.raises(ValueError, match=rf" is the folder of {key} too, and what is written wou"):
        check_overrides(CONFIGS, name, words)
    words = [word.replace("output_dir=", "output_dir=/tmp/o") for word in words]
    words = [word.replace("run.dir=", "run.dir=/tmp/o") for word in words]
    check_overrides(CONFIGS, name, words)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "data=liver 'data.root=/a/folder/that is/not/there'",
        "+trainer.limit_val_batches=2 ++trainer.enable_progress_bar=false ~callbacks.dashboard",
        "loss.losses.0.smooth=2 trainer.devices=[0,1]",
        """'data.case_pattern="^(.+)_x$"'""",
        "hydra.run.dir=logs/mine hydra/launcher=basic hydra.job.chdir=false",
        "experiment=tutorial",
        "resume=RUN resume_overrides=[trainer.max_epochs=40]",
        "-m model=unet,unet_small model.depth=3,4 seed=range(3) trainer.max_epochs=choice(1,2)",
        "-m model=glob(*) optimizer.lr=interval(1e-4,1e-2)",
        "resume=last trainer.whatever=3",
        "+patient=3 'data.root=/x/${patient}' ++seed=3",
    ],
)
def test_a_good_command_line_passes(line: str) -> None:
    check_overrides(CONFIGS, "train", shlex.split(line))


@pytest.mark.parametrize(
    ("name", "line", "added"),
    [
        ("train", "output_dir=/a/run", ["hydra.run.dir=/a/run"]),  # config and log lie there too
        (
            "train",
            "'output_dir=\"~/run\"'",
            ["output_dir=/home/me/run", "hydra.run.dir=/home/me/run"],
        ),
        ("train", "output_dir=/a/run hydra.run.dir=/a/log", []),
        ("train", "'hydra.run.dir=\"~/run\"'", ["hydra.run.dir=/home/me/run"]),
        ("convert", "source=a labels=b output_dir=/a/pairs", []),
    ],
)
def test_a_folder_that_is_named_holds_all_of_a_run(
    name: str, line: str, added: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("liverseg.settings.commandline.what_blocks", lambda _: "")
    assert check_overrides(CONFIGS, name, shlex.split(line)) == added


@pytest.mark.parametrize(
    "flags",
    [
        ["--help"],
        ["--hydra-help"],
        ["--cfg", "job"],
        ["-c", "all"],
        ["--info", "all"],
        ["-sc", "install=bash"],
        ["--config-path", "elsewhere"],
    ],
    ids=" ".join,
)
def test_a_question_to_hydra_is_left_to_hydra(flags: list[str]) -> None:
    check_overrides(CONFIGS, "train", [*flags, "modle=3"])


def test_the_config_that_is_named_is_the_one_that_counts(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("one: 1\n")
    (tmp_path / "mine.yaml").write_text("two: 2\n")
    check_overrides(tmp_path, "train", ["--config-name", "mine", "two=3"])
    with pytest.raises(ValueError, match=r"^one=3 names no known key"):
        check_overrides(tmp_path, "train", ["-cn", "mine", "one=3"])


def test_what_lies_in_a_folder_of_one_s_own_is_known(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: liverseg.network.UNet\nrate: 1\n")
    mine = ["--config-dir", str(tmp_path), "model=mine"]
    assert check_overrides(CONFIGS, "train", [*mine, "model.rate=2"]) == []
    added = check_overrides(CONFIGS, "train", [*mine, f"output_dir={tmp_path / 'run'}"])
    assert added == [f"hydra.run.dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=r"^model\.rat=2 names no known key; .* model\.rate$"):
        check_overrides(CONFIGS, "train", [*mine, "model.rat=2"])
    with pytest.raises(ValueError, match=r"^model=min is not a choice; the nearest is model=mine"):
        check_overrides(CONFIGS, "train", [*mine[:2], "model=min"])
    with pytest.raises(ValueError, match=r"^--config-dir elsewhere is no folder; name one of"):
        check_overrides(CONFIGS, "train", ["--config-dir", "elsewhere", "model=mine"])


def test_what_cannot_be_explained_is_left_to_hydra(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("defaults: [nowhere]\n")
    check_overrides(tmp_path, "train", ["a.b=3"])
    check_overrides(tmp_path, "absent", ["a.b=3"])


def test_the_sentence_goes_to_stderr_and_the_status_is_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "model=unett"])
    with pytest.raises(SystemExit) as caught:
        refuse_bad_overrides(str(ROOT / "train.py"), "train")
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"model=unett is not a choice; the nearest is model=unet, {UNETS}\n"


def test_one_variable_brings_the_tracebacks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py", "model=unett"])
    refuse_bad_overrides(str(ROOT / "train.py"), "train")
    monkeypatch.setattr(sys, "argv", ["train.py", "output_dir=here"])  # is where all of a run lies
    refuse_bad_overrides(str(ROOT / "train.py"), "train")
    assert sys.argv[1:] == ["output_dir=here", "hydra.run.dir=here"]


def test_options_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "model=unet", "-cd", "tests", "a=1", "-m"])
    prepare_command()
    assert sys.argv == ["train.py", "-cd", "tests", "-m", "model=unet", "a=1"]
    monkeypatch.setattr(sys, "argv", ["train.py", "model=unet", "-m", "seed=1,2"])
    prepare_command()
    assert sys.argv == ["train.py", "-m", "model=unet", "seed=1,2"]
    refuse_bad_overrides(str(ROOT / "train.py"), "train")


def test_torch_is_set_up_where_the_user_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    prepare_command()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


@pytest.mark.parametrize(
    "name", ["0_seed=1", "a,b", "liver (1)", "it's", "[a]", 'say "x"', "{a}", "plain-1.0", "ä b"]
)
def test_a_path_may_hold_any_character(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name / "best.ckpt"
    file.parent.mkdir()
    file.touch()
    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"ckpt_path={file}", "split=val"])
    prepare_command()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("evaluate", sys.argv[1:])
    assert config.ckpt_path == str(file)
    assert config.split == "val"


@pytest.mark.parametrize("typed", ["{bone: 1, Läsion: [2, 3]}", "{bone:1,Läsion:[2,3]}"])
def test_names_in_a_mapping_may_hold_any_letter(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["convert.py", "source=a", f"classes={typed}"])
    prepare_command()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("convert", sys.argv[1:])
    expand_home(config)
    assert config.classes == {"bone": 1, "Läsion": [2, 3]}


def test_what_is_no_path_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    typed = ["seed=1,2", "resume=a=b", "'data.root=a=b'", "data.root='a=b'", "~scheduler", "a b"]
    monkeypatch.setattr(sys, "argv", ["train.py", *typed])
    prepare_command()
    assert sys.argv[1:] == typed


@pytest.mark.slow
def test_a_good_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from liverseg.settings.commandline import check_overrides\n"
        f"check_overrides(Path({str(CONFIGS)!r}), 'train', ['model.depth=3'])\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.slow
def test_a_sweep_and_a_search_leave_what_is_heavy_to_their_jobs() -> None:
    code = (
        "import sys, liverseg.sweeps.sweep, liverseg.sweeps.search\n"
        "assert not {'torch', 'lightning', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_nearest_word_ignores_case_and_completes_a_beginning() -> None:
    assert nearest("Unet", ["UNet", "ConvBlock"]) == "UNet"
    assert nearest("tut", ["tutorial", "liver_cpu"]) == "tutorial"
    assert nearest("resnet", ["unet_dilated"]) is None
    assert nearest("", ["a"]) is None
    assert nearest_key("lr", ["optimizer.lr", "scheduler.gamma"]) == "optimizer.lr"
    assert nearest_key("image_size", ["data.phantom.image_size", "data.image_size"]) == (
        "data.image_size"
    )
    assert nearest_key("zzz", ["a.b"]) is None
    assert nearest_key("a", []) is None


def test_a_folder_is_blocked_by_a_file_or_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert what_blocks(tmp_path / "new" / "deep") is None
    assert what_blocks(tmp_path) is None
    assert what_blocks(tmp_path / "file" / "run") == f"{tmp_path}/file is a file"
    assert what_blocks(tmp_path / "link" / "run") == f"{tmp_path}/link is a link to nothing"


@pytest.mark.parametrize("typed", ["model=smp_unet", "model=unet,smp_unet"])
def test_a_choice_whose_package_is_missing_is_refused_before_anything_starts(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commandline, "find_spec", lambda name: None)
    sentence = r"^model=smp_unet needs a package that is not installed; pip install 'liverseg\[netw"
    with pytest.raises(ValueError, match=sentence):
        check_overrides(CONFIGS, "train", ["-m", typed, "data.root=x"])
