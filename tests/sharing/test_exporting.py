"""A checkpoint as a file for other programs: what it gives, and what it says about itself."""

import gc
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import to_dtype

from liverseg.data import read_image
from liverseg.data.transforms import Normalize
from liverseg.experiment import evaluate, predict, train
from liverseg.network import UNet
from liverseg.prediction import Engine, ExportedNetwork, read_record
from liverseg.runs import heard
from liverseg.sharing import card, export
from liverseg.sharing.graph import ImageToClasses, to_onnx, to_program
from liverseg.sharing.parity import BATCHES, ODD_SIZES, compare, made_up
from liverseg.training import SegmentationTask

Compose = Callable[..., DictConfig]
CONFIG = {"data": {"mean": 0.5, "std": 0.2}, "trainer": {}}
NETWORKS: dict[str, dict[str, Any]] = {
    "bilinear, dilated": {"upsampling": "bilinear", "dilations": [1, 2]},
    "no padding": {"padding": "valid", "norm": "none", "dropout": 0.5},
    "three classes, instance norm": {"num_classes": 3, "norm": "instance"},
}


def graph_of(
    net: nn.Module, channels: int = 1, image_size: tuple[int, int] | None = None
) -> ImageToClasses:
    normalize = Normalize(mean=0.5, std=0.2, channels=channels)
    return ImageToClasses(net.eval(), normalize, 0.5, image_size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "name"),
    [*(("onnxruntime", name) for name in NETWORKS), ("openvino", "no padding")],
)
def test_every_network_gives_the_same_classes_at_odd_sizes(
    engine: Engine, name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    settings = {"in_channels": 1, "num_classes": 1, "depth": 1, "width": 2, **NETWORKS[name]}
    net = UNet(**settings)
    normalize = Normalize(mean=0.5, std=0.2, channels=1)
    file = tmp_path / "a.onnx"
    record = {"input": "uint8", "config": CONFIG}
    file.write_bytes(to_onnx(graph_of(net), "uint8", 1, record))
    task = SegmentationTask(
        net=net,
        loss=nn.Identity(),
        num_classes=settings["num_classes"],
        class_names=["a", "b"][: max(settings["num_classes"] - 1, 1)],
    ).eval()

    def reference(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = task(normalize(image))
        is_binary = logits.shape[1] == 1
        share = logits.sigmoid() if is_binary else logits.softmax(dim=1)
        return task.predict_classes(logits), share, logits

    # 401 is more than one tile of a network without padding.
    images = [*made_up(1), torch.randint(0, 256, (1, 30, 401)) / 255]
    found = compare(ExportedNetwork(file, takes="uint8", engine=engine), reference, images)
    assert (found.images, found.crops) == (5, len(ODD_SIZES) * len(BATCHES))
    assert found.different == 0
    assert found.refused == (3 if "instance" in name else 0)  # batches of 1 x 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small network for RGB."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("tiny") / "a.onnx"
    record = {"input": "uint8", "classes": ["background", "liver"], "config": CONFIG}
    net = UNet(in_channels=3, num_classes=1, depth=1, width=2)
    file.write_bytes(to_onnx(graph_of(net, 3), "uint8", 3, record))
    return file


@pytest.mark.slow
def test_a_file_says_what_it_is_and_is_one(tiny: Path) -> None:
    assert [one.name for one in tiny.parent.iterdir()] == ["a.onnx"]
    model = onnx.load(tiny)
    texts = {one.key: one.value for one in model.metadata_props}
    assert json.loads(texts["classes"]) == ["background", "liver"]
    sides = {
        one.name: [side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert sides == {
        "image": ["batch", 3, "height", "width"],
        "classes": ["batch", "height", "width"],
        "probabilities": ["batch", 1, "height", "width"],
        "logits": ["batch", 1, "height", "width"],
    }
    assert read_record(tiny)["config"]["data"] == {"mean": 0.0, "std": 1.0}  # normalised inside


@pytest.mark.slow
def test_a_signal_is_heard_after_openvino_has_closed_two_networks(tiny: Path) -> None:
    opened = [ExportedNetwork(tiny, takes="uint8", engine="openvino") for _ in range(2)]
    while opened:
        opened.pop(0)
        gc.collect()
    with heard(signal.SIGUSR1) as received:
        signal.raise_signal(signal.SIGUSR1)  # ends the process where its stack is gone
    assert received == [signal.SIGUSR1]


@pytest.mark.slow
def test_floats_are_taken_where_they_are_asked_for(tiny: Path, tmp_path: Path) -> None:
    net = UNet(in_channels=1, num_classes=1, depth=1, width=2)
    file = tmp_path / "a.onnx"
    file.write_bytes(to_onnx(graph_of(net), "float", 1, {}))
    image = torch.rand(1, 1, 9, 7)
    taken = ExportedNetwork(file, takes="float")(image)
    assert torch.allclose(taken, graph_of(net)(image)[2], atol=1e-5)
    with pytest.raises(ValueError, match=r"takes images of 8 bits.* with input=float"):
        ExportedNetwork(tiny, takes="uint8")(torch.rand(1, 3, 9, 7))


@pytest.mark.slow
def test_a_program_takes_a_size_of_one_and_is_opened_only_on_trust(tmp_path: Path) -> None:
    net = UNet(in_channels=1, num_classes=1, depth=1, width=2)
    file = tmp_path / "a.pt2"
    graph = graph_of(net, image_size=(24, 40))
    file.write_bytes(to_program(graph, "uint8", 1, {"input": "uint8", "config": CONFIG}))
    assert read_record(file)["input"] == "uint8"
    with pytest.raises(ValueError, match=r"can run code .* add allow=\[torch.export\]"):
        ExportedNetwork(file, takes="uint8")
    image = torch.randint(0, 256, (1, 1, 1, 1)) / 255
    opened = ExportedNetwork(file, takes="uint8", allow=["torch.export"])
    assert torch.allclose(opened(image), graph(image)[2], atol=1e-6)


def test_tiles_that_leave_seams_are_refused() -> None:
    settings: dict[str, Any] = {"padding": "valid", "norm": "none", "upsampling": "bilinear"}
    with pytest.raises(ValueError, match=r"seams.*model.upsampling=transposed"):
        graph_of(UNet(in_channels=1, num_classes=1, depth=1, width=2, **settings))


USED: dict[str, Any] = {
    **{"channels": 1, "input": "uint8", "white_value": None},
    "config": {"data": {"slices": 1}},
}


def test_the_card_says_how_several_slices_are_an_array() -> None:
    several = USED | {"channels": 3, "config": {"data": {"slices": 3}}}
    told = card._usage(several, Path("a.onnx"))
    assert "# image: an array, uint8 (N, 3, H, W): 3 slices by number, those at an end" in told
    assert "PIL" not in told
    for name in ("a.onnx", "a.pt2"):
        told = card._usage(several | {"input": "float", "white_value": 4095}, Path(name))
        assert (
            "by number, those at an end again\n# numbers of 16 bits / 4095, of 8 bits / 255, "
            in told
        )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("takes", "white", "mode"),
    [
        *(("uint8", None, mode) for mode in ("L", "RGB")),
        *(("float", None, mode) for mode in ("L", "RGB", "I;16")),
        *(("float", 4095, mode) for mode in ("L", "I;16")),
    ],
)
def test_the_example_of_the_card_reads_a_file_as_training_did(
    takes: str,
    white: int | None,
    mode: str,
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Session:
        def __init__(self, file: str) -> None:
            assert file == "a.onnx"

        def run(self, names: list[str], images: dict[str, np.ndarray]) -> list[np.ndarray]:
            seen.append(images["image"])
            return [np.zeros(1)] * len(names)

    seen: list[np.ndarray] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    if mode == "I;16":
        numbers = (np.arange(35, dtype=np.uint16) * 150).reshape(5, 7)  # up to 5100
    upright = Image.fromarray(numbers if mode != "L" else numbers[..., 0])
    upright.save("IMAGE.png", exif=turned_by(6))
    record = USED | {"input": takes, "white_value": white, "channels": channels}
    exec(card._usage(record, Path("a.onnx")).split("```")[1].removeprefix("python"), {})
    wanted = read_image(Path("IMAGE.png"), channels, white)
    assert wanted.shape == (channels, 7, 5)
    if takes == "float":
        wanted = to_dtype(wanted, torch.float32, scale=True)
    np.testing.assert_allclose(seen[0][0], wanted.numpy(), atol=1e-7)
    assert seen[0].dtype == wanted.numpy().dtype


def turned_by(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


def test_the_card_says_what_is_white_and_what_the_values_are() -> None:
    record = {
        **{"channels": 1, "input": "float", "white_value": 4095, "threshold": 0.5},
        **{"window": None, "volumes": {"window": None}, "spacing": None, "image_size": None},
        **{"precision_of_training": "32-true", "epoch": 1, "checkpoint_sha256": "", "versions": {}},
        "config": {"model": {"_target_": "UNet"}},
    }
    told = dict(card._facts(record, ""))
    assert told["white"] == "4095 in images of 16 bits, 255 in those of 8"
    assert told["window"] == "none (value + 1024, 16 bits)"
    told = dict(card._facts(record | {"input": "uint8", "volumes": None}, ""))
    assert not {"white", "window"} & set(told)


def test_the_card_says_what_its_intervals_are_over() -> None:
    scores = {"val/dice": 0.5, "val/dice_low": 0.4, "val/dice_high": 0.6}
    assert "interval over images, since no patients are known." in card._scores({"scores": scores})
    scores["val/dice_case"] = 0.5
    assert "interval over patients." in card._scores({"scores": scores})


@pytest.mark.slow
def test_another_file_than_its_network_is_found(tiny: Path) -> None:
    other = graph_of(UNet(in_channels=3, num_classes=1, depth=1, width=2), 3)
    with pytest.raises(ValueError, match=r"probabilities that differ by .* it is not kept"):
        compare(ExportedNetwork(tiny, takes="uint8"), other, made_up(3))


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x08\x07", bytes(1000)])
def test_a_file_of_others_is_refused_in_a_sentence(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} was not exported by liverseg"):
        read_record(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("image_size", ["null", "[24,40]"])  # resized within the file
def test_a_run_is_exported_with_its_card_and_scores_and_predicts_as_its_checkpoint(
    image_size: str, compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    seen = {"window": "lung", "spacing": [0.8, 0.7]}
    (pair_root / "volumes.json").write_text(json.dumps({"settings": seen}))
    scores = train(compose(["trainer.precision=32-true", f"data.image_size={image_size}"]))
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    out = tmp_path / "out"
    done = export(compose([f"ckpt_path={checkpoint}", f"output_dir={out}"], name="export"))
    assert sorted(one.name for one in out.iterdir()) == ["MODEL_CARD.md", "model.onnx"]
    assert (done.parity.images, done.parity.different) == (4, 0)
    record = read_record(done.file)
    assert record["scores"] == scores
    assert record["classes"] == ["background", "liver"]
    assert record["volumes"] == seen  # predict.py has to see slices of volumes so
    assert record["intensities"]["images"] == 6
    assert len(record["checkpoint_sha256"]) == 64
    told = done.card.read_text()
    assert "| train | 6 | 3 | `bytes:" in told
    assert "| val | 4 | 2 | `bytes:" in told
    assert f"| dice | {scores['val/dice']:.3f} ({scores['val/dice_low']:.3f} ... " in told
    assert "| window | lung (-1350 to 150) |" in told
    assert "not for diagnosis" in told

    changes = ["split=test", "trainer.accelerator=cpu"]
    again = evaluate(
        compose([f"ckpt_path={done.file}", f"output_dir={tmp_path / 'ev'}", *changes], "evaluate")
    )
    assert again == pytest.approx(
        {key: value for key, value in scores.items() if key.startswith("test")}, rel=1e-5
    )
    program = ["format=torch", f"ckpt_path={checkpoint}", f"output_dir={tmp_path / 'program'}"]
    exported = (done.file, export(compose(program, name="export")).file)
    for file in (*exported, checkpoint):
        folder = tmp_path / file.name
        changes = [f"source={pair_root / 'test'}", f"output_dir={folder}"]
        changes += ["allow=[torch.export]"] if file.suffix == ".pt2" else []
        assert predict(compose([f"ckpt_path={file}", *changes], "predict")) == (3, {})
    for exported_file in exported:
        for file in sorted((tmp_path / exported_file.name).glob("*_prediction.png")):
            other = tmp_path / "best.ckpt" / file.name
            assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(other)))

    example = told.split("```")[1].removeprefix("python").replace(done.file.name, str(done.file))
    found: dict[str, Any] = {}
    exec(example.replace("IMAGE", str(pair_root / "test" / "patient006_slice00")), found)
    mask = np.asarray(Image.open(tmp_path / "best.ckpt" / "patient006_slice00_prediction.png"))
    assert np.array_equal(found["classes"][0] * 255, mask)
    with pytest.raises(ValueError, match=r"an exported file already"):
        export(compose([f"ckpt_path={done.file}"], name="export"))
