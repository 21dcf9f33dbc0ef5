import shutil
from pathlib import Path
from typing import Any

import pytest
from scans import body, organs, save, save_series, slices_of

from liverseg.data.volumes import named_volumes, read_source, write_label, write_segmentation
from liverseg.data.volumes.entries import entries_of, key_of, source_of
from liverseg.data.volumes.finding import (
    Case,
    find_cases,
    find_predictions,
    find_predictions_on,
    find_volumes,
)


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


SAME: dict[str, Any] = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}


@pytest.mark.parametrize(
    ("changes", "origin"),
    [({}, (20.0, -30.0, 7.0)), ({}, (20.0, -30.0, 8.1)), ({"PatientID": "P2"}, (0.0, 0.0, 900.0))],
)
def test_one_uid_in_the_folders_of_two_patients_is_two_series(
    changes: dict[str, Any], origin: tuple[float, ...], tmp_path: Path
) -> None:
    for name, more, at in (("anna", {}, (20.0, -30.0, 7.0)), ("bert", changes, origin)):
        save_series(tmp_path / "ct" / name / "a", slices_of(organs()), origin=at, **SAME, **more)
        save(tmp_path / "labels" / f"{name}.nii", organs())
    anna, bert = find_volumes(tmp_path / "ct")
    assert [one.folder.parent.name for one in (anna, bert)] == ["anna", "bert"]
    for one in (anna, bert):
        assert read_source(one).voxels.shape == organs().shape
    listed = [tmp_path / "ct" / name for name in ("anna", "bert")]
    assert [one.folder for one in find_volumes(listed)] == [anna.folder, bert.folder]
    cases = find_cases(tmp_path / "ct", tmp_path / "labels")
    assert [(case.patient, case.label.name) for case in cases] == [
        ("anna", "anna.nii"),
        ("bert", "bert.nii"),
    ]


def test_each_of_two_series_of_one_uid_has_its_segmentation(tmp_path: Path) -> None:
    for name in ("anna", "bert"):
        save_series(tmp_path / "ct" / name, slices_of(organs()), **SAME)
        (source,) = find_volumes(tmp_path / "ct" / name)
        volume = read_source(source)
        (tmp_path / "seg" / name).mkdir(parents=True)
        names = {1: "liver", 2: "spleen", 3: "kidney"}
        write_segmentation(tmp_path / "seg" / name / "seg.dcm", organs(), volume, names)
    cases = find_cases(tmp_path / "ct", tmp_path / "seg")
    assert [(case.patient, case.label.path.parent.name) for case in cases] == [
        ("anna", "anna"),
        ("bert", "bert"),
    ]


def test_a_series_whose_files_lie_in_several_folders_stays_one(tmp_path: Path) -> None:
    files = save_series(tmp_path / "ct", slices_of(organs()), **SAME)
    for place, file in enumerate(files):
        (tmp_path / "ct" / f"{place % 2}").mkdir(exist_ok=True)
        file.rename(tmp_path / "ct" / f"{place % 2}" / file.name)
    (source,) = find_volumes(tmp_path / "ct")
    assert read_source(source).voxels.shape == organs().shape
    for place, name in enumerate("aa-bb"):  # one folder goes on behind a gap
        file = tmp_path / "ct" / f"{place % 2}" / files[place].name
        (tmp_path / "ct" / name).mkdir(exist_ok=True)
        file.rename(tmp_path / "ct" / name / file.name)
    (tmp_path / "ct" / "-" / files[2].name).unlink()
    (source,) = find_volumes(tmp_path / "ct")
    with pytest.raises(ValueError, match="lacks slices"):
        read_source(source)


def test_a_slice_that_lies_there_twice_makes_no_second_series(tmp_path: Path) -> None:
    files = save_series(tmp_path / "ct" / "anna", slices_of(organs()), **SAME)
    (tmp_path / "ct" / "anna" / "copy.dcm").write_bytes(files[0].read_bytes())
    for folder in (tmp_path / "ct", tmp_path / "ct" / "anna"):
        (source,) = find_volumes(folder)
        with pytest.raises(ValueError, match="at the place of another"):
            read_source(source)


def test_slices_that_a_pattern_or_a_list_names_are_one_volume(tmp_path: Path) -> None:
    first = save_series(tmp_path / "ct", slices_of(organs()))
    save_series(tmp_path / "ct", slices_of(body()), name="late{}.dcm", SeriesNumber=3)
    (source,) = find_volumes(f"{tmp_path}/ct/IMG*.dcm")
    assert read_source(source).voxels.shape == organs().shape
    (source,) = find_volumes([str(path) for path in first])
    assert read_source(source).voxels.shape == organs().shape
    assert len(find_volumes(f"{tmp_path}/ct/*")) == len(find_volumes(f"{tmp_path}/*")) == 2
    (source,) = find_volumes(first[2])
    assert read_source(source).voxels.shape == (7, 6, 1)
    assert list(named_volumes(f"{tmp_path}/ct/IMG*.dcm")) == ["ct"]


def test_what_a_prediction_wrote_is_no_source_and_names_say_whose_it_is(tmp_path: Path) -> None:
    for name in ("case_1/imaging", "case_2/imaging", "case 3"):
        save(tmp_path / f"{name}.nii.gz", body())
        volume = read_source(tmp_path / f"{name}.nii.gz")
        (tmp_path / "out").mkdir(exist_ok=True)
        write_label(tmp_path / "out" / f"{Path(name).name}_prediction.nii.gz", organs(), volume)
    save(tmp_path / "my_prediction.nii", body())  # of somebody else
    assert sorted(named_volumes(tmp_path)) == ["case 3", "case_1", "case_2", "my_prediction"]
    assert len(find_volumes(tmp_path / "out" / "case 3_prediction.nii.gz")) == 1  # by its name


def test_volumes_of_one_name_in_two_folders_are_told_apart_by_these(tmp_path: Path) -> None:
    for name in ("A/liver_1.nii", "A/liver_2.nii", "B/liver_1.nii", "B/liver_3.nii"):
        save(tmp_path / name, body())
    found = named_volumes([tmp_path / "B", tmp_path / "A"])
    assert {name: str(path.relative_to(tmp_path)) for name, path in found.items()} == {
        "B_liver_1": "B/liver_1.nii",
        "liver_3": "B/liver_3.nii",
        "A_liver_1": "A/liver_1.nii",
        "liver_2": "A/liver_2.nii",
    }


@pytest.mark.parametrize(
    ("volumes", "patients"),
    [
        (
            ["patient1/patient1_frame01.nii", "patient1/patient1_frame12.nii"],
            ["patient1", "patient1"],
        ),
        (
            ["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii", "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii"],
            ["sub-01", "sub-01"],
        ),
        (["liver/liver_1.nii", "liver/liver_2.nii"], ["liver_1", "liver_2"]),
        (["case_1/imaging.nii", "case_2/imaging.nii"], ["case_1", "case_2"]),
    ],
)
def test_volumes_whose_names_begin_with_their_folder_and_its_number_are_of_one_patient(
    volumes: list[str], patients: list[str], tmp_path: Path
) -> None:
    for name in volumes:
        save(tmp_path / "images" / name, body())
        save(tmp_path / "labels" / name, organs())
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    assert [case.patient for case in cases] == patients


def test_series_of_several_patients_in_one_folder_are_told_apart_by_their_ids(
    tmp_path: Path,
) -> None:
    for patient in ("Ann", "Bob"):
        for number in (1, 2):
            save_series(
                tmp_path / "flat",
                slices_of(body()),
                name=f"{patient}{number}_{{}}.dcm",
                PatientID=patient,
                SeriesNumber=number,
            )
    entries = entries_of(tmp_path / "flat", "source")
    patients = {source_of(one).patient: one.patient for one in entries}
    assert (len(entries), patients) == (4, {"Ann": "flat_1", "Bob": "flat_2"})
    ends = [f"{patient}_series{number}" for patient in (1, 2) for number in (1, 2)]
    assert sorted(named_volumes(tmp_path / "flat")) == [f"flat_{end}" for end in ends]


def test_two_studies_of_one_id_are_of_one_patient_where_ids_tell_several(tmp_path: Path) -> None:
    for study, patient in (("study1", "P1"), ("study2", "P1"), ("study3", "P2")):
        save_series(tmp_path / "dicom" / study, slices_of(body()), PatientID=patient)
        save(tmp_path / "labels" / f"{study}.nii", organs())
    cases = find_cases(tmp_path / "dicom", tmp_path / "labels")
    assert [case.patient for case in cases] == ["study1", "study1", "study3"]
    (tmp_path / "labels" / "study3.nii").unlink()
    shutil.rmtree(tmp_path / "dicom" / "study3")  # one ID may be what anonymising has left of all
    cases = find_cases(tmp_path / "dicom", tmp_path / "labels")
    assert [case.patient for case in cases] == ["study1", "study2"]


def test_labels_that_are_a_part_of_the_source_are_labels_whatever_their_names(
    tmp_path: Path,
) -> None:
    save(tmp_path / "all" / "a.nii", body())
    save(tmp_path / "all" / "done" / "a.nii", organs())
    (case,) = find_cases(tmp_path / "all", tmp_path / "all" / "done")
    assert (case.name, case.label) == ("a", tmp_path / "all" / "done" / "a.nii")


def test_volumes_that_share_a_label_are_told_so_where_none_is_left(tmp_path: Path) -> None:
    for channel in ("0000", "0001"):
        save(tmp_path / "images" / f"a_{channel}.nii", body())
    save(tmp_path / "labels" / "a.nii", organs())
    with pytest.raises(ValueError, match=r"has the label of .* too .*; name one volume per label"):
        find_cases(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize(
    ("files", "images"),
    [
        (["volume-0", "volume-1", "segmentation-0", "segmentation-1"], ["volume-0", "volume-1"]),
        (["patient001_frame01", "patient001_frame01_gt"], ["patient001_frame01"]),
        (["segmentation-0", "segmentation-1"], ["segmentation-0", "segmentation-1"]),
        (["volume-0", "segmentation-7"], ["volume-0", "segmentation-7"]),  # of another one
    ],
)
def test_labels_beside_their_volumes_are_no_volumes(
    files: list[str], images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in files:
        save(tmp_path / f"{file}.nii", body())
    assert set(named_volumes(tmp_path)) == set(images)
    assert ("left out, as labels by their names: " in caplog.text) is (len(images) < len(files))


@pytest.mark.parametrize("end", ["", "_prediction", "_seg"])
def test_a_label_that_is_called_as_predict_calls_a_volume_is_of_that_alone(
    end: str, tmp_path: Path
) -> None:
    for number in (1, 2):
        tags = {"SeriesNumber": number, "name": f"{number}_{{}}.dcm"}
        save_series(tmp_path / "ct" / "two", slices_of(body()), **tags)
        tags |= {"SeriesNumber": 2, "PatientID": f"other {number}"}
        save_series(tmp_path / "ct" / "mixed up", slices_of(body()), **tags)
    for name in ("a_ct", "a_mr", "b/liver_1", "c/liver_1"):
        save(tmp_path / "ct" / f"{name}.nii", body())
    sources = named_volumes(tmp_path / "ct")
    assert sorted(sources) == [
        *("a_ct", "a_mr", "b_liver_1", "c_liver_1"),
        *("mixed up_1", "mixed up_2", "two_series1", "two_series2"),
    ]
    for name in sources:
        save(tmp_path / "labels" / f"{name}{end}.nii.gz", organs())
        save(tmp_path / "found" / f"{name}_prediction.nii.gz", organs())
    cases = find_predictions_on(tmp_path / "ct", tmp_path / "found", tmp_path / "labels")
    told = {key_of(one.source): (one.label.name, one.predicted.name) for one in cases}
    assert told == {
        key_of(source): (f"{name}{end}.nii.gz", f"{name}_prediction.nii.gz")
        for name, source in sources.items()
    }
    pairs = find_predictions(tmp_path / "found", tmp_path / "labels")
    assert {(one.source.name, one.predicted.name) for one in pairs} == set(told.values())


def test_numbers_in_another_order_are_another_case(tmp_path: Path) -> None:
    for name in ("ct/case_1_2", "ct/case_5", "seg/case_2_1", "seg/case_5"):
        save(tmp_path / f"{name}.nii", body())
    cases = find_cases(tmp_path / "ct", tmp_path / "seg")
    assert told(cases, tmp_path) == {"case_1_2": None, "case_5": "seg/case_5.nii"}
    with pytest.raises(FileNotFoundError, match=r"1 of 2 labels .*ct/case_1_2\.nii"):
        find_predictions(tmp_path / "seg", tmp_path / "ct")
    save(tmp_path / "seg" / "patient_7_case_1_scan_2.nii", organs())  # in their order
    (first, _) = find_cases(tmp_path / "ct", tmp_path / "seg")
    assert str(first.label).endswith("patient_7_case_1_scan_2.nii")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (
            ["patient_01_study_1", "patient_02_study_1"],
            ["study_1/patient_01_seg", "study_1/patient_02_seg"],
        ),
        (["01_20200101", "02_20200102"], ["20200101/01", "20200102/02"]),
        (["01/2020_ct", "02/2020_ct"], ["2020_01", "2020_02"]),
    ],
)
def test_words_of_folders_may_stand_in_another_order(
    images: list[str], labels: list[str], tmp_path: Path
) -> None:
    for name in [*(f"i/{one}" for one in images), *(f"l/{one}" for one in labels)]:
        save(tmp_path / f"{name}.nii", body())
    found = find_cases(tmp_path / "i", tmp_path / "l")
    assert [str(one.label) for one in found] == [str(tmp_path / f"l/{one}.nii") for one in labels]
