import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict
from PIL import Image

from liverseg.experiment import check
from liverseg.inspection import File, Finding
from liverseg.pictures import class_colour
from liverseg.reports.findings import counted

Compose = Callable[..., DictConfig]


def test_a_check_writes_a_page_plain_values_and_sheets(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    (pair_root / "train" / "patient001_slice00_mask.png").unlink()
    findings = check(compose([f"data.root={pair_root}"], "check"))
    page = (tmp_path / "run" / "report.html").read_text()
    plain = json.loads((tmp_path / "run" / "report.json").read_text())
    assert plain["errors"] == sum(finding.level == "error" for finding in findings) >= 1
    assert [one["kind"] for one in plain["findings"]] == [finding.kind for finding in findings]
    found = {name: one["pairs"] for name, one in plain["splits"].items()}
    assert found == {"train": 5, "val": 4, "test": 3}
    assert "train/patient001_slice00.png" in page
    assert not re.search(r"https?:|://|<script", page)
    assert {"images_train.png", "images_val.png"} <= {
        one.name for one in (tmp_path / "run" / "sheets").iterdir()
    }


def test_each_finding_has_a_sheet_of_its_own(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        mask = next((pair_root / split).glob("*_mask.png"))
        Image.new("L", (32, 32)).save(mask)
    check(compose([f"data.root={pair_root}"], "check"))
    sheets = [one.name for one in (tmp_path / "run" / "sheets").glob("*_note_empty_masks.png")]
    assert len(sheets) == 3


def test_the_files_that_a_finding_lists_are_those_that_it_shows(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    masks = sorted((pair_root / "train").glob("*_mask.png"))[:6]
    for mask in masks:
        Image.new("L", (32, 32)).save(mask)
    check(compose([f"data.root={pair_root}"], "check"))
    page = (tmp_path / "run" / "report.html").read_text()
    shown = [f"train/{mask.stem.removesuffix('_mask')}" for mask in masks[:5]]
    assert f'alt="empty masks: {", ".join(shown)}"' in page
    assert "the first 5 of 6" in page


def test_classes_stand_beside_their_colours_on_the_sheets(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    typed = ["data=pairs", f"data.root={pair_root}", "data.num_classes=3"]
    check(compose([*typed, "data.class_names=[liver,spleen]", "data.mask_values=null"], "check"))
    page = (tmp_path / "run" / "report.html").read_text()
    shown = re.findall(
        r'<span class="key" style="background:rgb(\([^)]*\))"></span>(\w+)</th>', page
    )
    assert shown == [(str(class_colour(1)), "liver"), (str(class_colour(2)), "spleen")]


@pytest.mark.parametrize(
    ("augment", "is_drawn", "said"),
    [
        ("flips", True, "as the first five epochs of training see it"),
        ("none", False, "Nothing is changed: add augment=NAME to see what it does."),
    ],
)
def test_a_preview_shows_what_augmentation_does(
    compose: Compose, pair_root: Path, tmp_path: Path, augment: str, is_drawn: bool, said: str
) -> None:
    check(compose([f"data.root={pair_root}", f"augment={augment}", "preview=true"], "check"))
    assert said in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "sheets" / "augmentation.png").is_file() == is_drawn


def test_a_preview_of_a_faulty_folder_says_why_there_is_none(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    (pair_root / "train" / "patient001_slice00_mask.png").unlink()
    check(compose([f"data.root={pair_root}", "augment=flips", "preview=true"], "check"))
    page = (tmp_path / "run" / "report.html").read_text()
    assert re.search("It cannot be drawn: .*patient001_slice00.png has no partner", page)


def test_a_check_without_data_is_refused(compose: Compose) -> None:
    config = compose(["data.root=x"], "check")
    with open_dict(config):
        del config.data
    with pytest.raises(ValueError, match=r"^data is missing from the config; leave out ~data, or "):
        check(config)


def test_a_check_writes_the_same_bytes_twice(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    pages = []
    for name in ("one", "two"):
        check(compose([f"data.root={pair_root}", f"output_dir={tmp_path / name}"], "check"))
        pages.append(
            [file.read_bytes() for file in sorted((tmp_path / name).rglob("*")) if file.is_file()]
        )
    assert pages[0] == pages[1]


def test_a_finding_is_told_in_lines_with_its_first_files() -> None:
    finding = Finding(
        "error",
        "size",
        "7 masks differ",
        7,
        "save them anew",
        [File(f"{place}.png") for place in range(7)],
    )
    assert finding.lines() == (
        "error: 7 masks differ\n"
        "    0.png; 1.png; 2.png; 3.png; 4.png and 2 more\n"
        "    save them anew"
    )
    assert counted([finding]) == {"errors": 1, "warnings": 0, "notes": 0}
