import errno
import logging
import re
import sys
from pathlib import Path

import pytest
from hydra._internal import utils
from hydra.errors import CompactHydraException, ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from torch.utils.data import DataLoader

from liverseg.data.masks import MaskReader
from liverseg.data.pairs import find_pairs
from liverseg.data.samples import PairDataset
from liverseg.network.unet import UNet
from liverseg.runs.files import write_text
from liverseg.settings.mistakes import find_sentence, sentence_of, told_in_one_sentence


def test_an_error_of_ours_becomes_its_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(CompactHydraException, match=r"^data folder .*none does not exist; set"),
        told_in_one_sentence(),
    ):
        find_pairs(tmp_path / "none")


def test_an_error_inside_instantiate_is_found() -> None:
    with pytest.raises(Exception, match="Error in call to target") as caught:
        instantiate({"_target_": "liverseg.network.UNet", "depth": 0, "width": 1}, 1, 1)
    assert find_sentence(caught.value) == "model.depth=0 must be at least 1"


def test_an_error_of_others_is_told_with_its_place_and_the_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(CompactHydraException) as caught, told_in_one_sentence():
        int("a word")
    assert re.fullmatch(
        r"invalid literal for int\(\) with base 10: 'a word' \(ValueError in test_mistakes.py, "
        r"line \d+\); HYDRA_FULL_ERROR=1 in front of the command shows the traceback",
        str(caught.value),
    )


def test_of_what_was_typed_that_is_named_which_an_error_speaks_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=1", "+trainer.profiler=abc"])
    said = sentence_of(RuntimeError("the `profiler` is unknown"))
    assert said.startswith("+trainer.profiler=abc: the `profiler` is unknown (RuntimeError); ")
    said = sentence_of(RuntimeError(""))
    assert said.startswith("seed=1, +trainer.profiler=abc: RuntimeError (RuntimeError); ")


def test_a_part_that_cannot_be_made_is_told_with_its_key() -> None:
    config = {"net": {"_target_": "torch.nn.Conv2d", "in_channels": 1}}
    with pytest.raises(Exception, match="Error in call to target") as caught:
        instantiate(config)
    assert sentence_of(caught.value).startswith("net: ")
    assert "missing 2 required positional arguments" in sentence_of(caught.value)


def test_a_reference_to_nothing_names_both_ends() -> None:
    config = OmegaConf.create({"search": {"space": {"lr": "${x.y}"}}})
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(config, resolve=True)
    assert sentence_of(caught.value) == (
        "search.space.lr refers to x.y, which does not exist; name one that does"
    )


def test_an_error_of_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the system's own words
        write_text(tmp_path / "a", "text")  # raised within this package, but not by a raise
    assert find_sentence(caught.value) is None
    assert sentence_of(caught.value) == f"{tmp_path}/a: Is a directory"


def test_the_traceback_of_a_bug_is_in_the_log_and_comes_back_with_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(CompactHydraException), told_in_one_sentence():
            UNet(1, 1, depth=1, width=1)(None)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        with pytest.raises(AttributeError), told_in_one_sentence():
            UNet(1, 1, depth=1, width=1)(None)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    log = (tmp_path / "run.log").read_text()
    assert log.count("Traceback (most recent call last)") == 1
    assert "in forward" in log


def test_a_command_ends_with_the_sentence_of_hydra_itself() -> None:
    def fail() -> None:
        raise ConfigCompositionException("cannot compose") from KeyValidationError("no such key")

    with pytest.raises(SystemExit) as caught, told_in_one_sentence(ends_command=True):
        utils.run_and_report(fail)
    assert caught.value.code == "cannot compose no such key"


@pytest.mark.slow
def test_an_error_in_a_loaders_process_is_found(pair_root: Path) -> None:
    broken = pair_root / "train" / "patient001_slice00.png"
    pairs = find_pairs(broken.parent)
    broken.write_bytes(broken.read_bytes()[:60])
    reader = MaskReader(num_classes=1)
    dataset = PairDataset(pairs, channels=1, mask_reader=reader, normalize=lambda image: image)
    with pytest.raises(ValueError, match="DataLoader worker") as caught:
        next(iter(DataLoader(dataset, num_workers=1)))
    assert str(find_sentence(caught.value)).startswith(f"{broken} cannot be read as an image")


@pytest.mark.parametrize(("file", "start"), [("/a/run.json", "/a/run.json: "), (None, "")])
def test_a_full_disk_is_told_as_such(file: str | None, start: str) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", file)
    assert sentence_of(error) == (
        f"{start}the disk is full; free some of it, and give the command again, or name a folder "
        "on another disk"
    )
