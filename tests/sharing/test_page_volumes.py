"""Volumes on the page to try a model: slice by slice, and as a file like its source."""

import gzip
import io
import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import nibabel as nib
import numpy as np
import pytest
from browser import Browser
from lightning import Trainer
from PIL import Image
from torch import Tensor
from werkzeug.serving import BaseWSGIServer

from liverseg.data import FolderStacks
from liverseg.data.pairs import find_pairs
from liverseg.data.volumes import read_source, slicing_of
from liverseg.prediction.volumes import predict_volume
from liverseg.sharing import commands, volumes
from liverseg.sharing.answers import Answers
from liverseg.sharing.volumes import VolumeAnswers

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "volumes"))
from greys import VIEW, Greys, predictor
from scans import affine_of, organs, save, turned
from test_page import get, pixels, post, served


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[BaseWSGIServer]:
    view = getattr(request, "param", VIEW)
    found = predictor()
    answers = Answers(found, title="Try it", volumes=VolumeAnswers(found, view, "32-true"))
    with served(answers) as made:
        yield made


def computed(server: BaseWSGIServer, content: bytes) -> tuple[str, Any]:
    """Send a volume, and return its name and what is told at the end."""
    status, found = post(server, "/volume", content)
    assert status == 200, found
    state = {"done": 0}
    while "most" not in state:
        status, state = post(server, f"/volume/next?id={found['id']}", b"")
        assert status == 200, state
    return found["id"], found | state


def json_of(answer: tuple[int, bytes]) -> Any:
    return json.loads(answer[1])


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_volume_comes_back_voxel_for_voxel_with_its_geometry(
    ending: str, server: BaseWSGIServer, tmp_path: Path
) -> None:
    file = save(tmp_path / f"a.{ending}", *turned(organs().astype(np.int16), affine_of(), "PIL"))
    name, told = computed(server, file.read_bytes())
    assert (told["slices"], told["height"], told["width"], told["plane"]) == (5, 6, 7, "axial")
    assert told["spacing"] == [0.75, 0.5]
    one = 0.5 * 0.75 * 2.5 / 1000
    wanted = [count * one for count in np.bincount(organs().ravel())]
    assert told["millilitres"][:4] == pytest.approx(wanted)
    assert told["most"] == 1  # from the feet
    status, content = get(server, f"/volume.nii.gz?id={name}")
    assert status == 200
    (tmp_path / "back.nii.gz").write_bytes(content)
    back, source = nib.load(tmp_path / "back.nii.gz"), nib.load(file)
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), np.asanyarray(source.dataobj))
    np.testing.assert_array_equal(back.affine, source.affine)
    volume = read_source(file)
    slices = slicing_of(volume).cut(volume.voxels)
    for place in range(5):
        found = json_of(get(server, f"/slice?id={name}&index={place}"))
        np.testing.assert_array_equal(pixels(found["classes"]), slices[place])
        np.testing.assert_array_equal(
            pixels(found["image"]), np.array([0, 64, 128, 191])[slices[place]]
        )


def test_the_page_finds_what_predict_finds(server: BaseWSGIServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = save(tmp_path / "a.nii", rng.integers(0, 5, (9, 8, 7)).astype(np.int16))
    name, _ = computed(server, file.read_bytes())
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    wanted = predict_volume(read_source(file), predictor(), trainer, VIEW)
    _, content = get(server, f"/volume.nii.gz?id={name}")
    (tmp_path / "back.nii.gz").write_bytes(content)
    np.testing.assert_array_equal(nib.load(tmp_path / "back.nii.gz").dataobj, wanted)


def test_a_network_that_sees_several_slices_takes_volumes_and_no_file_of_one(
    tmp_path: Path,
) -> None:
    class Middle(Greys):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image[:, 1:2])

    stacks = FolderStacks(3, case_pattern=r"^(.+)_slice\d+$", mask_suffix="_mask")
    found = predictor(Middle(), stacks=stacks)
    for place in range(3):
        Image.new("L", (7, 5), 60 * place).save(tmp_path / f"a_slice{place:02}.png")
        Image.new("L", (7, 5), 0).save(tmp_path / f"a_slice{place:02}_mask.png")
    seen = VolumeAnswers(found, VIEW, "32-true")
    answers = Answers(found, title="Try it", examples=find_pairs(tmp_path), volumes=seen)
    with pytest.raises(ValueError, match="sees 3 slices at once, and a file is one; choose a vol"):
        answers.predict((tmp_path / "a_slice01.png").read_bytes())
    example = answers.predict_example(1)
    assert (pixels(example["image"]) == 60).all()
    assert (pixels(example["classes"]) == 1).all()
    name = seen.take(save(tmp_path / "a.nii", organs().astype(np.int16)).read_bytes())["id"]
    assert seen.go_on(name)["done"] == 5
    assert np.array_equal(pixels(seen.slice(name, 1)["classes"]), organs()[::-1, ::-1, 1].T)


def test_one_volume_is_kept_and_its_folder_is_not(server: BaseWSGIServer, tmp_path: Path) -> None:
    content = save(tmp_path / "a.nii.gz", organs().astype(np.int16)).read_bytes()
    first, _ = computed(server, content)
    status, found = post(server, "/volume", content)
    assert status == 200
    for path in (f"/slice?id={first}&index=0", f"/volume.nii.gz?id={first}"):
        status, answer = get(server, path)
        assert (status, b"kept no longer" in answer) == (422, True)
    status, answer = get(server, f"/volume.nii.gz?id={found['id']}")
    assert (status, b"not computed yet" in answer) == (422, True)
    assert post(server, "/volume/next?id=other", b"")[0] == 422


def with_offset(content: bytes, offset: float, extension: int = 0) -> bytes:
    head = bytearray(content[:352])
    struct.pack_into("<f", head, 108, offset)
    if extension:
        head[348] = 1
        return bytes(head) + struct.pack("<ii", extension, 6) + content[352:]
    return bytes(head) + content[352:]


def with_shape(content: bytes, *shape: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(f"<{len(shape) + 1}h", changed, 40, len(shape), *shape)
    return bytes(changed)


def test_hostile_volumes_are_refused_and_the_next_one_is_answered(
    server: BaseWSGIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = save(tmp_path / "a.nii", organs().astype(np.int16)).read_bytes()
    png = io.BytesIO()
    Image.new("L", (5, 5)).save(png, "PNG")
    zeros = gzip.compress(with_shape(good, 2000, 2000, 1000) + bytes(5_000_000))
    files = [
        *(b"", b"\x1f\x8b", b"\x1f\x8b" + bytes(100), bytes(1000), png.getvalue(), good[:300]),
        *(good[:-3], gzip.compress(good)[:-20], gzip.compress(good[:-3]), zeros),
        *(with_shape(good, 7, 6, 5, 2), with_shape(good, 0, 6, 5), with_shape(good, -7, 6, 5)),
        *(with_shape(good, 32767, 32767, 32767), with_offset(good, 1e30)),
        *(with_offset(good, float("nan")), gzip.compress(with_offset(good, 3e9))),
        *(gzip.compress(with_offset(good, 1e6, extension=2**31 - 16) + bytes(2_000_000)),),
        with_offset(good, 1e5, extension=-16),
    ]
    for number, content in enumerate(files):
        status, found = post(server, "/volume", content)
        assert status == 422, (number, found)
        assert "liverseg-" not in found["error"], "the name of a folder"
    monkeypatch.setattr(volumes, "_MOST_STORED", 400)
    status, found = post(server, "/volume", good)
    assert (status, found["error"][:27]) == (422, "the voxels take 420 bytes, ")
    monkeypatch.undo()
    monkeypatch.setattr(volumes, "MOST_PIXELS", 40)
    status, found = post(server, "/volume", good)
    assert (status, found["error"][:26]) == (422, "its slices are 6 x 7 pixel")
    monkeypatch.undo()
    computed(server, good)


@pytest.mark.parametrize("server", ["set window=..., when demo.py is started"], indirect=True)
def test_without_a_window_the_page_says_what_to_set(server: BaseWSGIServer) -> None:
    status, found = post(server, "/volume", b"x")
    assert (status, found["error"]) == (422, "set window=..., when demo.py is started")


def test_axes_are_assumed_where_a_volume_does_not_say_and_demo_is_told(tmp_path: Path) -> None:
    image = nib.Nifti1Image(organs().astype(np.int16), None)  # sform and qform are not set
    nib.save(image, tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    checkpoint = {"liverseg": {"volumes": {"window": [2, 4]}}}
    for assume in (None, "RAS"):
        settings = {"window": None, "assume": assume}
        answers = commands._volumes(checkpoint, predictor(), settings, "32-true")
        assert answers is not None
        if assume is None:
            with pytest.raises(ValueError, match=r"the volume does not say .*, such as assume=LAS"):
                answers.take(content)
        else:
            assert answers.take(content)["plane"] == "axial"
    with pytest.raises(ValueError, match="assume=RLS must name each direction once"):
        commands._volumes(checkpoint, predictor(), {"window": None, "assume": "RLS"}, "32-true")


def test_what_is_odd_about_a_volume_is_told_on_the_page_and_not_in_the_terminal(
    server: BaseWSGIServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nib.Nifti1Image(organs().astype(np.int16), affine_of())
    image.set_qform(affine_of(origin=(-20.0, 30.0, 10.0)), 1)
    nib.save(image, tmp_path / "a.nii")
    status, found = post(server, "/volume", (tmp_path / "a.nii").read_bytes())
    assert status == 200
    two, below = found["warnings"]
    assert two.startswith("the volume has two geometries, 3 mm apart: the sform (RAS, origin (-20")
    assert below == "the volume holds no value below 0 (0 to 3): are these Hounsfield units?"
    assert caplog.records == []
    plain = save(tmp_path / "b.nii", organs().astype(np.int16) - 1)
    assert post(server, "/volume", plain.read_bytes())[1]["warnings"] == []


def test_a_page_without_volumes_says_so() -> None:
    with served(Answers(predictor(), title="Try it")) as made:
        assert json_of(get(made, "/model"))["volumes"] is False
        status, found = post(made, "/volume", b"x")
        assert (status, found["error"][:26]) == (422, "this page takes no volumes")


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_a_browser_goes_through_the_slices_and_keeps_the_label_volume(
    server: BaseWSGIServer, tmp_path: Path
) -> None:
    file = save(tmp_path / "anna.nii.gz", organs().astype(np.int16))
    (tmp_path / "downloads").mkdir()
    with Browser(tmp_path / "profile") as page:
        page.save_downloads_in(tmp_path / "downloads")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.look_as(width, 844, scheme)
            page.open(f"http://127.0.0.1:{server.port}/")
            page.wait_for("or a volume (.nii, .nii.gz)")
            page.choose_file("#image", file)
            page.wait_for("6 x 7 pixels, axial", "2 of 5", "of slice", "ml")
            page.value("slice.value = 4; slice.dispatchEvent(new Event('input'))")
            page.wait_for("4 of 5")
            assert page.value("document.documentElement.scrollWidth") <= width
            page.save_screenshot(tmp_path / f"{width}.png")
        page.wait_for("are these Hounsfield units?")
        page.value("download.click()")
        saved, ends = tmp_path / "downloads" / "anna_prediction.nii.gz", time.monotonic() + 120
        while not saved.is_file():
            assert time.monotonic() < ends, "nothing is downloaded"
            time.sleep(0.2)
        np.testing.assert_array_equal(np.asanyarray(nib.load(saved).dataobj), organs())
        hidden = ("controls.hidden", "canvas.hidden", "part('slice-part').hidden")
        assert [page.value(one) for one in hidden] == [False] * 3
        page.choose_file("#image", save(tmp_path / "bad.nii", np.zeros((3, 3, 3, 2), np.int16)))
        page.wait_for("several volumes in one", "Drop an image here")
        assert [page.value(one) for one in hidden] == [True] * 3
        page.choose_file("#image", file)
        page.wait_for("6 x 7 pixels, axial")
        assert [page.value(one) for one in hidden] == [False] * 3
