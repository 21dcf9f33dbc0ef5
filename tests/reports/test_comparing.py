import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image
from scored import NAMES, PATIENTS, write_run, write_sweep

from liverseg.reports import compare_runs, comparing, conclude_sweep
from liverseg.scores import compare
from liverseg.settings.paths import as_hydra_reads_it

Compose = Callable[..., DictConfig]


def compared(
    compose: Compose, tmp_path: Path, *runs: Path, **settings: str
) -> tuple[list[str], dict[str, Any]]:
    typed = [f"{key}={value}" for key, value in settings.items()]
    listed = ",".join(map(str, runs))
    named = as_hydra_reads_it(f"runs=[{listed}]")
    config = compose([named, f"output_dir={tmp_path / 'out'}", *typed], name="compare")
    lines, page = compare_runs(config)
    assert page.is_file()
    return lines, json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_two_runs_are_paired_by_patient(compose: Compose, tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "A", 4), write_run(tmp_path / "B", 1)
    lines, (found,) = compared(compose, tmp_path, a, b)
    assert lines[0].startswith("B is better: Dice of B less that of A is +0.")
    assert (found["unit"], found["number"], found["wins"], found["split"]) == (
        *("patients", 8, 8),
        "test",
    )
    out = tmp_path / "out"
    with Image.open(out / "comparison.png") as chart:
        assert chart.format == "PNG"
    rows = (out / "comparison.csv").read_text().splitlines()
    assert (rows[0], len(rows)) == ("unit,structure,A,B", 9)
    assert "B is better" in (out / "report.html").read_text()


def test_the_same_runs_give_the_same_files(compose: Compose, tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "A", 4), write_run(tmp_path / "B", 1)
    found = []
    for _ in range(2):
        compared(compose, tmp_path, a, b)
        found.append(
            [
                (tmp_path / "out" / name).read_bytes()
                for name in ("comparison.json", "comparison.csv", "report.html")
            ]
        )
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "unit"),
    [({}, "patient"), ({"patients": [None] * 16, "part": slice(14)}, "image")],
)
def test_runs_that_do_not_differ_are_told_and_drawn_so(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    unit: str,
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "supxlabel", lambda figure, *_, **__: figures.append(figure))
    compared(compose, tmp_path, *(write_run(tmp_path / name, 4, **settings) for name in "ABC"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"<p>No {unit} differs.</p>" in page
    assert "num_pictures=1000" not in page
    low, high = figures[0].axes[0].get_ylim()
    assert high - low > 0.0019  # of several panels matplotlib makes it 1e-17
    assert high == pytest.approx(-low)


def test_without_patients_images_are_paired(compose: Compose, tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, wrong, patients=[None] * 16)
        for name, wrong in (("A", 4), ("B", 1))
    ]
    _, (found,) = compared(compose, tmp_path, *runs)
    assert (found["unit"], found["number"]) == ("images", 16)


def test_three_runs_make_three_pairs(compose: Compose, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, wrong) for name, wrong in (("A", 4), ("B", 1), ("C", 0))]
    _, found = compared(compose, tmp_path, *runs)
    assert [(one["first"], one["second"]) for one in found] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert all(one["adjusted_p"] >= one["p"] for one in found)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "corrected for the number of comparisons (Holm), which intervals are not." in page


def test_both_predictions_are_drawn_where_both_have_a_picture(
    compose: Compose, tmp_path: Path
) -> None:
    runs = [write_run(tmp_path / name, wrong) for name, wrong in (("A", 4), ("B", 1))]
    for place, run in enumerate(runs):
        (run / "pictures").mkdir()
        Image.new("RGB", (40 + place, 20)).save(run / "pictures" / "test_p7_s1.png")
    compared(compose, tmp_path, *runs)
    (drawn,) = (tmp_path / "out" / "pictures").iterdir()
    with Image.open(drawn) as picture:
        assert (drawn.name[3:], picture.size) == ("p7_s1.png", (41, 40))


def test_the_image_of_a_patient_is_the_one_that_differs_most_in_the_runs_that_are_drawn(
    compose: Compose, tmp_path: Path
) -> None:
    """Run seed=2 of a misses more in p7_s1 than in p7_s0; b misses nothing."""
    sweep = write_sweep(
        tmp_path / "s",
        [
            (["model=a", "seed=1"], {"wrong": 2}),
            (["model=a", "seed=2"], {"wrong": 2}),
            (["model=b", "seed=1"], {"wrong": 0}),
            (["model=b", "seed=2"], {"wrong": 0}),
        ],
    )
    for job in sweep.iterdir():
        (job / "pictures").mkdir()
        for name in ("p7_s0", "p7_s1"):
            if not job.name.endswith("a_seed=1"):
                Image.new("RGB", (40, 20)).save(job / "pictures" / f"test_{name}.png")
    compared(compose, tmp_path, sweep)
    (drawn,) = (tmp_path / "out" / "pictures").iterdir()
    assert drawn.name == "00_p7_s1.png"
    page = (tmp_path / "out" / "report.html").read_text()
    told = "p7, image p7_s1: model=a (seed=2, one of 2 runs) above, "
    assert f"{told}model=b (seed=1, one of 2 runs) below" in page


def test_a_sweep_stands_for_its_settings_and_seeds_are_averaged(
    compose: Compose, tmp_path: Path
) -> None:
    sweep = write_sweep(
        tmp_path / "s",
        [
            (["model=a", "seed=1"], {"wrong": 4}),
            (["model=a", "seed=2"], {"wrong": 2}),
            (["model=b", "seed=1"], {"wrong": 1}),
            (["model=b", "seed=2"], {"wrong": 1}),
        ],
    )
    _, (found,) = compared(compose, tmp_path, sweep)
    assert (found["first"], found["second"], found["number"]) == ("model=a", "model=b", 8)


def test_folds_are_put_together_and_paired_on_val(compose: Compose, tmp_path: Path) -> None:
    halves = [slice(0, 8), slice(8, 16)]
    sweeps = [
        write_sweep(
            tmp_path / name,
            [
                (
                    [f"fold={fold}"],
                    {"wrong": wrong, "split": "val", "part": part, "truth": f"masks:{fold}"},
                )
                for fold, part in enumerate(halves)
            ],
        )
        for name, wrong in (("cv_a", 4), ("cv_b", 1))
    ]
    _, (found,) = compared(compose, tmp_path, *sweeps)
    assert (found["split"], found["number"], found["wins"]) == ("val", 8, 8)
    last = next((tmp_path / "cv_b").glob("1_*"))
    shutil.rmtree(last)
    with pytest.raises(
        ValueError,
        match=r"not scored on the same val \(8 images are in the val of one alone, such as p4_s0\)",
    ):
        compared(compose, tmp_path, *sweeps)


def fold_sweep(folder: Path, wrong: int, folds: int = 2) -> Path:
    """Write a cross-validation whose jobs have scores of the same test, too."""
    parts = [slice(0, 8), slice(8, 16)]
    sweep = write_sweep(
        folder,
        [
            (
                [f"fold={fold}"],
                {"wrong": wrong, "split": "val", "part": parts[fold], "truth": f"masks:{fold}"},
            )
            for fold in range(folds)
        ],
    )
    for job in sweep.iterdir():
        write_run(job, wrong)
    return sweep


def test_a_run_without_folds_is_compared_with_folds_on_test(
    compose: Compose, tmp_path: Path
) -> None:
    plain = write_run(write_run(tmp_path / "plain", 1, split="val"), 1)
    _, (found,) = compared(compose, tmp_path, plain, fold_sweep(tmp_path / "cv", 4))
    assert (found["split"], found["number"], found["losses"]) == ("test", 8, 8)


def test_two_folds_are_compared_where_the_remedy_says(compose: Compose, tmp_path: Path) -> None:
    jobs = sorted(fold_sweep(tmp_path / "cv", 4).iterdir())
    with pytest.raises(ValueError, match="; add split=test, which all have, or give both the same"):
        compared(compose, tmp_path, *jobs)
    assert compared(compose, tmp_path, *jobs, split="test")[1][0]["number"] == 8
    (jobs[0] / "cases_test.csv").unlink()
    with pytest.raises(
        ValueError, match=r"; score both with evaluate\.py split=test, or on anothe"
    ):
        compared(compose, tmp_path, *jobs)


def test_a_sweep_is_told_to_train_with_a_score_that_it_lacks(
    compose: Compose, tmp_path: Path
) -> None:
    sweeps = [fold_sweep(tmp_path / name, 4) for name in ("cv_a", "cv_b")]
    with pytest.raises(
        ValueError, match=r"^cv_a and cv_b have no hd95.*; train with scores=\[hd95"
    ):
        compared(compose, tmp_path, *sweeps, score="hd95")


def test_folds_are_compared_with_what_puts_them_together(compose: Compose, tmp_path: Path) -> None:
    sweep = fold_sweep(tmp_path / "cv", 4)
    conclude_sweep(sweep)
    _, (found,) = compared(compose, tmp_path, sweep, sweep / "out_of_fold")
    assert (found["split"], found["number"], found["ties"]) == ("val", 8, 8)


@pytest.mark.parametrize(("patients", "is_told"), [(1, False), (2, True)])
def test_intervals_are_told_where_there_are_any(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: int, is_told: bool
) -> None:
    captions: list[str] = []
    monkeypatch.setattr(Figure, "supxlabel", lambda _, text, **__: captions.append(text))
    part = slice(0, 2 * patients)
    runs = [write_run(tmp_path / name, wrong, part=part) for name, wrong in (("A", 4), ("B", 1))]
    _, (found,) = compared(compose, tmp_path, *runs)
    assert (found["interval"] is not None) == is_told
    page = (tmp_path / "out" / "report.html").read_text()
    told = "of fewer than 5, of more than 300, and where most are equal, they are those of Student"
    assert (told in page) == is_told
    assert "p is that of Wilcoxon" in page
    assert captions[0].endswith("line and band: mean and its 95 % interval" if is_told else "mean")


@pytest.mark.parametrize(
    ("changes", "typed", "sentence"),
    [
        ({"truth": "masks:2"}, {}, "not scored on the same test .*masks or folds differ"),
        (
            {"names": ["q", *NAMES[1:]]},
            {},
            r"not scored on the same test \(2 images are in the test of one alone, such as p0_s0\)",
        ),
        (
            {"truth": "masks:2"},
            {},
            r"; score both with evaluate\.py on one folder, data\.root=DIR$",
        ),
        ({"split": "val"}, {}, "the runs share no split"),
        ({"split": "val"}, {"split": "test"}, "B has no scores of test"),
        (
            {},
            {"score": "hd95"},
            r"^A and B have no hd95, which is computed where it is asked for; score each with "
            r"evaluate\.py scores=\[hd95\] split=test and compare what it writes$",
        ),
        (
            {"chosen": ("nsd",)},
            {"score": "nsd"},
            r"^A has no nsd, which is computed where it is asked for; score it with evaluate\.py ",
        ),
        ({}, {"score": "dicee"}, "score=dicee is no score; all are dice, iou"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    compose: Compose, tmp_path: Path, changes: dict[str, Any], typed: dict[str, str], sentence: str
) -> None:
    a, b = write_run(tmp_path / "A", 4), write_run(tmp_path / "B", 1, **changes)
    with pytest.raises(ValueError, match=sentence):
        compared(compose, tmp_path, a, b, **typed)
    assert not (tmp_path / "out").exists()


def test_other_rules_are_refused(compose: Compose, tmp_path: Path) -> None:
    a = write_run(tmp_path / "A", 4, chosen=("nsd",), tolerance=1.0)
    b = write_run(tmp_path / "B", 1, chosen=("nsd",), tolerance=2.0)
    compared(compose, tmp_path, a, b)
    with pytest.raises(ValueError, match=r"B .* other tolerance than A \(2\.0, not 1.* tolerance="):
        compared(compose, tmp_path, a, b, score="nsd")
    c = write_run(tmp_path / "C", 1, chosen=("nsd",), tolerance=1.0)
    with pytest.raises(ValueError, match=r"; score all with evaluate\.py and one tolerance=$"):
        compared(compose, tmp_path, a, b, c, score="nsd")


def test_runs_of_more_and_of_fewer_classes_are_refused(compose: Compose, tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, 1) for name in "AB")
    record = json.loads((b / "scores.json").read_text())
    record["test"]["classes"] = ["liver", "spleen"]
    (b / "scores.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"^B was scored with 2 classes and A with 1; compare"):
        compared(compose, tmp_path, a, b)


def test_images_of_other_patients_are_refused(compose: Compose, tmp_path: Path) -> None:
    """In B and C the images are of patients q0, q1, ... and in D nobody knows whose they are."""
    others = [f"q{name[1:]}" for name in PATIENTS]
    a, d = write_run(tmp_path / "A", 4), write_run(tmp_path / "D", 4, patients=[None] * 16)
    b, c = (write_run(tmp_path / name, 1, patients=others) for name in "BC")
    told = r"B name other patients for the same images \(p0_s0 is of p0, and of q0\); score "
    anew = r"anew with evaluate\.py split=test and one cases\.csv or one data\.case_pattern$"
    with pytest.raises(ValueError, match=f"{told}both {anew}"):
        compared(compose, tmp_path, a, b)
    with pytest.raises(ValueError, match=f"{told}all {anew}"):
        compared(compose, tmp_path, a, b, c)
    assert compared(compose, tmp_path, b, c)[1][0]["unit"] == "patients"
    assert compared(compose, tmp_path, a, b, d)[1][0]["unit"] == "images"


def test_seeds_of_other_patients_are_refused(compose: Compose, tmp_path: Path) -> None:
    jobs: list[tuple[list[str], dict[str, Any]]] = [
        ([f"model={name}", f"seed={seed}"], {"wrong": 1}) for name in "ab" for seed in (1, 2)
    ]
    jobs[3][1]["patients"] = ["q", *PATIENTS[1:]]
    sweep = write_sweep(tmp_path / "s", jobs)
    with pytest.raises(ValueError, match=r"is of p0, and of q\); train all with one cases\.csv"):
        compared(compose, tmp_path, sweep)


def test_a_folder_that_holds_no_scores_is_named(compose: Compose, tmp_path: Path) -> None:
    a = write_run(tmp_path / "A", 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no metrics\.json"):
        compared(compose, tmp_path, a, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="none does not exist; name folders of runs"):
        compared(compose, tmp_path, a, tmp_path / "none")
    with pytest.raises(ValueError, match=r"names 1 to compare; name two or more"):
        compared(compose, tmp_path, a)
    (a / "scores.json").unlink()
    with pytest.raises(ValueError, match=r"A does not say in scores\.json how test was scored"):
        compared(compose, tmp_path, a, write_run(tmp_path / "B", 1))


@pytest.mark.parametrize(
    ("count", "drawn", "note"), [(6, 15, ""), (7, 15, "\nthe first 15 of 21 comparisons")]
)
def test_a_chart_that_is_cut_says_so(
    monkeypatch: pytest.MonkeyPatch, count: int, drawn: int, note: str
) -> None:
    notes: list[tuple[int, str]] = []
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(
        Figure, "supxlabel", lambda figure, text, **__: notes.append((len(figure.axes), text))
    )
    values = {name: {f"p{place}": {"": 0.5} for place in range(6)} for name in "ABCDEFG"[:count]}
    comparing._chart(compare(values, "dice"))
    ((panels, text),) = notes
    assert (panels, text.partition("interval")[2]) == (drawn, note)


def test_remedies_speak_of_all_and_of_folds_where_there_are_any(
    compose: Compose, tmp_path: Path
) -> None:
    runs = [write_run(tmp_path / name, 1, split="val", truth=f"masks:{name}") for name in "ABC"]
    anew = r"score all with evaluate\.py split=val on one folder, data\.root=DIR$"
    with pytest.raises(ValueError, match=rf"differ\); {anew}"):
        compared(compose, tmp_path, *runs)
    for run in runs:
        write_run(run, 1)
        record = {split: {"truth": f"{split}:{run}"} for split in ("val", "test")}
        (run / "scores.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"; add split=test, which all have, or {anew}"):
        compared(compose, tmp_path, *runs, split="val")
    with pytest.raises(ValueError, match=r"; score all with evaluate\.py on one folder, data\.ro"):
        compared(compose, tmp_path, *runs)


def test_means_that_differ_from_differences_are_explained(compose: Compose, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, 1, chosen=("hd95",)) for name in "AB"]
    table = runs[1] / "cases_test.csv"
    for score, is_told in (("dice", False), ("hd95", False), ("hd95", True)):
        if is_told:
            head, first, *rest = table.read_text().splitlines()
            cells = dict(zip(head.split(","), first.split(","), strict=True)) | {"hd95": "inf"}
            table.write_text("\n".join([head, ",".join(cells.values()), *rest]) + "\n")
        compared(compose, tmp_path, *runs, score=score)
        page = (tmp_path / "out" / "report.html").read_text()
        assert ("so the two need not agree" in page) == is_told


def test_a_folder_that_is_named_twice_is_one(compose: Compose, tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "A", 4), write_run(tmp_path / "B", 1)
    (tmp_path / "link").symlink_to(a)
    around = tmp_path / "B" / ".." / "A"
    for again in (tmp_path / "link", around):
        with pytest.raises(ValueError, match=r"names 1 to compare; name two or more"):
            compared(compose, tmp_path, a, again)
        _, found = compared(compose, tmp_path, a, b, again)
        assert [(one["first"], one["second"]) for one in found] == [("A", "B")]


def test_two_runs_of_one_name_are_told_by_their_paths(compose: Compose, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / where / "run", wrong) for where, wrong in (("x", 4), ("y", 1))]
    _, (found,) = compared(compose, tmp_path, *runs)
    assert found["first"].endswith("x/run")
    assert found["second"].endswith("y/run")
