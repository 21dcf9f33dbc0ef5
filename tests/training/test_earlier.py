"""Files of earlier releases; ``format_1.ckpt`` was written by commit 0d2889e."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from liverseg.checkpoints import load_checkpoint, load_task
from liverseg.experiment import evaluate
from liverseg.network import UNet
from liverseg.training import SegmentationTask, SoftDiceLoss, bring_up_to_date, with_names_of_today

FORMAT_1 = Path(__file__).with_name("format_1.ckpt")
SCORES = {  # what that release printed of the file, on the val pairs of conftest.py
    "val/loss": 0.5667685866355896,
    "val/dice": 0.9641947170141503,
    "val/iou": 0.9311719069742691,
    "val/dice_pooled": 0.9654135338345865,
    "val/iou_case": 0.9313927008793401,
}


def test_a_checkpoint_of_format_1_scores_as_it_did(
    compose: Callable[..., DictConfig], pair_root: Path
) -> None:
    overrides = [f"ckpt_path={FORMAT_1}", "split=val", f"data.root={pair_root}"]
    scores = evaluate(compose(overrides, "evaluate"))
    assert {name: scores[name] for name in SCORES} == pytest.approx(SCORES, abs=1e-6)


def test_a_run_of_format_1_goes_on_where_it_stood() -> None:
    before = load_checkpoint(FORMAT_1)
    assert before["liverseg"]["config"]["model"]["_target_"] == "liverseg.network.UNet"
    after, task = copy.deepcopy(before), load_task(copy.deepcopy(before))
    bring_up_to_date(after, task)
    name = "net.decoder.0.fuse.layers.0.weight"
    (number,) = [place for place, (one, _) in enumerate(task.named_parameters()) if one == name]
    moments = [one["optimizer_states"][0]["state"][number] for one in (before, after)]
    for old, new in (
        (before["state_dict"][name], after["state_dict"][name]),
        *((moments[0][key], moments[1][key]) for key in ("exp_avg", "exp_avg_sq")),
    ):
        assert torch.equal(new, torch.cat([old[:, 4:], old[:, :4]], dim=1))
        assert not torch.equal(new, old)
    untouched = before["optimizer_states"][0]["state"][number - 1]
    assert torch.equal(
        untouched["exp_avg"], after["optimizer_states"][0]["state"][number - 1]["exp_avg"]
    )


def test_a_checkpoint_is_brought_up_to_date_once() -> None:
    net = UNet(1, 1, 2, 4)
    task = SegmentationTask(net=net, loss=SoftDiceLoss(), num_classes=1, class_names=["liver"])
    weights = {name: value.clone() for name, value in task.state_dict().items()}
    average = {name: value.clone() for name, value in weights.items()}
    checkpoint = {
        "liverseg": {},
        "state_dict": weights,
        "callbacks": {"average": average},
    }
    bring_up_to_date(checkpoint, task)
    once = weights["net.decoder.1.fuse.layers.0.weight"].clone()
    assert torch.equal(average["net.decoder.1.fuse.layers.0.weight"], once)
    assert torch.equal(once.roll(4, dims=1), net.decoder[1].fuse.layers[0].weight)
    bring_up_to_date(checkpoint, task)
    assert torch.equal(weights["net.decoder.1.fuse.layers.0.weight"], once)


def test_names_of_today_stand_at_any_depth_and_others_stay() -> None:
    old = {
        "_target_": "liverseg.losses.SumLoss",
        "losses": [{"_target_": "liverseg.losses.SoftDiceLoss"}, {"_target_": "mine.Loss"}],
    }
    assert with_names_of_today(old) == {
        "_target_": "liverseg.training.SumLoss",
        "losses": [{"_target_": "liverseg.training.SoftDiceLoss"}, {"_target_": "mine.Loss"}],
    }


def test_a_config_from_before_blocks_has_whole_matrices() -> None:
    muon = {"_target_": "liverseg.training.Muon", "largest_side": 128}
    assert with_names_of_today({"optimizer": muon})["optimizer"]["block"] == 128
    assert with_names_of_today(muon | {"block": 32})["block"] == 32
    assert with_names_of_today(muon | {"largest_side": 0})["block"] == 1  # which has no matrix
