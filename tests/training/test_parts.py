"""Frozen parts stay as they are to the bit; rates of parts keep their ratio under a schedule."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from liverseg.checkpoints import load_checkpoint, load_task
from liverseg.experiment import train
from liverseg.network import UNet
from liverseg.training import Freezing, Muon, with_rates

Compose = Callable[..., DictConfig]


def small() -> UNet:
    return UNet(in_channels=1, num_classes=1, depth=1, width=2)


def state_of(file: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(file)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [None, 2])
def test_a_frozen_part_is_the_same_to_the_bit_with_its_norms(
    epochs: int | None, compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liverseg")
    train(compose(["data.batch_size=3", f"output_dir={tmp_path / 'first'}"]))
    first = tmp_path / "first" / "checkpoints" / "best.ckpt"
    last = f"freeze_epochs={epochs or 'null'}"
    train(compose([f"weights={first}", "freeze=[encoder]", last, "trainer.max_epochs=2", "seed=1"]))
    before, after = state_of(first), state_of(tmp_path / "run" / "checkpoints" / "last.ckpt")
    for name, value in after.items():
        same = torch.equal(value, before[name])
        assert same if name.startswith("net.encoder") else not same or "bias" in name, name
    until = f" for {epochs} epochs" if epochs else ""
    assert f"parameters (4,668 frozen{until}), on cpu" in caplog.text
    load_task(load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt"))


@pytest.mark.slow
def test_a_part_thaws_after_its_epochs(compose: Compose, tmp_path: Path) -> None:
    settings = [
        "data.batch_size=3",
        "freeze=[encoder.0]",
        "freeze_epochs=1",
        "callbacks.last.dirpath=${output_dir}",
    ]
    train(compose(settings))
    frozen = state_of(tmp_path / "run" / "last.ckpt")
    train(compose([*settings, "trainer.max_epochs=2", "scheduler=constant"]))
    thawed = state_of(tmp_path / "run" / "last.ckpt")
    names = [name for name in frozen if name.startswith("net.encoder.0.")]
    assert len(names) > 8
    assert not any(torch.equal(frozen[name], thawed[name]) for name in names)
    assert frozen["net.encoder.0.layers.1.num_batches_tracked"] == 0
    assert thawed["net.encoder.0.layers.1.num_batches_tracked"] == 2


@pytest.mark.slow
def test_a_run_with_frozen_parts_and_rates_resumes_exactly(
    compose: Compose, tmp_path: Path
) -> None:
    settings = [
        *("data.batch_size=3", "freeze=[encoder]", "freeze_epochs=2", "scheduler.T_max=4"),
        "optimizer_parts={encoder: 0.1, classify: 2}",
    ]
    whole, halves = f"output_dir={tmp_path / 'whole'}", f"output_dir={tmp_path / 'halves'}"
    train(compose([*settings, whole, "trainer.max_epochs=4"]))
    for epochs in (1, 3, 4):
        last = tmp_path / "halves" / "checkpoints" / "last.ckpt"
        resume = [f"resume={last}"] if last.exists() else []
        train(compose([*settings, halves, *resume, f"trainer.max_epochs={epochs}"]))
    one, two = (
        state_of(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("whole", "halves")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("optimizer", [partial(one, lr=0.4) for one in (SGD, AdamW, Muon)])
def test_parts_learn_at_their_rates_and_a_schedule_keeps_the_ratio(optimizer: partial) -> None:
    net = small()
    made = with_rates(optimizer, net, {"encoder": 0.5, "encoder.1": 0.25, "classify": 0})
    found = made(net.parameters())
    assert [group["lr"] for group in found.param_groups] == [0.4, 0.2, 0.1, 0]
    of_group = [sum(one.numel() for one in group["params"]) for group in found.param_groups]
    deep = sum(one.numel() for one in net.encoder[1].parameters())
    assert of_group[2] == deep
    assert sum(of_group) == sum(one.numel() for one in net.parameters())
    schedule = CosineAnnealingLR(found, T_max=4)
    found.step()
    schedule.step()
    rates = [group["lr"] for group in found.param_groups]
    assert rates[1] / rates[0] == pytest.approx(0.5)
    assert rates[2] / rates[0] == pytest.approx(0.25)
    plateau = ReduceLROnPlateau(made(net.parameters()), patience=0, factor=0.1)
    plateau.step(1.0)
    plateau.step(1.0)
    assert plateau.optimizer.param_groups[1]["lr"] == pytest.approx(0.02)


def test_parameters_of_a_loss_learn_at_the_rate_of_what_is_in_no_part() -> None:
    net, of_loss = small(), nn.Parameter(torch.zeros(2))
    found = with_rates(partial(SGD, lr=0.4), net, {"encoder": 0.5})([*net.parameters(), of_loss])
    assert [any(one is of_loss for one in group["params"]) for group in found.param_groups] == [
        *(True, False),
    ]


def test_without_rates_an_optimizer_is_made_as_before() -> None:
    make = partial(SGD, lr=0.4)
    assert with_rates(make, small(), {}) is make


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["freeze=[encodr]"], r"^freeze: UNet has no part encodr with weights; its parts are enco"),
        (["optimizer_parts={x: 0.1}"], "^optimizer_parts: UNet has no part x with weights"),
        (["freeze=[encoder,decoder,classify]"], r"leaves no weight to train; freeze fewer parts"),
        (["freeze_epochs=2"], "^freeze_epochs=2 has no effect without a part to freeze; add"),
        (["weights=none.ckpt"], r"^weights=none\.ckpt does not exist; name a file such as"),
        (["weights=."], r"^weights=\. is a folder; name a file such as RUN/checkpoints/best"),
        (["weights=model.onnx"], r"^weights=model\.onnx is an exported file.* checkpoint that it"),
        (["freeze=encoder"], r"^freeze=encoder must be a list of parts of the network, such as"),
        (["optimizer_parts={encoder: -1}"], "must be a mapping of parts to factors of the rate"),
    ],
)
def test_what_cannot_be_started_from_is_refused_in_a_sentence(
    settings: list[str], sentence: str, compose: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        train(compose(settings))
    assert not (tmp_path / "run").exists()


def test_parameters_that_are_frozen_are_counted() -> None:
    net = small()
    count = sum(one.numel() for one in net.encoder.parameters())
    assert str(Freezing(net, ["encoder"])) == f" ({count:,} frozen)"
    assert str(Freezing(net, ["encoder", "encoder.0"], 3)) == f" ({count:,} frozen for 3 epochs)"
    assert str(Freezing(net, [])) == ""


@pytest.mark.slow
def test_weights_of_the_same_classes_in_another_order_are_told(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three = ["data.num_classes=3", "data.mask_values=[0,255,2]"]
    train(compose([*three, "data.class_names=[spleen,liver]"]))
    weights = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    torch.save(weights, tmp_path / "first.ckpt")
    for names, are_told in {"[liver,spleen]": True, "[spleen,liver]": False}.items():
        caplog.clear()
        changes = [*three, f"data.class_names={names}", "seed=1"]
        train(compose([*changes, f"weights={tmp_path / 'first.ckpt'}"]))
        assert ("has the classes spleen, liver, in another order than" in caplog.text) is are_told


@pytest.mark.slow
def test_a_network_of_another_width_is_warned_about_in_some_lines(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liverseg")
    wide = UNet(in_channels=1, num_classes=1, depth=2, width=6)
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    train(compose([f"weights={tmp_path / 'wide.pt'}"]))
    (warning,) = [one for one in caplog.records if "starting from" in one.getMessage()]
    assert warning.levelname == "WARNING"
    assert caplog.text.count("it starts anew") == 20
    assert re.search(r"and \d+ more; is it the same network, at the same width\?", caplog.text)


@pytest.mark.slow
def test_weights_of_another_shape_are_told_and_the_run_needs_them_once(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liverseg")
    file = tmp_path / "plain.pt"
    torch.save(UNet(in_channels=3, num_classes=1, depth=2, width=4).state_dict(), file)
    train(compose([f"weights={file}", "freeze=[encoder.0]"]))
    assert "it starts anew, and freeze=[encoder.0] keeps it so; freeze fewer" in caplog.text
    assert re.search(r"starting from .*plain\.pt: (\d+) of (\d+) weights taken", caplog.text)
    assert "encoder.0.layers.0.weight is [4, 3, 3, 3] there and [4, 1, 3, 3] here" in caplog.text
    assert not [
        one for one in caplog.records if one.levelname == "WARNING" and "starting" in one.msg
    ]
    file.unlink()
    load_task(load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt"))
