import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from liverseg.experiment import evaluate, predict, train
from liverseg.inference import find_checkpoints, load_predictor
from liverseg.settings.paths import as_hydra_reads_it

Compose = Callable[..., DictConfig]


@pytest.fixture
def members(compose: Compose, tmp_path: Path) -> list[Path]:
    """Two checkpoints of one sweep that differ in seed and normalisation."""
    for number, changes in enumerate((["seed=1"], ["seed=2", "data.mean=0.4", "data.std=0.3"])):
        job = tmp_path / "sweep" / f"{number}_seed={number + 1}"
        train(compose([f"output_dir='{job}'", *changes]))
    return sorted((tmp_path / "sweep").glob("*/checkpoints/best.ckpt"))


def test_several_checkpoints_vote_in_evaluate_and_predict_alike(
    members: list[Path], compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    listed = as_hydra_reads_it(f"ckpt_path=[{','.join(map(str, members))}]")
    scores = evaluate(compose([listed, f"output_dir={tmp_path / 'a'}"], name="evaluate"))
    sweep = evaluate(
        compose(
            [f"ckpt_path={tmp_path / 'sweep'}", f"output_dir={tmp_path / 'b'}"], name="evaluate"
        )
    )
    assert sweep == scores
    single = [load_predictor(file) for file in members]
    both = load_predictor(members)
    image = both.read(pair_root / "test" / "patient006_slice00.png")[None]
    mean = torch.stack([one.predict(image).probabilities for one in single]).mean(dim=0)
    assert both.predict(image).probabilities.allclose(mean)
    assert not single[0].predict(image).probabilities.allclose(mean)

    out = tmp_path / "masks"
    config = compose([listed, f"source={pair_root / 'test'}", f"output_dir={out}"], name="predict")
    assert predict(config) == (3, {})
    written = both.mask_reader.read(out / "patient006_slice00_prediction.png")
    assert written.equal(both.predict(image).classes[0])


def test_a_pattern_names_checkpoints_in_the_order_of_their_jobs(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}_seed={number}/checkpoints/best.ckpt" for number in (0, 2, 10)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    assert find_checkpoints(f"{tmp_path}/*/checkpoints/best.ckpt") == files
    assert find_checkpoints(tmp_path) == files
    assert find_checkpoints([files[1], tmp_path]) == [files[1], files[0], files[2]]
    with pytest.raises(FileNotFoundError, match=r"^ckpt_path=\S+ matches no file; name a check"):
        find_checkpoints(f"{tmp_path}/*/best.ckpt")
    with pytest.raises(ValueError, match=r"^ckpt_path=\[\] names nothing; name a checkpoint$"):
        find_checkpoints([])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["data.num_classes=2"],
            "has data.num_classes=2 and {first} has 1, so they cannot vote together; name "
            "checkpoints that agree",
        ),
        (
            ["data.class_names=[spleen]"],
            "has the classes spleen and {first} liver, so they cannot vote together; name "
            "checkpoints that agree",
        ),
    ],
)
def test_checkpoints_that_do_not_agree_are_refused(
    changes: list[str], sentence: str, compose: Compose, tmp_path: Path
) -> None:
    files = []
    for name, overrides in {"a": [], "b": changes}.items():
        train(compose([f"output_dir={tmp_path / name}", *overrides]))
        files.append(tmp_path / name / "checkpoints" / "best.ckpt")
    wanted = f"{files[1]} {sentence.format(first=files[0])}"
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        load_predictor(files)
