import inspect
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from liverseg.checks import check_settings
from liverseg.data.datamodule import PairDataModule
from liverseg.data.volumes import Conversion
from liverseg.network.unet import UNet

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
CHOICES = [
    f"{file.parent.name}={file.stem}"
    for file in FILES
    if file.parent.parent == CONFIGS and file.parent.name not in ("scoring", "prediction")
]
Compose = Callable[..., DictConfig]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dictionary that names a class."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from nodes(value)


def plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def test_the_walk_sees_every_config() -> None:
    assert len(FILES) >= 30
    assert len(CHOICES) >= 27
    assert {file.parent.name for file in FILES} >= {"data", "model", "experiment", "trainer"}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_that_is_shipped_names_parameters_of_classes_and_passes_the_check(
    choice: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liverseg.checks.devices.devices_here", lambda: (1, True))
    group, _, name = choice.partition("=")
    shipped = OmegaConf.load(CONFIGS / group / f"{name}.yaml").get("accelerator", "auto")
    config = compose([choice, f"trainer.accelerator={shipped}"])
    if choice == "logger=wandb" and find_spec("wandb") is None:
        with pytest.raises(ValueError, match=r"not installed; pip install wandb$"):
            check_settings(config)
    else:
        check_settings(config)
    found = list(nodes(plain(config)))
    assert len(found) >= 8
    for node in found:
        target = get_class(node["_target_"])
        arguments = {key: value for key, value in node.items() if not key.startswith("_")}
        signature = inspect.signature(target)
        if node.get("_partial_"):
            signature.bind_partial(**arguments)
        else:
            signature.bind(**arguments)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("evaluate", ["ckpt_path=a.ckpt"]),
        ("predict", ["ckpt_path=a.ckpt", "source=b"]),
        ("split", ["data.root=b"]),
        ("convert", ["source=a", "labels=b"]),
        ("export", ["ckpt_path=a.ckpt"]),
        ("demo", ["ckpt_path=a.ckpt"]),
        ("compare", ["runs=[a,b]"]),
    ],
)
def test_the_other_commands_compose(name: str, needed: list[str], compose: Compose) -> None:
    config = compose(needed, name=name)
    for node in nodes(plain(config)):
        arguments = {key: value for key, value in node.items() if not key.startswith("_")}
        inspect.signature(get_class(node["_target_"])).bind_partial(**arguments)


@pytest.mark.parametrize("data", ["pairs", "liver", "phantom"])
def test_check_composes_with_every_choice_of_data(data: str, compose: Compose) -> None:
    config = plain(compose([f"data={data}", "data.root=somewhere"], name="check"))
    inspect.signature(PairDataModule).bind_partial(
        **{key: value for key, value in config["data"].items() if not key.startswith("_")}
    )


@pytest.mark.parametrize(
    ("group", "name", "target"), [("model", "unet", UNet), ("data", "pairs", PairDataModule)]
)
def test_the_default_of_a_knob_is_the_same_in_yaml_and_in_python(
    group: str, name: str, target: type
) -> None:
    chosen = {group: OmegaConf.load(CONFIGS / group / f"{name}.yaml")}
    config = OmegaConf.merge(OmegaConf.load(CONFIGS / "train.yaml"), chosen)[group]
    parameters = inspect.signature(target).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert defaults
    assert {name: config[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    ("group", "target"),
    [("model/unet", UNet), ("data/pairs", PairDataModule)],
)
def test_every_parameter_stands_in_yaml(group: str, target: type) -> None:
    keys = {str(key) for key in OmegaConf.load(CONFIGS / f"{group}.yaml") if key != "_target_"}
    assert keys == set(inspect.signature(target).parameters)


def test_a_conversion_is_described_by_the_keys_of_its_config() -> None:
    keys = {str(key) for key in OmegaConf.load(CONFIGS / "convert.yaml")}
    places = {"source", "labels", "output_dir", "hydra"}
    assert keys - places == set(inspect.signature(Conversion).parameters)


def test_the_tutorial_is_the_lessons_recipe(compose: Compose) -> None:
    config = plain(compose(["experiment=tutorial", "model.depth=4", "model.width=64"]))
    assert (config["data"]["channels"], config["data"]["batch_size"]) == (3, 4)
    assert config["data"]["mean"] == config["data"]["std"] == [0.5, 0.5, 0.5]
    assert config["loss"]["_target_"] == "liverseg.training.BinaryCrossEntropy"
    assert config["loss"]["class_weights"] == [1.0, 1.0]
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3, "fused": True}
    assert config["optimizer"] == adam
    assert config["trainer"]["precision"] == "32-true"
    assert config["scheduler"]["_target_"].endswith("ConstantLR")
    raw = OmegaConf.load(CONFIGS / "experiment" / "tutorial.yaml")
    assert (raw.trainer.max_epochs, raw.model.width) == (20, 64)


def test_the_paper_is_the_papers_network(compose: Compose) -> None:
    raw = OmegaConf.load(CONFIGS / "model" / "unet_paper.yaml")
    assert (raw.width, raw.padding, raw.norm) == (64, "valid", "none")
