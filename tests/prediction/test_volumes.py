import csv
import logging
import sys
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import Tensor

from liverseg.data import FolderStacks, Intensities
from liverseg.data.volumes import (
    ClassMap,
    Conversion,
    SliceView,
    convert_volumes,
    find_cases,
    find_predictions,
    named_volumes,
)
from liverseg.prediction import (
    VolumeWriter,
    classes_of,
    predict_volumes,
    score_label_maps,
    score_volumes,
    view_of,
)
from liverseg.scores import SegmentationScores

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "volumes"))
from greys import VIEW, Greys, predictor
from scans import ORIENTATIONS, affine_of, body, organs, save, save_series, slices_of, turned


class Middle(Greys):
    """Looks at the middle one of several slices."""

    def forward(self, image: Tensor) -> Tensor:
        middle = image.shape[1] // 2
        return super().forward(image[:, middle : middle + 1])


def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def run(sources: list[Any], folder: Path, **options: Any) -> dict[Path, str]:
    view = options.pop("view", VIEW)
    return predict_volumes(
        named_volumes(sources), VolumeWriter(folder, predictor(), **options), trainer(), view
    )


def test_through_all_48_orientations_each_voxel_comes_back_with_its_class(tmp_path: Path) -> None:
    sources = [
        save(tmp_path / f"{codes}.nii.gz", *turned(organs().astype(np.int16), affine_of(), codes))
        for codes in ORIENTATIONS
    ]
    assert run(sources, tmp_path / "out") == {}
    for source in sources:
        one = nib.load(source)
        found = nib.load(tmp_path / "out" / f"{source.name[:3]}_prediction.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(one.dataobj))
        np.testing.assert_array_equal(found.affine, one.affine)


def test_the_header_of_the_source_is_kept_field_by_field(tmp_path: Path) -> None:
    image = nib.Nifti1Image(organs()[..., None].astype(np.int16), affine_of())
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine_of(), 2)
    image.set_qform(affine_of(origin=(1, 2, 3)), 1)
    image.header["cal_max"] = 250
    image.header.set_slope_inter(2, -1)
    nib.save(image, tmp_path / "a.nii")
    run([tmp_path / "a.nii"], tmp_path)
    before, after = (nib.load(tmp_path / name).header for name in ("a.nii", "a_prediction.nii.gz"))
    changed = {"datatype", "bitpix", "cal_max", "descrip", "scl_slope", "scl_inter"}
    for key in before:
        if key not in changed:
            np.testing.assert_array_equal(before[key], after[key], err_msg=key)
    assert after["dim"].tolist() == [4, 7, 6, 5, 1, 1, 1, 1]
    assert after.get_data_dtype() == np.uint8
    assert nib.load(tmp_path / "a_prediction.nii.gz").dataobj.slope == 1
    assert after.get_zooms()[:3] == pytest.approx((0.5, 0.75, 2.5))


def test_an_image_of_two_axes_gives_a_label_of_two(tmp_path: Path) -> None:
    one = organs()[:, :, 1].astype(np.int16)
    run([save(tmp_path / "a.nii", one)], tmp_path)
    found = nib.load(tmp_path / "a_prediction.nii.gz")
    assert found.shape == (7, 6)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), one)


def test_a_series_gives_nifti_in_its_place_and_a_segmentation(tmp_path: Path) -> None:
    save_series(tmp_path / "ct", slices_of(organs()), step=(0, 0, -2.5), origin=(20, -30, 17))
    from liverseg.data.volumes import find_volumes, read_label, read_source

    (source,) = find_volumes(tmp_path / "ct")
    assert run([tmp_path / "ct"], tmp_path / "out", with_segmentation=True) == {}
    volume = read_source(source)
    name = "ct_prediction"
    for file in (tmp_path / "out" / f"{name}.nii.gz", tmp_path / "out" / f"{name}.dcm"):
        (case,) = find_cases(tmp_path / "ct", file)
        label, _ = read_label(case.label, volume, ClassMap(None), 0.005, None)
        np.testing.assert_array_equal(label, volume.voxels)
    seg = highdicom.seg.segread(tmp_path / "out" / f"{name}.dcm")
    assert [one.segment_label for one in seg.SegmentSequence] == ["liver", "spleen", "kidney"]


def test_the_table_says_millilitres(tmp_path: Path, caplog) -> None:
    label = np.zeros((10, 10, 10), np.int16)
    label[:5, :5, :4] = 1
    label[9, 9, 9] = 3
    save(tmp_path / "a.nii", label, affine_of((2.0, 2.0, 5.0)))
    with caplog.at_level(logging.INFO):
        run([tmp_path / "a.nii"], tmp_path / "out")
    assert "1/1 a: liver 2.0 ml, spleen 0.0 ml, kidney 0.0 ml" in caplog.text
    table = list(csv.DictReader((tmp_path / "out" / "volumes.csv").read_text().splitlines()))
    assert [(row["class"], row["voxels"], row["millilitres"]) for row in table] == [
        ("liver", "100", "2"),
        ("spleen", "0", "0"),
        ("kidney", "1", "0.02"),
    ]


def test_without_a_thickness_the_table_says_no_millilitres(tmp_path: Path, caplog) -> None:
    save(tmp_path / "a.nii", organs()[:, :, 1].astype(np.int16), affine_of((0.5, 0.75, 1.0)))
    with caplog.at_level(logging.INFO):
        assert run([tmp_path / "a.nii"], tmp_path / "out") == {}
    assert "does not say how thick" in caplog.text
    assert "1/1 a: liver 7 voxels" in caplog.text
    table = list(csv.DictReader((tmp_path / "out" / "volumes.csv").read_text().splitlines()))
    assert (table[0]["voxels"], table[0]["millilitres"]) == ("7", "")


def test_one_bad_volume_stops_no_other(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", organs().astype(np.int16))
    (tmp_path / "b.nii").write_bytes(b"\0" * 500)
    save(tmp_path / "c.nii", organs().astype(np.int16))
    refused = run([tmp_path / f"{name}.nii" for name in "abc"], tmp_path / "out")
    assert list(refused) == [tmp_path / "b.nii"]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a_prediction.nii.gz", "c_prediction.nii.gz", "volumes.csv"]


def test_slices_are_seen_as_convert_writes_them(tmp_path: Path) -> None:
    from liverseg.data.volumes import read_source, slicing_of
    from liverseg.prediction.volumes import SliceDataset

    save(tmp_path / "images" / "a.nii", body())
    save(tmp_path / "labels" / "a.nii", organs())
    for window, spacing, white in (
        ([0, 200], [0.6, 0.7], None),
        (None, None, 4095),
        ("percentiles", [1.3, 1.3], None),
    ):
        how = Conversion(
            window=window,
            classes=None,
            plane=None,
            spacing=spacing,
            empty_slices=1.0,
            tolerance=0.0,
            assume=None,
        )
        folder = tmp_path / f"{spacing}"
        convert_volumes(tmp_path / "images", tmp_path / "labels", folder, how)
        volume = read_source(tmp_path / "images" / "a.nii")
        view = SliceView(window=window, spacing=spacing)
        reader = predictor(white_value=white)
        seen = SliceDataset(volume, slicing_of(volume), view, reader)
        for place in range(5):
            assert seen[place]["image"].equal(reader.read(folder / f"a_slice{place:03}.png"))
    with pytest.raises(ValueError, match=r"^spacing=\[1e-05,1e-05\] makes slices of \d+ x \d+, mo"):
        SliceView(window=None, spacing=[1e-5, 1e-5]).size(slicing_of(volume), (5, 7))


@pytest.mark.parametrize("codes", ["RAS", "PIL"])
@pytest.mark.parametrize("slices", [3, 9])
def test_neighbours_in_a_volume_are_those_in_the_folder_of_pairs(
    slices: int, codes: str, tmp_path: Path
) -> None:
    from liverseg.data.volumes import read_source, slicing_of
    from liverseg.prediction.volumes import SliceDataset

    for name, voxels in (("images", body()), ("labels", organs())):
        save(tmp_path / name / "a.nii", *turned(voxels, affine_of(), codes))
    how = Conversion(
        window=[0, 200],
        classes=None,
        plane=None,
        spacing=[0.6, 0.7],
        empty_slices=1.0,
        tolerance=0.0,
        assume=None,
    )
    convert_volumes(tmp_path / "images", tmp_path / "labels", tmp_path / "pairs", how)
    volume = read_source(tmp_path / "images" / "a.nii")
    stacks = FolderStacks(slices, case_pattern=r"^(.+)_slice\d+$", mask_suffix="_mask")
    reader = predictor(stacks=stacks)
    view = SliceView(window=[0, 200], spacing=[0.6, 0.7])
    dataset = SliceDataset(volume, slicing_of(volume), view, reader)
    seen = [dataset[place]["image"] for place in range(5)]
    for place, image in enumerate(seen):
        assert image.equal(reader.read(tmp_path / "pairs" / f"a_slice{place:03}.png"))
    alone = [image[slices // 2] for image in seen]
    assert not alone[0].equal(alone[1])
    for place, image in enumerate(seen):  # at the borders the nearest
        near = range(place - slices // 2, place + slices // 2 + 1)
        assert image.equal(torch.stack([alone[min(max(one, 0), 4)] for one in near]))


def test_16_bits_that_would_all_but_be_black_are_refused_as_in_images(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", body())
    view = SliceView(window=None)
    refused = run([tmp_path / "a.nii"], tmp_path / "out", view=view)[tmp_path / "a.nii"]
    most = int(np.asarray(body()).max()) + 1024
    assert f"a.nii without a window has 16 bits and none of its numbers is above {most}" in refused
    assert "window=soft_tissue, or train with data.white_value=4095" in refused
    writer = VolumeWriter(tmp_path / "out", predictor(white_value=4095))
    assert predict_volumes(named_volumes([tmp_path / "a.nii"]), writer, trainer(), view) == {}
    save(tmp_path / "b.nii", np.where(organs() == 1, 3072, 0).astype(np.int16))  # 4096
    assert run([tmp_path / "b.nii"], tmp_path / "out", view=view) == {}


def test_each_slice_counts_once_in_how_bright_volumes_are(tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 3), np.int16)
    voxels[..., 2] = 4  # black, black and white by VIEW
    save(tmp_path / "a.nii", voxels)
    seen = Intensities()
    stacks = FolderStacks(3, case_pattern="", mask_suffix="_mask")
    writer = VolumeWriter(tmp_path, predictor(Middle(), stacks=stacks))
    assert (
        predict_volumes(named_volumes([tmp_path / "a.nii"]), writer, trainer(), VIEW, 2, seen) == {}
    )
    found = seen.statistics()
    assert (found["images"], found["mean"]) == (3, pytest.approx(1 / 3, abs=1e-5))


def test_another_window_than_that_of_training_is_told(caplog: pytest.LogCaptureFixture) -> None:
    record = {"window": "soft_tissue"}
    for window in (None, "soft_tissue", [50, 400]):
        view_of(record, window)
    view_of({"window": None}, "none")
    view_of(None, "lung")
    assert not caplog.messages
    for window in ("lung", "none", "percentiles", [50, 401]):
        view_of(record, window)
    assert len(caplog.messages) == 4
    assert caplog.messages[0] == (
        "window=lung: the network was trained at another window, soft_tissue (-150 to 250), and is "
        "lost at this one; leave it out to take that of training"
    )


def test_slices_of_a_plane_that_training_did_not_see_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "images" / "a.nii", organs().astype(np.int16))
    for name in "bc":
        coronal = affine_of((0.5, 2.5, 0.75))
        save(tmp_path / "images" / f"{name}.nii", organs().astype(np.int16), coronal)
        save(tmp_path / "labels" / f"{name}.nii", organs(), coronal)
    save(tmp_path / "labels" / "a.nii", organs())
    sources = [tmp_path / "images" / f"{name}.nii" for name in "abc"]
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    told = {}
    for planes in (None, 5, [], ["axial"], ["axial", "coronal"]):
        view = view_of({"window": [2, 4], "planes": planes}, None)
        caplog.clear()
        run(sources, tmp_path / "out", view=view)
        scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
        score_volumes(cases, predictor(), trainer(), view, ClassMap(None), scores)
        told[str(planes)] = [one for one in caplog.messages if "another plane" in one]
    assert told.pop("['axial']") == 2 * [
        "2 of 3 volumes are cut into slices of another plane than the network was trained on "
        f"(axial), such as {sources[1]}, which is coronal; leave them out, or train on pairs made "
        "with convert.py plane=axial: volumes are then cut so"
    ]
    assert list(told.values()) == [[], [], [], []]


def test_the_window_is_that_of_training_or_typed() -> None:
    record = {
        "window": [50, 400],
        "plane": "coronal",
        "spacing": [1.5, 1],
        "classes": {"liver": [1, 2]},
    }
    assert view_of(record, None) == SliceView([50.0, 400.0], "coronal", (1.5, 1.0))
    assert view_of(record, "lung").window == "lung"
    assert view_of({**record, "assume": "LAS", "tolerance": 0.1}, None).tolerance == 0.1
    assert view_of({**record, "assume": "LAS"}, None).assume == "LAS"
    assert view_of({**record, "assume": "LAS"}, None, "RAS").assume == "RAS"
    with pytest.raises(ValueError, match=r"^assume=RLS must name each direction once, such as RAS"):
        view_of(record, None, "RLS")
    assert view_of(record, "none").window is None
    assert view_of({"window": None}, None).window is None
    for nothing in (None, {}, "text"):
        with pytest.raises(ValueError, match=r"does not say at which window.*window=soft_tissue"):
            view_of(nothing, None)
    assert view_of(None, "lung") == SliceView("lung")
    with pytest.raises(ValueError, match="window=5 must be"):
        view_of({"window": 5}, None)
    assert classes_of(record, None).names == ["liver"]
    assert classes_of(record, {"spleen": 3}).names == ["spleen"]
    assert classes_of(None, None).names is None


def test_scores_are_counted_over_the_voxels_of_a_patient(tmp_path: Path) -> None:
    found = organs().astype(np.int16)
    save(tmp_path / "images" / "a.nii", found)
    save(tmp_path / "images" / "b.nii", found)
    truth = organs()
    truth[1, 1, 1:4] = 0  # of the 8 voxels of class 1
    save(tmp_path / "labels" / "a.nii", *turned(truth, affine_of(), "LPI"))
    save(tmp_path / "labels" / "b.nii", organs())
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
    scored, refused, _ = score_volumes(cases, predictor(), trainer(), VIEW, ClassMap(None), scores)
    assert ([case.name for case in scored], refused) == (["a", "b"], {})
    size = int((organs() == 1).sum())
    dice = 2 * (size - 3) / (2 * size - 3)
    values = scores.compute()
    assert float(values["dice/liver"]) == pytest.approx((dice + 1) / 2)
    assert float(values["dice_case/spleen"]) == 1


def test_what_is_true_is_known_again_whichever_way_it_is_stored(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii", organs().astype(np.int16))
    hashes = {}
    for name, truth in (("LPI", organs()), ("SAR", organs()), ("other", organs() * 2 % 4)):
        codes = "RAS" if name == "other" else name
        save(tmp_path / name / "a.nii", *turned(truth, affine_of(), codes))
        cases = find_cases(tmp_path / "images", tmp_path / name)
        scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
        found = score_volumes(cases, predictor(), trainer(), VIEW, ClassMap(None), scores)
        hashes[name] = found.truth
        (pair,) = find_predictions(tmp_path / "images", tmp_path / name)
        scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
        assert score_label_maps([pair], ClassMap(None), scores).truth == found.truth
    assert hashes["LPI"] == hashes["SAR"] != hashes["other"]


@pytest.mark.parametrize("codes", ["RAS", "PIL", "SAR"])
def test_distances_are_those_of_the_volume_in_mm(codes: str, tmp_path: Path) -> None:
    found, truth = np.zeros((2, 9, 8, 7), np.int16)  # 0.5 x 0.75 x 2.5 mm
    found[2:6, 2:6, 1] = truth[2:6, 2:6, 3] = 1  # sheets, 2 slices apart: 5 mm
    found[8, :, 5:], truth[7, :, 5:] = 2, 2  # a column apart: 0.5 mm
    found[0, 0, 0] = 3  # where nothing is
    save(tmp_path / "images" / "a.nii", *turned(found, affine_of(), codes))
    save(tmp_path / "labels" / "a.nii", *turned(truth.astype(np.uint8), affine_of(), "LPI"))
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    for tolerance, within in ((5, 1), (4.9, 0)):
        scores = SegmentationScores(
            *(4, ["liver", "spleen", "kidney"]),
            chosen=("hd95", "assd", "nsd"),
            tolerance=tolerance,
        )
        score_volumes(cases, predictor(), trainer(), VIEW, ClassMap(None), scores)
        values = {name: float(value) for name, value in scores.compute().items()}
        for word in ("hd95", "assd"):
            assert values[f"{word}/liver"] == pytest.approx(5)
            assert values[f"{word}/spleen"] == pytest.approx(0.5)
            assert f"{word}/kidney" not in values  # infinite
        assert [values[f"nsd/{name}"] for name in scores.class_names] == [within, 1, 0]


def test_a_volume_that_cannot_be_scored_is_returned_with_the_reason(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "images" / f"{name}.nii", organs().astype(np.int16))
        save(tmp_path / "labels" / f"{name}.nii", organs()[:, :, : 4 if name == "b" else None])
    (tmp_path / "labels" / "c.nii").unlink()
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
    scored, refused, _ = score_volumes(cases, predictor(), trainer(), VIEW, ClassMap(None), scores)
    assert [case.name for case in scored] == ["a"]
    b, c = (str(tmp_path / "images" / f"{name}.nii") for name in "bc")
    assert list(refused) == [b, c]
    assert "save it on the grid of the volume" in refused[b]
    assert refused[c].startswith(f"{c} has no label")


def test_a_series_without_label_beside_the_labelled_one_is_left_out(tmp_path: Path) -> None:
    save_series(tmp_path / "images" / "anna" / "venous", slices_of(organs()))
    save_series(tmp_path / "images" / "anna" / "late", slices_of(organs()))
    affine = affine_of(origin=(0, 0, 0))
    save(tmp_path / "labels" / "anna_venous.nii", organs(), affine)
    cases = find_cases(tmp_path / "images", tmp_path / "labels")
    assert [case.is_lone for case in cases] == [True, False]
    scores = SegmentationScores(4, ["liver", "spleen", "kidney"])
    _, refused, _ = score_volumes(cases, predictor(), trainer(), VIEW, ClassMap(None), scores)
    assert list(map(str, refused)) == [str(cases[1].source)]  # whose label lies elsewhere
