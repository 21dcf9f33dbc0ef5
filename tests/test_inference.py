import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from liverseg.data import MaskReader
from liverseg.experiment import evaluate, predict, train
from liverseg.inference import find_checkpoints, load_predictor, options_of
from liverseg.inference.running import scoring_trainer
from liverseg.prediction import Options
from liverseg.scores import SegmentationScores
from liverseg.settings.paths import as_hydra_reads_it
from liverseg.sharing import commands, page_server

Compose = Callable[..., DictConfig]


@pytest.fixture
def members(compose: Compose, tmp_path: Path) -> list[Path]:
    """Two checkpoints of one sweep that differ in seed and normalisation."""
    for number, changes in enumerate((["seed=1"], ["seed=2", "data.mean=0.4", "data.std=0.3"])):
        job = tmp_path / "sweep" / f"{number}_seed={number + 1}"
        train(compose([f"output_dir='{job}'", *changes]))
    return sorted((tmp_path / "sweep").glob("*/checkpoints/best.ckpt"))


@pytest.mark.slow
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


@pytest.mark.slow
def test_images_of_twelve_bits_are_predicted_where_white_is_typed(
    compose: Compose, pair_root: Path, tmp_path: Path, monkeypatch
) -> None:
    train(compose([]))
    with Image.open(pair_root / "val" / "patient004_slice00.png") as picture:
        deep = np.asarray(picture.convert("L")).astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "deep.png")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    typed = [f"ckpt_path=[{best},{best}]", f"source={tmp_path / 'deep.png'}"]
    typed.append(f"output_dir={tmp_path / 'out'}")
    _, refused = predict(compose(typed, name="predict"))
    assert "set data.white_value=4095" in refused[tmp_path / "deep.png"]
    assert predict(compose([*typed, "data.white_value=4095"], name="predict")) == (1, {})
    monkeypatch.setattr(commands, "make_page_server", lambda answers, port: answers)
    sent = (tmp_path / "deep.png").read_bytes()
    with pytest.raises(ValueError, match=r"^the image has 16 bits.*; set data\.white_value=4095"):
        page_server(compose(typed[:1], name="demo")).predict(sent)
    page = page_server(compose([typed[0], "data.white_value=4095"], name="demo"))
    assert page.predict(sent)["height"] == deep.shape[0]


def test_white_is_for_images(compose: Compose) -> None:
    typed = ["ckpt_path=a.ckpt", "source=a.nii.gz", "data.white_value=4095"]
    with pytest.raises(ValueError, match=r"^data\.white_value=4095 is for images; leave it out"):
        predict(compose(typed, name="predict"))


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


def test_jobs_of_a_sweep_that_have_not_ended_do_not_vote(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [tmp_path / f"{number}_seed={number}/checkpoints/best.ckpt" for number in range(3)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
        job = file.parents[1]
        (job / "job.json").write_text('{"overrides": [], "swept": [], "status": "failed"}')
    with pytest.raises(FileNotFoundError, match=r"is a sweep of which no job has ended$"):
        find_checkpoints(tmp_path)
    (tmp_path / "1_seed=1" / "metrics.json").write_text("{}")
    (tmp_path / "2_seed=2" / "pruned.json").write_text("{}")
    assert find_checkpoints(tmp_path) == [files[1]]
    assert "left out, since they have not ended: 0_seed=0, 2_seed=2" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["data.slices=3"],
            "has data.slices=3 and {first} has 1, so they cannot vote together; name checkpoints "
            "that agree",
        ),
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
    if "class_names" in changes[0]:  # another word for the same
        named = ["data.class_names=[tumour]", "min_pixels={tumour:1}", "split=val"]
        listed = f"ckpt_path=[{files[0]},{files[1]}]"
        evaluate(compose([listed, *named, f"output_dir={tmp_path / 'e'}"], name="evaluate"))
        scored = json.loads((tmp_path / "e" / "scores.json").read_text())
        assert scored["val"]["classes"] == ["tumour"]


@pytest.fixture
def best(_learnt: Path, compose: Compose, pair_root: Path, tmp_path: Path) -> Path:
    """A checkpoint that has learnt a little, from pairs that lie where this test has its own."""
    if not _learnt.is_dir():
        overrides = ["trainer.max_epochs=8", "data.batch_size=2", "optimizer.lr=0.01"]
        train(compose([f"output_dir={_learnt}", *overrides]))
    file = tmp_path / "learnt" / "best.ckpt"
    file.parent.mkdir()
    checkpoint = torch.load(_learnt / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["liverseg"]["config"]["data"]["root"] = str(pair_root)
    torch.save(checkpoint, file)
    return file


@pytest.fixture(scope="session")
def _learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run, that of the test which comes first."""
    return tmp_path_factory.mktemp("learnt") / "run"


def masks(folder: Path, like: Path) -> dict[str, Tensor]:
    reader = load_predictor(like).mask_reader
    return {
        file.name.removesuffix("_prediction.png"): reader.read(file)
        for file in sorted(folder.glob("*_prediction.png"))
    }


@pytest.mark.slow
def test_a_part_of_less_than_one_batch_is_not_scored(best: Path, compose: Compose) -> None:
    sentence = r"^trainer\.limit_test_batches=0\.4 is less than one batch of test, which has 2; "
    with pytest.raises(ValueError, match=sentence):
        evaluate(compose([f"ckpt_path={best}", "+trainer.limit_test_batches=0.4"], name="evaluate"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["flips=[horizontal,vertical]"],
        ["threshold=0.3", "min_pixels=4", "largest_component=true", "fill_holes=[liver]"],
    ],
)
def test_predict_writes_what_evaluate_scores(
    options: list[str], best: Path, compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    scored = [f"ckpt_path={best}", f"output_dir={tmp_path / 'scored'}", *options]
    scores = evaluate(compose(scored, name="evaluate"))
    written = [f"ckpt_path={best}", f"source={pair_root / 'test'}", "pictures=false", *options]
    predict(compose([*written, f"output_dir={tmp_path / 'written'}"], name="predict"))
    again = SegmentationScores(1)
    truths = MaskReader(num_classes=1)
    for index, (name, mask) in enumerate(masks(tmp_path / "written", best).items()):
        truth = truths.read(pair_root / "test" / f"{name}_mask.png")
        again.update(mask[None], truth[None], torch.tensor([index]), torch.tensor([-1]))
    values = again.compute()
    assert values["dice"].item() == scores["test/dice"]
    assert values["iou_pooled"].item() == scores["test/iou_pooled"]


@pytest.mark.slow
def test_options_change_what_is_found(best: Path, compose: Compose, tmp_path: Path) -> None:
    found = [
        evaluate(compose([f"ckpt_path={best}", "split=val", option], name="evaluate"))
        for option in ("threshold=null", "threshold=0.05", "flips=[vertical]", "min_pixels=900")
    ]
    assert len({scores["val/dice"] for scores in found}) == 4


@pytest.mark.slow
def test_any_batch_and_number_of_images_give_the_same_tables(
    best: Path, compose: Compose, tmp_path: Path
) -> None:
    tables = []
    for size in (1, 3, 8):
        folder = tmp_path / str(size)
        options = [f"data.batch_size={size}", f"output_dir={folder}", "flips=[horizontal]"]
        evaluate(compose([f"ckpt_path={best}", *options], name="evaluate"))
        tables.append((folder / "cases_test.csv").read_bytes())
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.slow
def test_tuning_on_val_writes_a_file_that_both_commands_take(
    best: Path, compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    for file in (pair_root / "test").glob("*_mask.png"):  # nothing of test may be looked at
        Image.new("L", (32, 32), 255).save(file)
    folder = tmp_path / "tuned"
    after = evaluate(
        compose([f"ckpt_path={best}", "tune=true", f"output_dir={folder}"], name="evaluate")
    )
    before = json.loads((folder / "untuned" / "metrics.json").read_text())
    assert {"val/dice", "test/dice"} <= after.keys() == before.keys()
    assert after["val/dice"] > before["val/dice"]
    text = (folder / "tuned.yaml").read_text()
    assert f"# val/dice {before['val/dice']:.4f} -> {after['val/dice']:.4f}" in text
    assert f"# test/dice {before['test/dice']:.4f} -> {after['test/dice']:.4f}" in text
    with_file = [f"ckpt_path={best}", f"tuned={folder / 'tuned.yaml'}"]
    again = evaluate(compose([*with_file, "split=val"], name="evaluate"))
    assert again == {name: value for name, value in after.items() if name.startswith("val")}
    out = [f"source={pair_root / 'val'}", f"output_dir={tmp_path / 'out'}"]
    predict(compose([*with_file, *out], name="predict"))
    predictor = load_predictor(best, options=options_of({"tuned": str(folder / "tuned.yaml")}))
    for name, mask in masks(tmp_path / "out", best).items():
        image = predictor.read(pair_root / "val" / f"{name}.png")
        assert predictor.predict(image[None]).classes[0].equal(mask)


@pytest.mark.slow
def test_networks_of_other_folds_are_not_scored_on_val(
    best: Path, compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(best, weights_only=True)
    sweep, of_data = tmp_path / "sweep", checkpoint["liverseg"]["config"]["data"]
    for number, (fold, num_folds) in enumerate([(0, 2), (0, 2), (1, 2), (0, 3), (None, 2)]):
        of_data["fold"], of_data["num_folds"] = fold, num_folds
        file = sweep / str(number) / "checkpoints" / "best.ckpt"
        file.parent.mkdir(parents=True)
        torch.save(checkpoint, file)

    def scored(voters: str, *typed: str) -> dict[str, float]:
        drawn = ["num_pictures=0", "num_worst=0", f"output_dir={tmp_path / 'out'}"]
        return evaluate(compose([voters, *drawn, *typed], name="evaluate"))

    def jobs(*numbers: int) -> str:
        return f"ckpt_path=[{','.join(f'{sweep}/{one}/checkpoints/best.ckpt' for one in numbers)}]"

    differ = "these networks differ in data.fold, so that some have trained on the val of the first"
    for other in (2, 3, 4):
        for numbers in ((0, other), (other, 0)):
            with pytest.raises(ValueError, match=f"^{differ}; choose split=test, or another data"):
                scored(jobs(*numbers), "split=val", f"data.root={pair_root}")
    with pytest.raises(ValueError, match=f"^{differ}; tune one checkpoint, and give its tuned=FIL"):
        scored(f"ckpt_path={sweep}", "tune=true")
    (sweep / "out_of_fold").mkdir()
    with pytest.raises(ValueError, match=rf"root; {sweep}/out_of_fold has the score of each image"):
        scored(f"ckpt_path={sweep}", "split=val")
    assert "test/dice" in scored(f"ckpt_path={sweep}", "split=test")
    assert "val/dice" in scored(jobs(0, 1), "split=val")
    elsewhere = shutil.copytree(pair_root, tmp_path / "elsewhere")
    assert "val/dice" in scored(f"ckpt_path={sweep}", "split=val", f"data.root={elsewhere}")


@pytest.mark.slow
def test_what_tuning_looks_for_itself_is_not_typed(compose: Compose, best: Path) -> None:
    sentence = "min_pixels=30 is what tune=true looks for itself; leave out one of the two"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        evaluate(compose([f"ckpt_path={best}", "tune=true", "min_pixels=30"], name="evaluate"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "tuned={file} does not exist; name a tuned.yaml of evaluate.py tune=true"),
        ("a: [", "tuned={file} is no YAML; evaluate.py tune=true writes one"),
        ("- a", "tuned={file} is no list of options; evaluate.py tune=true writes one"),
        ("treshold: 0.3", "tuned={file} holds treshold, which is no option; the nearest is thresh"),
        ("threshold: 3", "tuned={file}: threshold=3 must be a number above 0 and below 1"),
        ("flips: [sideways]", "tuned={file}: flips=[sideways] must be a list of horizontal and "),
    ],
)
def test_a_file_of_options_is_held_against_them(
    content: str | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "tuned.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        options_of({"tuned": str(file)})
    assert str(caught.value).startswith(sentence.format(file=file))


def test_what_is_typed_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tuned.yaml"
    file.write_text("threshold: 0.3\nmin_pixels: {liver: 30}\n")
    options = options_of({"tuned": str(file), "threshold": 0.4, "min_pixels": None})
    assert options == Options(threshold=0.4, min_pixels={"liver": 30})


def test_without_a_trainer_the_word_that_took_it_away_is_told() -> None:
    with pytest.raises(ValueError, match=r"^trainer is missing from the config; leave out ~scori"):
        scoring_trainer(DictConfig({}), {})
