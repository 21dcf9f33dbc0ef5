import csv
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from liverseg.inference import evaluate

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "volumes"))
from scans import affine_of, body, organs, save, save_series, slices_of, turned

Compose = Callable[..., DictConfig]
CLASSES = "classes={liver: 1, spleen: 2, kidney: 3}"


def scored(compose: Compose, folder: Path, *typed: str) -> dict[str, float]:
    overrides = [f"predictions={folder / 'theirs'}", f"labels={folder / 'truth'}", *typed]
    return evaluate(compose(overrides, name="evaluate"))


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """True label maps of two patients; the predictions lie along other axes, one lacks 3 voxels."""
    found = organs()
    found[1, 1, 1:4] = 0  # of class 1
    for number, label in ((3, found), (13, organs())):
        save(tmp_path / "truth" / f"segmentation-{number}.nii", organs())
        turned_label = turned(label.astype(np.float32), affine_of(), "LPI")
        save(tmp_path / "theirs" / f"volume-{number}_prediction.nii.gz", *turned_label)
    return tmp_path


def test_label_volumes_are_scored_by_name_with_the_tables_of_images(
    compose: Compose, maps: Path
) -> None:
    scores = scored(compose, maps, CLASSES, "scores=[nsd]", "tolerance=0.1")
    size = int((organs() == 1).sum())
    dice = 2 * (size - 3) / (2 * size - 3)
    assert scores["test/dice_case/liver"] == pytest.approx((dice + 1) / 2)
    assert scores["test/dice_case/spleen"] == 1
    assert scores["test/patients"] == 2
    assert scores["test/dice_case_low"] <= scores["test/dice_case"] <= scores["test/dice_case_high"]
    assert 0 < scores["test/nsd/liver"] < 1
    run = maps / "run"
    rows = list(csv.DictReader((run / "patients_test.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["volume-13", "volume-3"]
    assert (rows[1]["tp_liver"], rows[1]["fn_liver"]) == (str(size - 3), "3")
    record = json.loads((run / "scores.json").read_text())["test"]
    assert (record["classes"], record["spacing"]) == (["liver", "spleen", "kidney"], "each")
    assert json.loads((run / "metrics.json").read_text()) == scores


def test_two_evaluations_of_volumes_are_compared_by_patient(compose: Compose, maps: Path) -> None:
    from liverseg.reports import compare_runs

    for name in ("a", "b"):
        scored(compose, maps, CLASSES, f"output_dir={maps / name}")
        save(maps / "theirs" / "volume-3_prediction.nii.gz", organs())
    typed = [f"runs=[{maps / 'a'},{maps / 'b'}]", f"output_dir={maps / 'c'}"]
    (lines,), _ = compare_runs(compose(typed, name="compare"))
    assert "in the mean of 2 patients" in lines
    assert "b wins 1, ties 1, loses 0" in lines
    truth = organs()
    truth[0] = 2
    save(maps / "truth" / "segmentation-3.nii", truth)
    scored(compose, maps, CLASSES, f"output_dir={maps / 'b'}")
    with pytest.raises(ValueError, match="same names, but masks or folds differ"):
        compare_runs(compose(typed, name="compare"))


def test_missing_and_surplus_label_volumes_are_named(
    compose: Compose, maps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(maps / "theirs" / "volume-7.nii", organs())
    with caplog.at_level(logging.WARNING):
        scored(compose, maps, CLASSES)
    assert "1 label maps go with no label and are left out" in caplog.text
    assert "volume-7.nii)" in caplog.text
    save(maps / "truth" / "segmentation-8.nii", organs())
    lone = rf"of 1 of 3 labels \({maps}/truth/segmentation-8.nii\); of no label are .*volume-7"
    with pytest.raises(FileNotFoundError, match=lone):
        scored(compose, maps, CLASSES, f"output_dir={maps / 'new'}")
    assert not (maps / "new").exists()


def test_a_volume_that_lies_elsewhere_is_refused_and_the_others_are_scored(
    compose: Compose, maps: Path
) -> None:
    save(maps / "theirs" / "volume-13_prediction.nii.gz", organs(), affine_of(origin=(0, 0, 0)))
    refused: dict[str, str] = {}
    typed = [f"predictions={maps / 'theirs'}", f"labels={maps / 'truth'}", CLASSES]
    scores = evaluate(compose(typed, name="evaluate"), refused)
    assert scores["test/patients"] == 1
    ((name, sentence),) = refused.items()
    assert name.endswith("segmentation-13.nii")
    assert "mm away from" in sentence


def test_patients_are_those_of_a_pattern(compose: Compose, maps: Path) -> None:
    scores = scored(compose, maps, CLASSES, r"data.case_pattern='^(volume)-\d+'")
    assert (scores["test/patients"], scores["test/images"]) == (1, 2)


def test_classes_are_told_by_number_too_and_others_become_background(
    compose: Compose, maps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = scored(compose, maps, "data.num_classes=4", "data.class_names=[a,b,c]")
    assert scores["test/dice_case/b"] == 1
    with caplog.at_level(logging.WARNING):
        scores = scored(compose, maps, "classes={liver: [1,2]}")
    assert "label values of no class count as background: 3, as in" in caplog.text
    assert "test/dice/liver" not in scores  # one class


def test_what_predict_wrote_holds_class_indices(compose: Compose, maps: Path) -> None:
    from liverseg.data.volumes import read_source, write_label

    values = np.array([0, 63, 126, 1], np.uint8)  # of liver, spleen and kidney
    for number in (3, 13):
        file = save(maps / "truth" / f"segmentation-{number}.nii", values[organs()])
        target = maps / "theirs" / f"volume-{number}_prediction.nii.gz"
        write_label(target, organs(), read_source(file))
    scores = scored(compose, maps, "classes={liver: 63, spleen: 126, kidney: 1}")
    assert [scores[f"test/dice_case/{name}"] for name in ("liver", "spleen", "kidney")] == [1] * 3


@pytest.mark.parametrize(
    ("typed", "error", "sentence"),
    [
        ([], ValueError, r"no volume could be scored"),  # holds class 3
        (["ckpt_path=a.ckpt"], ValueError, "ckpt_path=a.ckpt is for a checkpoint"),
        (["source=a"], FileNotFoundError, "source=a does not exist"),
        (["window=lung"], ValueError, "window=lung is for a checkpoint"),
        (["data.root=a"], ValueError, r"data\.root=a is for masks of images"),
        (["data.ignore_index=9"], ValueError, r"data\.ignore_index=9 is for masks of images"),
        (
            ["ckpt_path=a.ckpt", "predictions=null", "source=a.nii", "data.root=b"],
            ValueError,
            r"data\.root=b is for masks of images, and source=a\.nii names volumes; leave it out",
        ),
        (["labels=null"], ValueError, "labels is not set, which predictions="),
        ([CLASSES, "data.num_classes=4"], ValueError, r"and classes=\.\.\. both name classes"),
        ([CLASSES, "spacing=[1,1]"], ValueError, "is for pairs; leave it out"),
    ],
)
def test_what_does_not_fit_volumes_is_refused(
    compose: Compose, maps: Path, typed: list[str], error: type[Exception], sentence: str
) -> None:
    keys = {one.split("=")[0] for one in typed}
    given: dict[str, Any] = {"predictions": maps / "theirs", "labels": maps / "truth"}
    kept = [f"{key}={value}" for key, value in given.items() if key not in keys]
    with pytest.raises(error, match=sentence):
        evaluate(compose([*kept, *typed], name="evaluate"))
    assert not (maps / "run").exists()


def test_a_name_is_held_against_whole_words(tmp_path: Path) -> None:
    from liverseg.data.volumes import find_predictions

    for name in ("truth/liver_3", "truth/liver_30", "out/liver_3_0000", "out/liver_30"):
        save(tmp_path / f"{name}.nii", organs())
    cases = find_predictions(tmp_path / "out", tmp_path / "truth")
    assert [Path(str(case.predicted)).name for case in cases] == [
        "liver_3_0000.nii",
        "liver_30.nii",
    ]
    for name in ("s1", "s2"):
        save(tmp_path / "total" / name / "segmentations" / "liver.nii.gz", organs())
        save(tmp_path / "out2" / f"{name}_prediction.nii.gz", organs())
    found = find_predictions(tmp_path / "out2", str(tmp_path / "total" / "*" / "*" / "liver*"))
    assert [case.name for case in found] == ["s1", "s2"]
    save(tmp_path / "out" / "liver_3.nii", organs())
    save(tmp_path / "out" / "liver_3_pred.nii", organs())
    with pytest.raises(ValueError, match=r"may both be .*liver_3\.nii; remove one"):
        find_predictions(tmp_path / "out", tmp_path / "truth")


def test_pngs_and_segmentations_are_scored_on_the_series_that_they_are_of(
    compose: Compose, tmp_path: Path
) -> None:
    found = organs()
    found[1, 1, 1:4] = 0  # of class 1
    for number in (1, 2):
        place = tmp_path / "ct" / str(number)
        save_series(place / "DICOM_anon", slices_of(body()), name="i{:04},0000b.dcm")
        for folder, label in (("Ground", organs()), ("found", found)):
            root = (
                place / folder if folder == "Ground" else tmp_path / folder / str(number) / "Ground"
            )
            root.mkdir(parents=True)
            for k, one in enumerate(slices_of(label) == 1):
                Image.fromarray(one * np.uint8(255)).save(root / f"liver_GT_{k:03}.png")
    typed = [f"source={tmp_path / 'ct'}", f"labels={tmp_path / 'ct'}", "classes={liver: 255}"]
    typed += [f"predictions={tmp_path / 'found'}", "scores=[hd]"]
    scores = evaluate(compose(typed, name="evaluate"))
    size = int((organs() == 1).sum())
    assert scores["test/dice_case"] == pytest.approx(2 * (size - 3) / (2 * size - 3))
    assert scores["test/rvd_case"] == pytest.approx(3 / size)
    assert scores["test/patients"] == 2
    one = [f"source={tmp_path / 'ct' / '1' / 'DICOM_anon'}", "classes={liver: 255}"]
    one += [f"labels={tmp_path / 'ct' / '1' / 'Ground'}", f"predictions={tmp_path / 'ct' / 'mine'}"]
    (tmp_path / "found" / "2" / "Ground").rename(tmp_path / "ct" / "mine")
    again = evaluate(compose(one, name="evaluate"))
    assert again["test/dice"] == scores["test/dice_case"]
    with pytest.raises(FileNotFoundError, match="has no label map of 1 of 2 volumes"):
        evaluate(compose(typed, name="evaluate"))


def test_the_folder_of_predict_with_seg_is_scored_as_it_lies(
    compose: Compose, tmp_path: Path
) -> None:
    from liverseg.data.volumes import find_volumes, read_source, write_label, write_segmentation

    names = {1: "liver", 2: "spleen", 3: "kidney"}
    found = organs()
    found[1, 1, 1:4] = 0  # of class 1
    for place, patient in enumerate(("anna", "bert.v2")):
        save_series(tmp_path / "ct" / patient, slices_of(body()), origin=(0, 0, 100 * place))
        volume = read_source(find_volumes(tmp_path / "ct" / patient)[0])
        stored = slices_of(organs()).transpose(2, 1, 0)
        file = tmp_path / "truth" / f"{patient}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        write_label(file, stored, volume)
        (tmp_path / "theirs").mkdir(exist_ok=True)
        label = slices_of(found if place else organs()).transpose(2, 1, 0)
        end = tmp_path / "theirs" / f"{patient}_prediction"
        write_label(Path(f"{end}.nii.gz"), label, volume)
        write_segmentation(Path(f"{end}.dcm"), label, volume, names)
    size = int((organs() == 1).sum())
    dice = 2 * (size - 3) / (2 * size - 3)
    for source in ([], [f"source={tmp_path / 'ct'}"]):
        scores = scored(compose, tmp_path, CLASSES, *source)
        assert scores["test/dice_case/liver"] == pytest.approx((dice + 1) / 2)
        assert scores["test/patients"] == 2
    save(tmp_path / "theirs" / "anna_pred.nii", organs())
    with pytest.raises(ValueError, match=r"has 2 predictions .*, such as predictions='DIR/\*/liv"):
        scored(compose, tmp_path, CLASSES, f"source={tmp_path / 'ct'}")
    for file in (tmp_path / "theirs").glob("*.nii*"):
        file.unlink()
    with pytest.raises(
        ValueError, match=r"no NIfTI file, .*; convert it, or add source=\.\.\., the"
    ):
        scored(compose, tmp_path, CLASSES)
    scores = scored(compose, tmp_path, CLASSES, f"source={tmp_path / 'ct'}")
    assert scores["test/dice_case/liver"] == pytest.approx((dice + 1) / 2)
