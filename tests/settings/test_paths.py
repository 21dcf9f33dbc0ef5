import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from liverseg.settings.commandline import check_overrides, prepare_command
from liverseg.settings.paths import expand_home

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.root=~/x", "data.root={home}/x"),
        ("output_dir=~", "output_dir={home}"),
        ('output_dir="~/preds"', 'output_dir="{home}/preds"'),
        ("ckpt_path=[~/a.ckpt,~/b.ckpt]", "ckpt_path=[{home}/a.ckpt,{home}/b.ckpt]"),
        ("ckpt_path=[0_a=1.ckpt,b=2.ckpt]", "ckpt_path=['0_a=1.ckpt',b=2.ckpt]"),
        ("ckpt_path=[1_s=[16,16].ckpt,b]", "ckpt_path=['1_s=[16,16].ckpt',b]"),
        ("runs=[0_a=1.ckpt,b]", "runs=['0_a=1.ckpt',b]"),
        ("resume=~/run", "resume={home}/run"),
        ("source=a~b", "source=a~b"),
        ("~scheduler", "~scheduler"),
        ("source=2024", "source='2024'"),
        ("seed=2024", "seed=2024"),
        ("sweep_name=Größen", "sweep_name='Größen'"),
        ("output_dir=Läufe/seed=1", "output_dir='Läufe/seed=1'"),
        ("data.class_names=[Drüse,Leber]", "data.class_names=['Drüse',Leber]"),
        ("data.class_names=['Drüse',Leber]", "data.class_names=['Drüse',Leber]"),
        ("resume=Läufe/1", "resume=Läufe/1"),
    ],
)
def test_a_typed_path_is_read_as_the_shell_would(
    typed: str, read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    (tmp_path / "0_a=1.ckpt").touch()
    (tmp_path / "1_s=[16,16].ckpt").touch()
    monkeypatch.setattr(sys, "argv", ["train.py", typed])
    prepare_command()
    assert sys.argv[1:] == [read.replace("{home}", "/home/ada")]


def test_the_paths_of_a_config_are_expanded_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = OmegaConf.create(
        {"data": {"root": "~/x", "seed": 5}, "ckpt_path": ["~/a", "b"], "source": 2024, "name": "~"}
    )
    config.name = "a~/b"
    expand_home(config)
    assert config == {
        "data": {"root": "/home/ada/x", "seed": 5},
        "ckpt_path": ["/home/ada/a", "b"],
        "source": "2024",
        "name": "a~/b",
    }


def test_the_folder_that_hydra_makes_is_expanded_where_a_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("output_dir: ~/preds\nhydra: {run: {dir: ~/preds}}\n")
    assert check_overrides(tmp_path, "mine", []) == [f"hydra.run.dir={tmp_path}/preds"]


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("evaluate", "~split", "split is missing from the config; leave out ~split, or set it"),
        ("evaluate", "output_dir=null", "output_dir=null must be a folder"),
        ("train", "hydra.run.dir=", "hydra.run.dir= must be a folder; leave it out"),
        ("train", "-m hydra.sweep.dir=", "hydra.sweep.dir= must be a folder; leave it out"),
        ("train", "-m seed=1,2 sweep_name=", "sweep_name= must be a name"),
        ("train", "-m seed=1,2 sweep_name={}", "sweep_name={} must be a name"),
        ("train", "-m seed=1,2 --cfg job", "--cfg shows the config of one run; leave out -m"),
    ],
)
def test_what_would_end_in_nothing_is_refused(name: str, line: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared below
        check_overrides(CONFIGS, name, line.split())
    assert str(caught.value).startswith(sentence)
