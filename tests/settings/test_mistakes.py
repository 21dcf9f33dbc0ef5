from pathlib import Path

import pytest
import torch
from hydra.errors import CompactHydraException
from hydra.utils import instantiate
from torch.utils.data import DataLoader

from liverseg.data.pairs import MaskReader, PairDataset, find_pairs
from liverseg.network.unet import UNet
from liverseg.settings.mistakes import find_sentence, told_in_one_sentence


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


def test_an_error_of_others_passes_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="size"), told_in_one_sentence():
        torch.zeros(2) + torch.zeros(3)
    with pytest.raises(ValueError, match="invalid literal"), told_in_one_sentence():
        int("a word")


def test_our_bugs_pass_as_they_are() -> None:
    with pytest.raises(AttributeError), told_in_one_sentence():
        UNet(1, 1, depth=1, width=1)(None)


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
