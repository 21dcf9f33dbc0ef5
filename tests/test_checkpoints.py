import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from liverseg.checkpoints import (
    AtomicCheckpointIO,
    build,
    load_checkpoint,
    load_data,
    load_task,
    load_weights,
)
from liverseg.experiment import train
from liverseg.training.losses import SoftDiceLoss, SumLoss

MARKER = "marker_of_a_call"
MODELS = (
    *("unet", "unet_dilated", "unet_bilinear", "unet_small", "unet_paper"),
    *("unet_residual", "unet_attention"),
)


NOT_ALLOWED = (
    "the checkpoint names {target}, which is not allowed: it may build networks, losses and data "
    "of liverseg, torch.nn, torchvision.models{remedy}"
)
NOT_HERE = "the checkpoint names {target}, which this installation does not have"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("os.system", NOT_ALLOWED),
        ("builtins.eval", NOT_ALLOWED),
        ("builtins.getattr", NOT_ALLOWED),
        ("torch.load", NOT_ALLOWED),
        ("torch.hub.load", NOT_ALLOWED),
        ("functools.partial", NOT_ALLOWED),
        ("subprocess.run", NOT_ALLOWED),
        ("pathlib.Path.touch", NOT_ALLOWED),
        ("hydra.utils.instantiate", NOT_ALLOWED),
        ("liverseg.data.phantom.write_phantom", NOT_ALLOWED),
        ("liverseg.experiment.train", NOT_ALLOWED),
        ("liverseg.experiment.instantiate", NOT_ALLOWED),
        ("liverseg.checkpoints.AtomicCheckpointIO", NOT_ALLOWED),
        ("liverseg_evil.Network", NOT_ALLOWED),
        ("torch.nnx.Linear", NOT_ALLOWED),
        ("torch.nn.init.normal_", NOT_ALLOWED),
        ("liverseg.launch.os.system", NOT_HERE),
        ("torch.nn.functional.torch.load", NOT_HERE),
    ],
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_name_off_the_allowlist_is_refused_before_anything_is_called(
    target: str, sentence: str, is_nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = {"_target_": target, "_args_": [f"touch {MARKER}"], "_partial_": is_nested}
    harmless = {"_target_": "liverseg.training.SoftDiceLoss"}
    node: Any = evil
    if is_nested:
        node = {
            "_target_": "liverseg.training.SumLoss",
            "losses": [harmless, evil],
            "weights": [1],
        }
    is_strange = target.startswith("liverseg_evil")
    remedy = "; if you trust the file, add allow=[liverseg_evil]" if is_strange else ""
    expected = sentence.format(target=target, remedy=remedy)
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        build(node)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_names_a_command_runs_nothing(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    train(compose([]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    marker = tmp_path / MARKER
    for part in ("model", "loss"):
        stolen = {**checkpoint["liverseg"]["config"], part: {"_target_": "os.system"}}
        stolen[part]["command"] = f"touch {marker}"
        record = {**checkpoint["liverseg"], "config": stolen}
        torch.save({**checkpoint, "liverseg": record}, file)
        with pytest.raises(ValueError, match=r"^the checkpoint names os\.system, which is not"):
            load_task(load_checkpoint(file))
    stolen = {**checkpoint["liverseg"]["config"]}
    stolen["data"] = {**stolen["data"], "phantom": {"_target_": "os.system", "command": "true"}}
    with pytest.raises(ValueError, match=r"^the checkpoint names os\.system, which is not"):
        load_data({"liverseg": {"config": stolen}}, {})
    assert not marker.exists()


def test_a_name_that_is_allowed_but_missing_is_named() -> None:
    sentence = "the checkpoint names liverseg.network.VNet, which this installation does not have"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        build({"_target_": "liverseg.network.VNet"})


def test_parts_are_built_before_the_whole() -> None:
    dice = {"_target_": "liverseg.training.SoftDiceLoss", "smooth": 2.0, "class_weights": []}
    loss = build({"_target_": "liverseg.training.SumLoss", "losses": [dice], "weights": [3.0]})
    assert isinstance(loss, SumLoss)
    assert isinstance(loss.losses[0], SoftDiceLoss)
    assert (loss.losses[0].smooth, loss.weights) == (2.0, [3.0])


def test_a_network_of_ones_own_is_built_when_its_module_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_nets.py").write_text("from torch import nn\nclass Net(nn.Identity): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_nets.Net"}
    with pytest.raises(ValueError, match=r"if you trust the file, add allow=\[my_nets\]$"):
        build(node)
    assert type(build(node, allow=["my_nets"])).__name__ == "Net"


def test_a_function_of_an_allowed_module_is_called_if_it_says_that_it_makes_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_makers.py").write_text(
        "from __future__ import annotations\n"
        "from os import system\nfrom torch import nn\n"
        "from my_shelf import Lent, lend\n"
        "def make(width: int) -> nn.Module: return nn.Linear(width, 1)\n"
        "def untold(width): return make(width)\n"
        f"def touch() -> None: open({MARKER!r}, 'w')\n"
        "def unknown() -> Missing: touch()\n"
    )
    (tmp_path / "my_shelf.py").write_text(
        "from torch import nn\nclass Lent(nn.Identity): ...\ndef lend() -> Lent: return Lent()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    net = build({"_target_": "my_makers.make", "width": 3}, allow=["my_makers"])
    assert net.weight.shape == (1, 3)
    with pytest.raises(ValueError, match=r"; if you trust the file, add allow=\[my_makers\]$"):
        build({"_target_": "my_makers.make", "width": 3})
    for name in ("untold", "touch", "unknown"):
        sentence = rf"; say what it makes, as in def {name}\(\.\.\.\) -> nn\.Module$"
        with pytest.raises(ValueError, match=sentence):
            build({"_target_": f"my_makers.{name}"}, allow=["my_makers"])
    assert not (tmp_path / MARKER).exists()
    with pytest.raises(ValueError, match=r"torchvision\.models, my_makers$"):
        build({"_target_": "my_makers.system", "command": "true"}, allow=["my_makers"])
    for name in ("Lent", "lend"):
        remedy = (
            "; it is defined in my_shelf; if you trust the file, add allow=[my_makers,my_shelf]"
        )
        with pytest.raises(ValueError, match=f"{re.escape(remedy)}$"):
            build({"_target_": f"my_makers.{name}"}, allow=["my_makers"])
        lent = build({"_target_": f"my_makers.{name}"}, allow=["my_makers", "my_shelf"])
        assert type(lent).__name__ == "Lent"


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "os.execvp", "subprocess.run", "builtins.eval", "torch.nn.init.normal_"),
        *("torch.hub.load", "liverseg.checkpoints.building.build"),
    ],
)
def test_allow_lets_in_networks_alone(target: str) -> None:
    with pytest.raises(ValueError, match="which is not allowed"):
        build({"_target_": target}, allow=[target.partition(".")[0]])


def test_weights_are_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: Any, **__: Any) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    build({"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"})
    with torch.device("meta"):
        build({"_target_": "torchvision.models.segmentation.fcn_resnet50"})
    with pytest.raises(ValueError, match=r"names torchvision\.models\.get_model, which is not al"):
        build({"_target_": "torchvision.models.get_model", "name": "resnet18"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"in_channels": 10**7}, "asks for model.in_channels=1e+07, more than 1,048,576; take an"),
        ({"num_classes": 10**9}, "asks for model.num_classes=1e+09, more than 1,048,576; take an"),
        (
            {"in_channels": 10**6, "width": 2000},
            "net asks for a tensor of 68,665 MiB, which is",
        ),
        ({"width": 64, "depth": 6}, "weights do not fit its config: net asks for more"),
        ({"depth": 10**6}, "doubled model.depth=1000000 times makes more than 4096 channels"),
        ({"width": 4}, "net.encoder.0.layers.0.weight is [2, 1, 3, 3], and the config asks for [4"),
    ],
)
def test_a_network_larger_than_the_weights_is_refused_before_it_is_built(
    changes: dict[str, int], sentence: str
) -> None:
    plain = {"_target_": "liverseg.network.UNet", "in_channels": 1, "num_classes": 1}
    plain |= {"depth": 1, "width": 2}
    weights = {f"net.{name}": value for name, value in build(plain).state_dict().items()}
    config = {"model": {**plain, **changes}, "loss": {}, "data": {"num_classes": 1}}
    record = {"config": config | {"threshold": 0.5, "trainer": {}}, "class_names": ["liver"]}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_task({"liverseg": record, "state_dict": weights})


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("state_dict", [], "state_dict must be weights by name"),
        ("liverseg", {}, "liverseg.config must be a mapping"),
        ("config.data.num_classes", "x", "config.data.num_classes must be a number"),
        ("config.model", 3, "config.model must be a mapping"),
        ("class_names", None, "class_names must be a list of names"),
    ],
)
def test_a_part_of_another_kind_is_named(place: str, value: Any, sentence: str) -> None:
    config: dict[str, Any] = {"model": {}, "loss": {}, "data": {"num_classes": 1}, "trainer": {}}
    record = {"config": config | {"threshold": 0.5}, "class_names": ["liver"]}
    checkpoint: dict[str, Any] = {"liverseg": record, "state_dict": {}}
    node: Any = checkpoint if place in checkpoint else record
    *path, last = place.split(".")
    for name in path:
        node = node[name]
    node[last] = value
    with pytest.raises(
        ValueError, match=f"^the checkpoint is not as liverseg writes it: {sentence}"
    ):
        load_task(checkpoint)


def test_a_constructor_that_looks_at_its_numbers_is_held_to_the_same_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looking.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, size, loops=0):\n"
        "        super().__init__()\n"
        "        if float(torch.linspace(0, 1, 3)[1].item()) == 0.5:\n"
        "            self.register_buffer('grid', torch.zeros(size, size), persistent=False)\n"
        "        for _ in range(loops):\n"
        "            torch.nn.Conv2d(1, 1, 1)\n"
        "    def forward(self, image):\n"
        "        return image.repeat(1, 1, 10**5, 10**5) if len(self.grid) == 3 else image\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = {"num_classes": 1, "channels": 1}

    def load(**changes: int) -> Any:
        config = {"model": {"_target_": "looking.Net", "size": 2} | changes, "data": data}
        loss = {"_target_": "liverseg.training.CrossEntropy"}
        config |= {"loss": loss, "threshold": 0.5, "trainer": {}}
        record = {"config": config, "class_names": ["liver"], "format": 2}
        return load_task({"liverseg": record, "state_dict": {}}, ["looking"])

    assert load().net.grid.shape == (2, 2)
    with pytest.raises(ValueError, match="net asks for a tensor of 381,470 MiB"):
        load(size=316_228)
    with pytest.raises(ValueError, match="net asks for more than 20,000 operations"):
        load(loops=10**6)
    with pytest.raises(ValueError, match="net asks for a tensor of"):  # when it meets an image
        load(size=3)


@pytest.mark.parametrize("model", ["torch.nn.Upsample", "torch.nn.AdaptiveAvgPool2d"])
def test_a_network_that_blows_an_image_up_is_refused(model: str) -> None:
    arguments = {"scale_factor": 10**5} if "Up" in model else {"output_size": 10**5}
    config = {"model": {"_target_": model, **arguments}, "data": {"num_classes": 1, "channels": 1}}
    loss = {"_target_": "liverseg.training.CrossEntropy"}
    config |= {"loss": loss, "threshold": 0.5, "trainer": {}}
    record = {"config": config, "class_names": ["liver"], "format": 2}
    with pytest.raises(ValueError, match="net asks for a tensor of"):
        load_task({"liverseg": record, "state_dict": {}})


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        (3, r"returns \(1, 3, 64, 64\) for an image \(1, 3, 64, 64\), not logits \(1, 1, 64, 64\)"),
        (10**6, "net asks for a tensor of 15,625 MiB, which is out of proportion"),
    ],
)
def test_a_network_that_gives_other_logits_than_the_classes_is_refused(
    channels: int, sentence: str
) -> None:
    data = {"num_classes": 1, "channels": channels}
    config = {"model": {"_target_": "torch.nn.Identity"}, "data": data}
    loss = {"_target_": "liverseg.training.CrossEntropy"}
    config |= {"loss": loss, "threshold": 0.5, "trainer": {}}
    record = {"config": config, "class_names": ["liver"], "format": 2}
    with pytest.raises(ValueError, match=sentence):
        load_task({"liverseg": record, "state_dict": {}})


@pytest.mark.parametrize("name", ["bytearray", "Tensor"])
def test_what_makes_memory_that_no_file_holds_is_not_read(name: str, tmp_path: Path) -> None:
    class Zeros:
        def __reduce__(self) -> tuple[Any, ...]:
            return {"bytearray": bytearray, "Tensor": torch.Tensor}[name], (10**12,)

    torch.save({"liverseg": Zeros(), "state_dict": {}}, tmp_path / "zeros.ckpt")
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        load_checkpoint(tmp_path / "zeros.ckpt")


def test_a_config_whose_parts_are_shared_is_not_unfolded(tmp_path: Path) -> None:
    node: list[Any] = []
    for _ in range(40):
        node = [node, node]
    torch.save({"liverseg": {"config": node}, "state_dict": {}}, tmp_path / "shared.ckpt")
    with pytest.raises(ValueError, match="is nested too deeply, holds itself, is too large"):
        load_checkpoint(tmp_path / "shared.ckpt")


def test_a_config_that_holds_itself_is_refused() -> None:
    cyclic: dict[str, Any] = {"_target_": "torch.nn.Identity"}
    cyclic["part"] = cyclic
    with pytest.raises(ValueError, match="is nested too deeply or holds itself"):
        build(cyclic)


def test_a_compressed_archive_is_not_unfolded(tmp_path: Path) -> None:
    file = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(ValueError, match=r"bomb\.ckpt is damaged; no other lies beside it$"):
        load_checkpoint(file)


def test_weights_that_are_marked_as_a_folder_are_not_left_unread(tmp_path: Path) -> None:
    file = tmp_path / "marked.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(3)}}, file)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        name = archive.infolist()[1].filename.encode()
    content[content.rindex(name) - 8] = 0x10  # external attributes, in the directory at the end
    file.write_bytes(content)
    with zipfile.ZipFile(file) as archive:
        assert archive.infolist()[1].external_attr == 0x10
        assert archive.testzip() is None
    with pytest.raises(ValueError, match=r"marked\.ckpt is damaged; no other lies beside it$"):
        load_checkpoint(file)


def test_a_class_named_by_a_whole_config_is_refused_in_few_words() -> None:
    with pytest.raises(ValueError, match=r"names a class by what is no name$"):
        build({"_target_": str({"data": {"augment": {}}})})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt does not exist; name a checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_a_file_of_another_project_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="was not written by liverseg: it carries no config"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_a_file_that_holds_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / MARKER,)

    torch.save({"liverseg": Evil(), "state_dict": {}}, tmp_path / "evil.ckpt")
    not_read = "holds more than tensors and plain values, so it is not read"
    with pytest.raises(ValueError, match=f"{not_read}$"):
        load_checkpoint(tmp_path / "evil.ckpt")
    remedy = "; save the weights alone, with torch.save(net.state_dict(), FILE)"
    with pytest.raises(ValueError, match=f"{not_read}{re.escape(remedy)}$"):
        load_weights(tmp_path / "evil.ckpt", None)
    assert not (tmp_path / MARKER).exists()


def written(file: Path) -> Path:
    AtomicCheckpointIO().save_checkpoint(
        {"liverseg": {}, "state_dict": {"a": torch.arange(1000.0)}}, file
    )
    return file


@pytest.mark.parametrize("harm", ["cut", "flipped bit", "emptied"])
def test_a_damaged_file_is_refused_and_the_newest_whole_one_named(
    harm: str, tmp_path: Path
) -> None:
    older, good, damaged = (written(tmp_path / f"{name}.ckpt") for name in ("a", "b", "c"))
    for age, file in enumerate((damaged, good, older)):
        os.utime(file, (1000 - age, 1000 - age))
    content = bytearray(damaged.read_bytes())
    if harm == "flipped bit":
        content[content.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    keep = {"cut": len(content) // 2, "flipped bit": len(content), "emptied": 0}[harm]
    damaged.write_bytes(content[:keep])
    sentence = (
        f"{damaged} is damaged; {good} is whole: name that one, or delete the other, and its run "
        "goes on from there"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        load_checkpoint(damaged)


def test_a_damaged_file_without_another_beside_it_is_refused(tmp_path: Path) -> None:
    only = written(tmp_path / "only.ckpt")
    only.write_bytes(only.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"only\.ckpt is damaged; no other lies beside it$"):
        load_checkpoint(only)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    text, run = tmp_path / "notes.txt", tmp_path / "run"
    text.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"notes\.txt is no checkpoint; no other lies beside it$"):
        load_checkpoint(text)
    best = run / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is a folder; .* such as RUN/checkpoints/best\.ckpt$"):
        load_checkpoint(run)
    written(best)
    with pytest.raises(ValueError, match=f"name a checkpoint such as {re.escape(str(best))}$"):
        load_checkpoint(run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without space")
def test_a_full_disk_leaves_the_file_before_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "last.ckpt")
    before = file.read_bytes()
    monkeypatch.setattr("liverseg.files.uuid.uuid4", lambda: SimpleNamespace(hex="draft"))
    (tmp_path / ".draft.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last\.ckpt could not be written \(.*is still good$"):
        written(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    file = written(tmp_path / "new" / "last.ckpt")
    assert load_checkpoint(written(file))["state_dict"]["a"][5] == 5
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_file_alone_rebuilds_the_network(
    model: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    overrides = [f"model={model}", "model.width=2", "model.depth=2", "+trainer.limit_val_batches=1"]
    train(
        compose([*overrides, "+trainer.limit_train_batches=1", "+trainer.num_sanity_val_steps=0"])
    )
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(file)
    task, again = load_task(checkpoint), load_task(load_checkpoint(file))
    image = torch.rand(1, 1, 32, 32)
    state = torch.load(file, weights_only=True)["state_dict"]
    assert all(
        torch.equal(state[f"net.{key}"], value) for key, value in task.net.state_dict().items()
    )
    assert torch.equal(task(image), again(image))
    assert not task.training


@pytest.mark.slow
def test_data_comes_back_without_augmentation(
    compose: Callable[..., DictConfig], pair_root: Path, tmp_path: Path
) -> None:
    train(compose(["data.image_size=[16,24]", "data.mean=0.25"]))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    data = load_data(checkpoint, {})
    assert (data.root, data.image_size) == (pair_root, (16, 24))
    assert data.normalize(torch.tensor([[[0.25]]])).item() == 0
    first, second = data.dataset("train")[(0, 0)], data.dataset("train")[(0, 1)]
    assert torch.equal(first["image"], second["image"])
    assert load_data(checkpoint, {"root": str(tmp_path)}).root == tmp_path


@pytest.mark.slow
def test_a_checkpoint_from_before_there_were_folds_loads(
    compose: Callable[..., DictConfig], pair_root: Path, tmp_path: Path
) -> None:
    train(compose([]))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    del checkpoint["liverseg"]["config"]["data"]["fold"]
    del checkpoint["liverseg"]["config"]["data"]["num_folds"]
    for changes in ({}, {"root": str(pair_root)}, {"root": str(pair_root / ".." / "pairs")}):
        assert len(load_data(checkpoint, changes).dataset("val")) == 4


@pytest.mark.slow
def test_a_fold_is_of_the_runs_own_folder(
    compose: Callable[..., DictConfig],
    pair_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(compose(["fold=1"]))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    (pair_root.parent / "other").symlink_to(pair_root)
    monkeypatch.chdir(tmp_path)
    for changes, count in (
        ({}, 2),
        ({"root": "pairs"}, 2),
        ({"root": str(tmp_path / "other")}, 4),
        ({"root": str(tmp_path / "other"), "fold": 0}, 2),
    ):
        assert len(load_data(checkpoint, changes).dataset("val")) == count


@pytest.mark.slow
def test_weights_that_do_not_fit_the_config_are_refused(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    train(compose([]))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    checkpoint["liverseg"]["config"]["model"]["width"] = 5
    with pytest.raises(ValueError, match="the checkpoint's weights do not fit its config"):
        load_task(checkpoint)


@pytest.mark.slow
def test_the_file_says_what_made_it(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    train(compose(["data.class_names=[organ]"]))
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    record = checkpoint["liverseg"]
    assert record["class_names"] == ["organ"]
    assert "both empty = 1" in record["scores"]
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"train", "val"} == checkpoint["PairDataModule"].keys()
