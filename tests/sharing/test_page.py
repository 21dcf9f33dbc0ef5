"""The page to try a model: its answers, what it refuses, and the page in a real browser."""

import base64
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import torch
from browser import Browser
from PIL import Image
from werkzeug.serving import BaseWSGIServer

from liverseg.data import MaskReader
from liverseg.data.pairs import find_pairs
from liverseg.data.transforms import Normalize
from liverseg.network import UNet
from liverseg.prediction import Predictor, Voter
from liverseg.sharing import serving
from liverseg.sharing.answers import Answers
from liverseg.sharing.serving import make_page_server


def predictor(num_classes: int = 1) -> Predictor:
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=num_classes, depth=1, width=2).eval()
    return Predictor(
        [Voter(net, Normalize(mean=0.5, std=0.1, channels=1))],
        channels=1,
        image_size=None,
        white_value=None,
        num_classes=num_classes,
        class_names=["liver", "spleen"][: max(num_classes - 1, 1)],
        mask_reader=MaskReader(num_classes=num_classes),
    ).eval()


@contextmanager
def served(answers: Answers) -> Iterator[BaseWSGIServer]:
    """Serve a page on a port of its own."""
    made = make_page_server(answers, 0)
    often = {"poll_interval": 0.02}  # looks whether it is to end
    thread = threading.Thread(target=made.serve_forever, kwargs=often, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join(10)
        made.server_close()


@pytest.fixture
def server(pair_root: Path) -> Iterator[BaseWSGIServer]:
    """A page with four examples."""
    answers = Answers(predictor(), title="Try it", examples=find_pairs(pair_root / "val"))
    with served(answers) as made:
        yield made


def send(server: BaseWSGIServer, request: bytes, wait: float = 60) -> tuple[int, bytes]:
    """Send bytes as they are; return status and content of what comes back, 0 for nothing."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as connection:
        try:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(1 << 20):
                answer += part
        except OSError:
            pass
    head, _, content = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head.startswith(b"HTTP/") else 0), content


def post(server: BaseWSGIServer, path: str, content: bytes, *lines: str) -> tuple[int, Any]:
    head = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines]
    if not any(line.startswith(("Content-Length", "Transfer")) for line in lines):
        head.append(f"Content-Length: {len(content)}")
    status, answer = send(server, "\r\n".join([*head, "", ""]).encode() + content)
    return status, json.loads(answer) if answer.startswith(b"{") else answer


def get(server: BaseWSGIServer, path: str, *lines: str) -> tuple[int, bytes]:
    lines = lines or (f"Host: localhost:{server.port}",)
    return send(server, "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())


def pixels(text: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_an_image_is_answered_with_what_the_predictor_finds(
    server: BaseWSGIServer, pair_root: Path
) -> None:
    file = pair_root / "val" / "patient004_slice00.png"
    status, found = post(server, "/predict", file.read_bytes())
    assert status == 200
    wanted = predictor().predict(predictor().read(file)[None])
    assert np.array_equal(pixels(found["classes"]), wanted.classes[0])
    deep = pixels(found["probability"]).astype(int)
    probability = (deep[..., 0] * 256 + deep[..., 1]) / 65535
    assert np.abs(probability - wanted.probabilities[0, 0].numpy()).max() < 1e-5
    assert np.array_equal(pixels(found["image"]), np.asarray(Image.open(file)))

    for threshold in ("", "0.52"):
        status, png = get(server, f"/mask.png?id={found['id']}&threshold={threshold}")
        assert status == 200
        mask = wanted.probabilities[0, 0] > float(threshold or 0.5)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), mask * np.uint8(255))


def test_an_example_comes_with_its_mask_and_a_mask_is_read_as_the_data_set_writes_it(
    server: BaseWSGIServer, pair_root: Path
) -> None:
    status, model = get(server, "/model")
    assert json.loads(model)["examples"][0] == "patient004_slice00"
    file = pair_root / "val" / "patient004_slice00_mask.png"
    truth = np.asarray(Image.open(file)) // 255
    for status, found in (
        post(server, "/example?index=0", b""),
        post(server, "/mask", file.read_bytes()),
    ):
        assert status == 200
        assert np.array_equal(pixels(found["truth"]), truth)
    image = file.with_name("patient004_slice00.png").read_bytes()
    status, found = post(server, "/mask", image)
    assert (status, found["error"][:21]) == (422, "the mask holds undecl")


def test_several_classes_have_no_threshold() -> None:
    answers = Answers(predictor(num_classes=3), title="Try it")
    assert answers.model()["threshold"] is None
    assert answers.model()["names"] == ["background", "liver", "spleen"]
    stream = io.BytesIO()
    Image.new("L", (7, 5), 90).save(stream, "PNG")
    found = answers.predict(stream.getvalue())
    assert found["probability"] == ""
    assert pixels(found["classes"]).shape == (5, 7)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_each_common_kind_of_image_is_read(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("L", (7, 5), 90).save(stream, kind)
    found = Answers(predictor(), title="Try it").predict(stream.getvalue())
    assert pixels(found["classes"]).shape == (5, 7)


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it is large."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def hostile(port: int) -> list[tuple[bytes, int]]:
    """Return requests that nobody sends by mistake, and the status of each."""
    own = f"Host: 127.0.0.1:{port}\r\n"
    requests: list[tuple[str, bytes, int]] = [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"", 403),
        (f"GET / HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n", b"", 403),
        ("GET / HTTP/1.1\r\n\r\n", b"", 403),
        ("GET / HTTP/1.0\r\n\r\n", b"", 403),
        (f"GET http://evil.example/ HTTP/1.1\r\n{own}\r\n", b"", 0),
        (f"GET / HTTP/1.1\r\n{own}Origin: http://evil.example\r\n\r\n", b"", 403),
        (f"GET /model HTTP/1.1\r\n{own}Sec-Fetch-Site: cross-site\r\n\r\n", b"", 403),
        (f"POST /predict HTTP/1.1\r\n{own}Origin: null\r\nContent-Length: 1\r\n\r\n", b"x", 403),
        (f"POST /predict HTTP/1.1\r\n{own}\r\n", b"", 411),
        (f"POST /predict HTTP/1.1\r\n{own}Content-Length: -5\r\n\r\n", b"x", 411),
        (f"POST /predict HTTP/1.1\r\n{own}Content-Length: 1e3\r\n\r\n", b"x", 411),
        (f"POST /predict HTTP/1.1\r\n{own}Content-Length: 99999999999\r\n\r\n", b"x", 413),
        (f"POST /predict HTTP/1.1\r\n{own}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", 411),
        (
            f"POST /predict HTTP/1.1\r\n{own}Content-Length: 3\r\n"
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            *(b"", 411),
        ),
        (f"PUT /predict HTTP/1.1\r\n{own}Content-Length: 1\r\n\r\n", b"x", 405),
        (f"DELETE / HTTP/1.1\r\n{own}\r\n", b"", 405),
        (f"OPTIONS * HTTP/1.1\r\n{own}\r\n", b"", 405),
        (f"GET /../../../../etc/passwd HTTP/1.1\r\n{own}\r\n", b"", 404),
        (f"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n{own}\r\n", b"", 404),
        (f"GET //etc/passwd HTTP/1.1\r\n{own}\r\n", b"", 404),
        (f"GET /page.html%00.png HTTP/1.1\r\n{own}\r\n", b"", 404),
        (f"GET /mask.png?id=../../etc/passwd HTTP/1.1\r\n{own}\r\n", b"", 422),
        (f"GET /mask.png?id=x&threshold=nan HTTP/1.1\r\n{own}\r\n", b"", 422),
        (f"POST /example?index=99 HTTP/1.1\r\n{own}Content-Length: 0\r\n\r\n", b"", 422),
        (f"POST /example?index=-1 HTTP/1.1\r\n{own}Content-Length: 0\r\n\r\n", b"", 404),
        (f"GET /{'a' * 70_000} HTTP/1.1\r\n{own}\r\n", b"", 414),
        (f"GET / HTTP/1.1\r\n{own}A: {'a' * 70_000}\r\n\r\n", b"", 431),
        ("GET\r\n\r\n", b"", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"", 400),
    ]
    files = [
        *(b"", b"GIF89a" + bytes(100), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", bytes(10_000)),
        *(bomb(12_000, 9_000), bomb(2**31 - 1, 2**31 - 1), bomb(1000, 1000), bomb(0, 0)),
        *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + bytes(100), b"II*\0" + b"\xff" * 100),
    ]
    for path in ("/predict", "/mask"):
        for content in files:
            head = f"POST {path} HTTP/1.1\r\n{own}Content-Length: {len(content)}\r\n\r\n"
            requests.append((head, content, 422))
    return [(head.encode("latin-1") + content, status) for head, content, status in requests]


def test_hostile_requests_are_refused_and_the_next_one_is_answered(
    server: BaseWSGIServer, pair_root: Path
) -> None:
    for request, wanted in hostile(server.port):
        status, content = send(server, request)
        assert status == wanted or (wanted == 0 and 400 <= status < 500), (request[:90], status)
        assert b"liverseg-" not in content, "the name of a folder"
        assert b"Traceback" not in content
    image = (pair_root / "val" / "patient004_slice00.png").read_bytes()
    assert post(server, "/predict", image)[0] == 200


def test_who_is_slow_is_let_go_and_others_are_answered_meanwhile(
    pair_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_SECONDS_TO_READ", 1.0)
    answers = Answers(predictor(), title="Try it", examples=find_pairs(pair_root / "val"))
    with served(answers) as made:
        own = f"Host: 127.0.0.1:{made.port}\r\n"
        slow = [
            socket.create_connection(("127.0.0.1", made.port), timeout=60)
            for _ in range(serving._MOST_CONNECTIONS - 1)
        ]
        begun = time.monotonic()
        for place, one in enumerate(slow):
            half = f"POST /predict HTTP/1.1\r\n{own}Content-Length: 1000\r\n\r\nhalf"
            one.sendall([b"", b"GET / HT", half.encode()][place % 3])
        assert get(made, "/model")[0] == 200
        for one in slow:
            while one.recv(1 << 16):
                pass
            one.close()
        assert time.monotonic() - begun < 18  # one after another, they would take 31 seconds
        assert get(made, "/model")[0] == 200


def test_a_port_that_is_taken_is_told(server: BaseWSGIServer) -> None:
    with pytest.raises(ValueError, match=rf"port={server.port} cannot be had .* port=0"):
        make_page_server(Answers(predictor(), title="Try it"), server.port)


def test_the_page_names_no_other_address_and_allows_no_other_script(
    server: BaseWSGIServer,
) -> None:
    status, html = get(server, "/")
    assert status == 200
    assert b"http://" not in html
    assert b"https://" not in html
    assert b" style=" not in html
    assert b"onclick" not in html


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_a_long_class_name_leaves_numbers_in_one_line_and_check_boxes_their_size(
    pair_root: Path, tmp_path: Path
) -> None:
    found = predictor(num_classes=3)
    found.class_names = ["liver", "a left kidney with a name that is indeed longer than its column"]
    with (
        served(Answers(found, title="Try it")) as made,
        Browser(tmp_path / "profile") as page,
    ):
        for width in (1280, 390):
            page.look_as(width, 844)
            page.open(f"http://127.0.0.1:{made.port}/")
            page.wait_for("Drop an image here")
            page.choose_file("#image", pair_root / "val" / "patient004_slice00.png")
            page.wait_for("32 x 32 pixels", "share", "left kidney")
            boxes, lines = page.value(
                "[[...document.querySelectorAll('#rows input')].map(e => e.offsetWidth),"
                "[...document.querySelectorAll('td.share')].map(e => {"
                "const text = document.createRange(); text.selectNodeContents(e);"
                "return text.getClientRects().length})]"
            )
            assert boxes == [18, 18]  # 1.1 rem
            assert lines == [1, 1]


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_a_browser_goes_from_an_image_to_the_file_of_its_mask(
    server: BaseWSGIServer, pair_root: Path, tmp_path: Path
) -> None:
    file = pair_root / "val" / "patient004_slice00.png"
    (tmp_path / "downloads").mkdir()
    with Browser(tmp_path / "profile") as page:
        page.save_downloads_in(tmp_path / "downloads")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.look_as(width, 844, scheme)
            page.open(f"http://127.0.0.1:{server.port}/")
            page.wait_for("Try it", "Drop an image here")
            page.choose_file("#image", file)
            page.wait_for("32 x 32 pixels", "share", "liver")
            page.choose_file("#mask", file.with_name("patient004_slice00_mask.png"))
            page.wait_for("compared with the given mask", "Dice")
            assert page.value("document.documentElement.scrollWidth") == width
            page.save_screenshot(tmp_path / f"{width}.png")
        page.value(
            "threshold.value = 0.52; threshold.dispatchEvent(new Event('input'));download.click()"
        )
        ends = time.monotonic() + 120
        while not (saved := tmp_path / "downloads" / "mask.png").is_file():
            assert time.monotonic() < ends, "nothing is downloaded"
            time.sleep(0.2)
        found = predictor().predict(predictor().read(file)[None]).probabilities[0, 0]
        mask = (found > 0.52).numpy()
        assert np.array_equal(np.asarray(Image.open(saved)), mask * np.uint8(255))
        page.wait_for(f"{100 * mask.mean():.2f} %")
        page.choose_file("#image", Path(__file__))
        page.wait_for("no file that this page reads", "or a volume as .nii.gz")
