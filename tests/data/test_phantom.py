"""What the embedded data set promises: the same seed, the same files, whole or not at all."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from liverseg.data.phantom import draw_patient, drawing, write_phantom, writing
from liverseg.data.phantom.patient import Chance, meet_patient

SMALL = {"num_patients": (2, 1, 1), "slices_per_patient": 2, "image_size": 32, "seed": 0}
REMEDY = "delete the folder or set data.root to another one"


def write(folder: Path, **changes) -> None:
    write_phantom(folder, **{**SMALL, **changes})


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve patients: every phase, both ways up; (12, 8, 48, 48) each."""
    patients = [
        draw_patient(patient_number=number, num_slices=8, image_size=48, seed=0)
        for number in range(12)
    ]
    images, masks = zip(*patients, strict=True)
    return torch.stack(images), torch.stack(masks)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    write(tmp_path / "one")
    torch.manual_seed(5)  # the global generator has no say
    write(tmp_path / "two")
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "two")


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    draw_patient(patient_number=0, num_slices=1, image_size=32, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_patient_stays_the_same_when_others_join(tmp_path):
    write(tmp_path / "few")
    write(tmp_path / "many", num_patients=(3, 1, 1))
    few, many = bytes_in(tmp_path / "few"), bytes_in(tmp_path / "many")
    # Number 2 is the patient of val in the one folder and the third of train in the other.
    assert few["val/patient002_slice00.png"] == many["train/patient002_slice00.png"]
    assert few["train/patient001_slice01.png"] == many["train/patient001_slice01.png"]


def test_another_seed_and_another_number_draw_another_patient():
    images, _ = draw_patient(patient_number=1, num_slices=1, image_size=32, seed=0)
    for number, seed in ((1, 1), (7, 0)):
        others, _ = draw_patient(patient_number=number, num_slices=1, image_size=32, seed=seed)
        assert not torch.equal(images, others)


def test_every_split_holds_pairs_of_its_own_patients(tmp_path):
    write(tmp_path / "phantom")
    names = {
        split: sorted(path.name for path in (tmp_path / "phantom" / split).iterdir())
        for split in ("train", "val", "test")
    }
    assert names["val"] == [
        "patient002_slice00.png",
        "patient002_slice00_mask.png",
        "patient002_slice01.png",
        "patient002_slice01_mask.png",
    ]
    patients = {split: {name[:10] for name in names[split]} for split in names}
    assert patients == {
        "train": {"patient000", "patient001"},
        "val": {"patient002"},
        "test": {"patient003"},
    }


def test_files_are_grey_pictures_of_the_size_asked_for_and_masks_are_0_or_255(tmp_path):
    write(tmp_path / "phantom", image_size=37)
    values = set()
    for path in (tmp_path / "phantom").rglob("*.png"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (37, 37))
            if path.stem.endswith("_mask"):
                values |= set(picture.tobytes())
    assert values == {0, 255}


def test_a_second_call_draws_nothing(tmp_path, monkeypatch):
    write(tmp_path / "phantom")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "phantom").rglob("*")}
    monkeypatch.setattr(writing, "draw_patient", None)
    write(tmp_path / "phantom", num_patients=[2, 1, 1])  # a list, as a config gives it
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "phantom").rglob("*")}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"num_patients": (3, 1, 1)},
            "num_patients=[2, 1, 1], but data.phantom.num_patients=[3, 1, 1]",
        ),
        ({"slices_per_patient": 3}, "slices_per_patient=2, but data.phantom.slices_per_patient=3"),
        ({"image_size": 64}, "image_size=32, but data.phantom.image_size=64"),
        ({"seed": 1}, "seed=0, but data.phantom.seed=1"),
    ],
)
def test_a_folder_of_other_parameters_is_refused(tmp_path, changes, difference):
    folder = tmp_path / "phantom"
    write(folder)
    sentence = f"{folder} was drawn with {difference} is asked for; {REMEDY}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        write(folder, **changes)


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    folder = tmp_path / "phantom"
    write(folder)
    found = json.loads((folder / "phantom.json").read_text())
    (folder / "phantom.json").write_text(json.dumps({**found, "recipe": 0}))
    sentence = f"{folder} was drawn with recipe=0, but recipe={drawing.RECIPE} is asked for; "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + REMEDY)}$"):
        write(folder)


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path, content):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "precious.png").write_bytes(b"1")
    if content is not None:
        (folder / "phantom.json").write_text(content)
    before = bytes_in(folder)
    sentence = (
        f"data.root={folder} holds no readable phantom.json, so no phantom is drawn into it; for "
        "pairs of your own add data=liver or data=pairs, for the phantom another folder"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        write(folder)
    assert bytes_in(folder) == before


def test_a_drawing_that_fails_leaves_no_folder_behind(tmp_path, monkeypatch):
    draw = writing.draw_patient

    def stumble(*, patient_number: int, **settings) -> tuple[torch.Tensor, torch.Tensor]:
        if patient_number == 2:
            raise KeyboardInterrupt
        return draw(patient_number=patient_number, **settings)

    monkeypatch.setattr(writing, "draw_patient", stumble)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "data" / "phantom")
    assert list((tmp_path / "data").iterdir()) == []


def test_the_leftover_of_a_killed_run_does_no_harm(tmp_path):
    leftover = tmp_path / ".phantom-killed" / "phantom" / "train"
    leftover.mkdir(parents=True)
    (leftover / "patient000_slice00.png").write_bytes(b"half")
    write(tmp_path / "phantom")
    assert len(bytes_in(tmp_path / "phantom")) == 4 * 2 * 2 + 1
    assert (leftover / "patient000_slice00.png").read_bytes() == b"half"


def let_another_process_win(monkeypatch, folder: Path, **changes) -> None:
    """Make a rival fill ``folder`` while the last patient is being drawn."""
    draw = writing.draw_patient

    def be_slow(*, patient_number: int, **settings) -> tuple[torch.Tensor, torch.Tensor]:
        if patient_number == 3:
            monkeypatch.setattr(writing, "draw_patient", draw)
            write(folder, **changes)
        return draw(patient_number=patient_number, **settings)

    monkeypatch.setattr(writing, "draw_patient", be_slow)


def test_the_slower_of_two_processes_keeps_the_folder_of_the_faster(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "phantom"
    renames = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, target: (renames.append(target), rename(path, target))[1]
    )
    let_another_process_win(monkeypatch, folder)
    write(folder)
    assert renames == [folder, folder]
    assert [path.name for path in folder.parent.iterdir()] == ["phantom"]
    assert len(bytes_in(folder)) == 4 * 2 * 2 + 1


def test_the_slower_process_complains_if_the_faster_drew_something_else(tmp_path, monkeypatch):
    folder = tmp_path / "phantom"
    let_another_process_win(monkeypatch, folder, seed=1)
    sentence = f"{folder} was drawn with seed=1, but data.phantom.seed=0 is asked for; {REMEDY}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        write(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"num_patients": (2, 1)},
            "data.phantom.num_patients=[2, 1] must be three counts: train, val and test",
        ),
        (
            {"num_patients": (2, 0, 1)},
            "data.phantom.num_patients[1]=0 is not possible; set a whole number from 1 to 10000",
        ),
        (
            {"slices_per_patient": 0},
            "data.phantom.slices_per_patient=0 is not possible; set a whole number from 1 to 1000",
        ),
        (
            {"image_size": 31},
            "data.phantom.image_size=31 is not possible; set a whole number from 32 to 4096",
        ),
        (
            {"image_size": 64.5},
            "data.phantom.image_size=64.5 is not possible; set a whole number from 32 to 4096",
        ),
        (
            {"seed": -1},
            f"data.phantom.seed=-1 is not possible; set a whole number from 0 to {2**64}",
        ),
    ],
)
def test_an_impossible_argument_is_refused_before_anything_is_written(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        write(tmp_path / "phantom", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_single_slice_shows_a_liver():
    for number in range(3):
        images, masks = draw_patient(patient_number=number, num_slices=1, image_size=32, seed=0)
        assert images.shape == masks.shape == (1, 32, 32)
        assert images.dtype == masks.dtype == torch.uint8
        assert masks.unique().tolist() == [0, 1]


def test_both_orientations_occur_and_the_liver_keeps_its_side(drawn):
    images, masks = drawn
    even, odd = images[0::2].float().mean(dim=(0, 1)), images[1::2].float().mean(dim=(0, 1))
    assert masks[0::2, ..., :24].sum() > 5 * masks[0::2, ..., 24:].sum()
    assert masks[1::2, ..., :24].sum() > 5 * masks[1::2, ..., 24:].sum()
    # Spine and back muscles make the back the brighter half of the middle columns.
    assert even[24:, 22:26].sum() > 1.05 * even[:24, 22:26].sum()
    assert odd[:24, 22:26].sum() > 1.05 * odd[24:, 22:26].sum()


def test_a_few_slices_show_no_liver(drawn):
    _, masks = drawn
    share = (masks.flatten(2).sum(dim=2) == 0).float().mean().item()
    assert 0 < share < 0.3


def test_some_scans_reach_the_pelvis_whose_slices_show_no_liver():
    last = [meet_patient(Chance(seed=0, patient_number=n), n).last_level for n in range(100)]
    assert 15 < sum(level > 1.3 for level in last) < 45  # three in ten
    long = next(number for number, level in enumerate(last) if level > 2)
    _, masks = draw_patient(patient_number=long, num_slices=8, image_size=48, seed=0)
    assert masks.flatten(1).any(dim=1).tolist()[-3:] == [False, False, False]
    assert masks.any()


def test_the_liver_is_soft_tissue(drawn):
    images, masks = drawn
    for image, mask in zip(images, masks, strict=True):
        grey = image[mask > 0].float()
        # Whatever the window, air is 0, bone 255, and the liver well between them.
        assert 25 < grey.mean() < 220
        assert ((grey == 0) | (grey == 255)).float().mean() < 0.2


def test_no_window_of_intensities_holds_the_livers_alone(drawn):
    images, masks = drawn
    inside = torch.bincount(images[masks > 0], minlength=256).double().cumsum(0)
    every = torch.bincount(images.flatten(), minlength=256).double().cumsum(0)
    dice = 2 * (inside - inside[:, None]) / (every - every[:, None] + inside[-1])  # (low, high)
    assert dice.triu(1).max() < 0.6
