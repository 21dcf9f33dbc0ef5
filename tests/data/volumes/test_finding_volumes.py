from pathlib import Path

import pytest
from scans import body, organs, save, save_series, slices_of

from liverseg.data.volumes.finding import Case, find_cases


def told(cases: list[Case], root: Path) -> dict[str, str | None]:
    """The label of each case by its name, both relative."""
    return {
        case.name: None if case.label is None else str(Path(case.label).relative_to(root))
        for case in cases
    }


@pytest.mark.parametrize(
    ("volumes", "marks", "source", "labels", "found"),
    [
        pytest.param(
            ["volume-3.nii", "volume-30.nii"],
            ["segmentation-3.nii", "segmentation-30.nii"],
            ".",
            ".",
            {"volume-3": "segmentation-3.nii", "volume-30": "segmentation-30.nii"},
            id="LiTS",
        ),
        pytest.param(
            ["imagesTr/liver_3.nii.gz", "imagesTr/liver_13.nii.gz"],
            ["labelsTr/liver_3.nii.gz", "labelsTr/liver_13.nii.gz"],
            "imagesTr",
            "labelsTr",
            {"liver_13": "labelsTr/liver_13.nii.gz", "liver_3": "labelsTr/liver_3.nii.gz"},
            id="Decathlon",
        ),
        pytest.param(
            ["imagesTr/liver_3.nii.gz"],
            ["labelsTr/liver_3.nii.gz"],
            ".",
            ".",
            {"liver_3": "labelsTr/liver_3.nii.gz"},
            id="Decathlon from above",
        ),
        pytest.param(
            ["imagesTr/BRATS_001_0000.nii.gz", "imagesTr/BRATS_002_0000.nii.gz"],
            ["labelsTr/BRATS_001.nii.gz", "labelsTr/BRATS_002.nii.gz"],
            "imagesTr",
            "labelsTr",
            {
                "BRATS_001": "labelsTr/BRATS_001.nii.gz",
                "BRATS_002": "labelsTr/BRATS_002.nii.gz",
            },
            id="nnU-Net",
        ),
        pytest.param(
            ["case_00000/imaging.nii.gz", "case_00001/imaging.nii.gz"],
            ["case_00000/segmentation.nii.gz", "case_00001/segmentation.nii.gz"],
            ".",
            ".",
            {
                "case_00000": "case_00000/segmentation.nii.gz",
                "case_00001": "case_00001/segmentation.nii.gz",
            },
            id="KiTS",
        ),
        pytest.param(
            ["s1/ct.nii.gz", "s2/ct.nii.gz"],
            [f"{s}/segmentations/{o}.nii.gz" for s in ("s1", "s2") for o in ("liver", "spleen")],
            "*/ct.nii.gz",
            "*/segmentations/liver.nii.gz",
            {
                "s1": "s1/segmentations/liver.nii.gz",
                "s2": "s2/segmentations/liver.nii.gz",
            },
            id="TotalSegmentator",
        ),
        pytest.param(
            ["patient1_ct.nii.gz", "patient2_ct.nii.gz"],
            ["patient1_organs.nii.gz", "patient2_organs.nii.gz"],
            "*_ct.nii.gz",
            "*_organs.nii.gz",
            {
                "patient1_ct": "patient1_organs.nii.gz",
                "patient2_ct": "patient2_organs.nii.gz",
            },
            id="patterns",
        ),
        pytest.param(
            ["one.nii.gz"],
            ["other.nii.gz"],
            "one.nii.gz",
            "other.nii.gz",
            {"one": "other.nii.gz"},
            id="a file each",
        ),
        pytest.param(
            ["a/1.nii", "a/2.nii"],
            ["b/1.nii"],
            "a",
            "b",
            {"1": "b/1.nii", "2": None},
            id="one without a label",
        ),
    ],
)
def test_each_volume_goes_with_its_label(
    volumes: list[str],
    marks: list[str],
    source: str,
    labels: str,
    found: dict[str, str | None],
    tmp_path: Path,
) -> None:
    for name in volumes:
        save(tmp_path / name, body())
    for name in marks:
        save(tmp_path / name, organs())
    (tmp_path / "._volume-3.nii").write_bytes(b"of a Mac")
    cases = find_cases(str(tmp_path / source), str(tmp_path / labels))
    assert told(cases, tmp_path) == found


def test_two_labels_of_one_volume_are_refused_with_the_remedy(tmp_path: Path) -> None:
    save(tmp_path / "s1" / "ct.nii", body())
    for organ in ("liver", "spleen"):
        save(tmp_path / "s1" / "segmentations" / f"{organ}.nii", organs())
    with pytest.raises(ValueError, match=r"labels=.*holds no label whose name goes with") as caught:
        find_cases(tmp_path / "s1" / "ct.nii", tmp_path / "s1" / "segmentations")
    assert "2 labels" in str(caught.value) or "name one file" in str(caught.value)


def test_labels_that_go_with_nothing_are_refused(tmp_path: Path) -> None:
    for name in ("a/1.nii", "a/2.nii", "b/8.nii", "b/9.nii"):
        save(tmp_path / name, body())
    with pytest.raises(ValueError, match=r"no label whose name goes with a volume of source="):
        find_cases(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"labels=.*c holds no label"):
        find_cases(tmp_path / "a", tmp_path / "c")


def test_series_are_named_by_their_folders_and_go_with_a_label_of_as_many_voxels(
    tmp_path: Path,
) -> None:
    save_series(tmp_path / "in" / "anna" / "DICOM", slices_of(body()))
    for number in (2, 3):
        save_series(tmp_path / "in" / "bob" / f"S{number}", slices_of(body()), SeriesNumber=number)
    save_series(tmp_path / "in" / "cem" / "S4", slices_of(body()), SeriesNumber=4)
    save_series(tmp_path / "in" / "cem" / "S5", slices_of(body())[:3], SeriesNumber=5)
    for name in ("anna", "bob", "cem"):
        save(tmp_path / "labels" / f"{name}.nii", organs())
    cases = find_cases(tmp_path / "in", tmp_path / "labels")
    assert [(case.name, case.patient) for case in cases] == [
        ("anna", "anna"),
        ("bob_S2", "bob"),
        ("bob_S3", "bob"),
        ("cem_S4", "cem"),
        ("cem_S5", "cem"),
    ]
    assert [case.label and Path(case.label).name for case in cases] == [
        *("anna.nii", None, None, "cem.nii", None)
    ]
    assert "name one volume per label" in cases[1].fault
    assert cases[4].is_lone
