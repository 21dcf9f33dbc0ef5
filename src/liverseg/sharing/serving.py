"""A page to try a model on, for this computer alone.

Whatever a browser is made to send here by another page, or a program by itself, is answered with a
sentence: the host is checked against DNS rebinding, lengths are bounded and chunks refused, a
request must be read within a time, and one image is computed at once.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from liverseg.sharing.answers import Answers
from liverseg.sharing.volumes import MOST_BYTES, VolumeAnswers

HOST = "127.0.0.1"
_MOST_BYTES = 2**26  # of a file
_SECONDS_TO_READ = 20.0  # a whole request
_SECONDS_TO_WAIT = 120.0  # for those before
_MOST_CONNECTIONS = 32
_WHOLE = re.compile(r"[0-9]{1,6}")
_HASHED = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_OPEN = "liverseg.read"  # the key of what tells that a request has been read
_FILES = {  # to be kept; the page knows the name of a volume
    "image/png": 'attachment; filename="mask.png"',
    "application/gzip": "attachment",
}
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


class _Refused(Exception):  # noqa: N818  # an answer
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Page:
    """The page as a WSGI application.

    Args:
        answers: Knows the model.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._html = files("liverseg.sharing").joinpath("page.html").read_bytes()
        self._policy = _policy(self._html.decode())
        self._computing = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            status, kind, body = "200 OK", *self._answer(environ)
        except _Refused as error:
            status, kind, body = error.status, *_told(str(error))
        except ValueError as error:
            status, kind, body = "422 Unprocessable Content", *_told(str(error))
        except MemoryError:
            status = "422 Unprocessable Content"
            kind, body = _told("there is not enough memory for this image; make it smaller")
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if kind in _FILES:
            headers.append(("Content-Disposition", _FILES[kind]))
        start(status, [*headers, ("Content-Security-Policy", self._policy), *_HEADERS])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, bytes]:
        """Return kind and content of an answer."""
        _refuse_others(environ)
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        query = {name: one[-1] for name, one in parse_qs(environ.get("QUERY_STRING", "")).items()}
        if method in ("GET", "HEAD"):
            environ[_OPEN]()
            if path == "/":
                return "text/html; charset=utf-8", self._html
            if path == "/model":
                return _json(self._answers.model())
            if path == "/mask.png":
                return "image/png", self._answers.file(query.get("id", ""), _threshold(query))
            if path == "/slice" and _WHOLE.fullmatch(query.get("index", "")):
                return _json(self._volumes().slice(query.get("id", ""), int(query["index"])))
            if path == "/volume.nii.gz":
                return "application/gzip", self._volumes().file(query.get("id", ""))
            raise _Refused("404 Not Found", "there is no such page")
        if method != "POST":
            raise _Refused("405 Method Not Allowed", "this page answers GET and POST alone")
        content = _content(environ, MOST_BYTES if path == "/volume" else _MOST_BYTES)
        if path == "/predict":
            return _json(self._one_at_a_time(lambda: self._answers.predict(content)))
        if path == "/mask":
            return _json(self._one_at_a_time(lambda: self._answers.mask(content)))
        if path == "/volume":
            return _json(self._one_at_a_time(lambda: self._volumes().take(content)))
        if path == "/volume/next":
            name = query.get("id", "")
            return _json(self._one_at_a_time(lambda: self._volumes().go_on(name)))
        if path == "/example" and _WHOLE.fullmatch(query.get("index", "")):
            index = int(query["index"])
            return _json(self._one_at_a_time(lambda: self._answers.predict_example(index)))
        raise _Refused("404 Not Found", "there is no such page")

    def _volumes(self) -> VolumeAnswers:
        if self._answers.volumes is None:
            raise ValueError("this page takes no volumes; pip install 'liverseg[volumes]'")
        return self._answers.volumes

    def _one_at_a_time(self, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not self._computing.acquire(timeout=_SECONDS_TO_WAIT):
            raise _Refused("429 Too Many Requests", "others are computed; try again in a minute")
        try:
            return answer()
        finally:
            self._computing.release()


class _Handler(WSGIRequestHandler):
    """Ends a connection whose request takes too long, and logs nothing."""

    timeout = _SECONDS_TO_READ

    def setup(self) -> None:
        super().setup()
        self._deadline = threading.Timer(_SECONDS_TO_READ, self._shut)
        self._deadline.daemon = True
        self._deadline.start()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            self.connection.shutdown(socket.SHUT_RDWR)

    def make_environ(self) -> WSGIEnvironment:
        return {**super().make_environ(), _OPEN: self._deadline.cancel}

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            pass  # the other end is gone, or was shut
        finally:
            self._deadline.cancel()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request, also where it names no version, with a status."""
        self.request_version = "HTTP/1.0"
        super().send_error(code, message, explain)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: the terminal is for the address."""


class _Server(ThreadedWSGIServer):
    """Serves so many connections at once, and closes the others."""

    daemon_threads = True

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def make_page_server(answers: Answers, port: int) -> BaseWSGIServer:
    """Return a server of the page on the loopback address; 0 takes a port that is free.

    Raises:
        ValueError: If the port cannot be had.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port={port} cannot be had ({error.strerror}); choose another, or port=0 for any "
                "that is free"
            ) from error
    return _Server(HOST, port, Page(answers), handler=_Handler)


def _refuse_others(environ: WSGIEnvironment) -> None:
    """Refuse what is not meant for this page, or was sent by another one."""
    port = environ["SERVER_PORT"]
    own = {f"{name}:{port}" for name in (HOST, "localhost")}
    if environ.get("HTTP_HOST") not in own:
        raise _Refused("403 Forbidden", f"open this page as http://{HOST}:{port}")
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin not in {f"http://{one}" for one in own}:
        raise _Refused("403 Forbidden", "another page may not use this one")
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        raise _Refused("403 Forbidden", "another page may not use this one")


def _content(environ: WSGIEnvironment, most: int) -> bytes:
    """Read what was sent, no more than was announced."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise _Refused("411 Length Required", "send the file as a whole, with its length")
    announced = environ.get("CONTENT_LENGTH") or ""
    if not re.fullmatch(r"[0-9]{1,18}", announced):
        raise _Refused("411 Length Required", "say how long the file is")
    length = int(announced)
    if length > most:
        raise _Refused(
            "413 Content Too Large",
            f"the file has {length:,} bytes, and this page takes {most:,}",
        )
    try:
        content: bytes = environ["wsgi.input"].read(length)
    except (OSError, HTTPException) as error:
        raise _Refused("408 Request Timeout", "the file did not arrive in time") from error
    environ[_OPEN]()
    if len(content) < length:
        raise _Refused("400 Bad Request", "the file is shorter than was announced")
    return content


def _threshold(query: dict[str, str]) -> float | None:
    text = query.get("threshold", "")
    if not text:
        return None
    if not re.fullmatch(r"[01]?\.?[0-9]{0,6}", text) or text == ".":
        raise ValueError("the threshold must be a number from 0 to 1")
    return float(text)


def _policy(html: str) -> str:
    """Allow the page its own style and script, and nothing from elsewhere."""
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _HASHED.findall(html):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src "
        f"{' '.join(hashes['style'])}; img-src data: blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def _json(answer: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(answer).encode()


def _told(sentence: str) -> tuple[str, bytes]:
    return _json({"error": sentence})
