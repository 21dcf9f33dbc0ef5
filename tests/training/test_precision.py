from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from liverseg.checkpoints import load_checkpoint
from liverseg.experiment import evaluate, train
from liverseg.training import fast_memory_format, fast_precision

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("features", "precision", "why"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16-mixed", "the processor has AMX"),
        ({"avx512_bf16": True}, "bf16-mixed", "the processor has AVX512-BF16"),
        (
            {"amx_bf16": False, "avx512_f": True},
            "32-true",
            "the processor has neither AMX nor AVX512-BF16",
        ),
    ],
)
def test_a_processor_computes_in_bf16_where_it_has_instructions_for_it(
    features: dict[str, bool], precision: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert fast_precision("cpu") == (precision, why)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([(9, 0)], "bf16-mixed"),
        ([(8, 0), (8, 6)], "bf16-mixed"),
        ([(9, 0), (7, 5)], "16-mixed"),  # the weakest of several decides
        ([(6, 1)], "32-true"),
    ],
)
def test_gpus_compute_in_what_the_oldest_of_them_is_fast_in(
    capabilities: list[tuple[int, int]], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for accelerator in ("auto", "gpu", "cuda"):
        assert fast_precision(accelerator)[0] == precision
    assert fast_precision("mps")[0] == "32-true"


@pytest.mark.parametrize(
    ("device", "capability", "width", "is_last"),
    [
        ("cpu", "AVX2", 64, False),
        ("cpu", "AVX2", 48, False),
        ("cpu", "AVX2", 32, True),
        ("cpu", "AVX512", 64, True),
        ("cpu", "DEFAULT", 64, True),
        ("cuda", "AVX2", 64, True),
    ],
)
def test_channels_come_last_in_memory_but_in_wide_networks_with_avx2_alone(
    device: str, capability: str, width: int, is_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, width, 3), nn.Conv2d(width, 1, 1))
    found = fast_memory_format(torch.device(device), net)
    assert found is (torch.channels_last if is_last else torch.contiguous_format)
    assert fast_memory_format(torch.device(device), nn.Identity()) is torch.channels_last


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_that_it_began_in(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    config = compose(["trainer.precision=auto"])
    scores = train(config)
    assert "on cpu, in bf16-mixed, since the processor has AMX" in caplog.text
    assert config.trainer.precision == "auto"  # config.yaml says what was asked for
    checkpoints = f"{config.output_dir}/checkpoints"
    record = load_checkpoint(f"{checkpoints}/best.ckpt")["liverseg"]["config"]
    assert record["trainer"]["precision"] == "bf16-mixed"

    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # another computer
    again = evaluate(compose([f"ckpt_path={checkpoints}/best.ckpt"], name="evaluate"))
    assert again["test/loss"] == scores["test/loss"]
    asked = [f"ckpt_path={checkpoints}/best.ckpt", "+trainer.precision=auto"]
    other = evaluate(compose(asked, name="evaluate"))  # in 32 bits, which is fast there
    assert other["test/loss"] != scores["test/loss"]
    config.resume = f"{checkpoints}/last.ckpt"
    config.trainer.max_epochs = 2
    train(config)
    assert "on cpu, in bf16-mixed as it began" in caplog.text
    record = load_checkpoint(f"{checkpoints}/last.ckpt")["liverseg"]["config"]
    assert record["trainer"]["precision"] == "bf16-mixed"
