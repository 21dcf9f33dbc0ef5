"""A headless Chromium that a test drives through a pipe, by the DevTools protocol."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# TensorBoard keeps most of its text in shadow trees, which document.body.innerText leaves out.
_ALL_TEXT = """
(function text(node) {
    const inside = [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes];
    return inside.map(child =>
        child.nodeType === Node.TEXT_NODE ? child.data
        : ['STYLE', 'SCRIPT', 'TEMPLATE'].includes(child.tagName) ? '' : text(child)
    ).join(' ');
})(document.body)
"""
_ALL_IMAGES = """
(function images(node) {
    const inside = [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes];
    const own = node.tagName === 'IMG' && node.naturalWidth > 300 ? 1 : 0;
    return inside.reduce((sum, child) => sum + images(child), own);
})(document.body)
"""


class Browser:
    """One page.

    Args:
        folder: An empty folder for its profile.
    """

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        commands, self._to_browser = os.pipe()
        self._from_browser, answers = os.pipe()
        # Copies from 10 up, lest one stand where the other is to go.
        low, high = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (commands, answers))
        switches = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run"),
            *("--disable-dev-shm-usage", "--window-size=1400,1400", "--remote-debugging-pipe"),
            f"--user-data-dir={folder}",
        ]
        self._process = subprocess.Popen(
            # Chromium reads from 3 and writes to 4.
            ["bash", "-c", f'exec "$@" 3<&{low} 4>&{high}', "bash", PROGRAM, *switches],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(low, high),
        )
        for one in (commands, answers, low, high):
            os.close(one)
        self._number = 0
        self._unread = b""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to_browser)
        os.close(self._from_browser)

    def open(self, address: str) -> None:
        """Load a page afresh."""
        self._ask("Page.navigate", self._session, url="about:blank")
        self._ask("Page.navigate", self._session, url=address)

    def wait_for(self, *texts: str, num_images: int = 0, seconds: float = 240) -> None:
        """Return once the page shows these texts, and so many pictures of more than 300 pixels.

        Spaces do not count: TensorBoard writes a long name in two pieces.
        """
        ends = time.monotonic() + seconds
        missing: list[str] = list(texts)
        shown = 0
        while time.monotonic() < ends:
            text = "".join(str(self.value(_ALL_TEXT) or "").split())
            missing = [one for one in texts if "".join(one.split()) not in text]
            shown = int(self.value(_ALL_IMAGES) or 0)
            if not missing and shown >= num_images:
                return
            time.sleep(0.5)
        raise AssertionError(f"missing: {missing}, {shown} pictures are shown")

    def choose_file(self, selector: str, file: Path) -> None:
        """Choose a file in a field, as its dialog does."""
        document = self._ask("DOM.getDocument", self._session)["root"]["nodeId"]
        found = self._ask("DOM.querySelector", self._session, nodeId=document, selector=selector)
        self._ask("DOM.setFileInputFiles", self._session, nodeId=found["nodeId"], files=[str(file)])

    def save_downloads_in(self, folder: Path) -> None:
        """Write what a page has downloaded into a folder, without a question."""
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def look_as(
        self, width: int, height: int, scheme: str = "light", medium: str = "screen"
    ) -> None:
        """Give the page a size in pixels, the reader a wish, light or dark, and screen or print."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        wish = {"name": "prefers-color-scheme", "value": scheme}
        self._ask("Emulation.setEmulatedMedia", self._session, media=medium, features=[wish])

    def save_screenshot(self, file: Path) -> None:
        """Write what is seen as PNG."""
        picture = self._ask("Page.captureScreenshot", self._session)["data"]
        file.write_bytes(base64.b64decode(picture))

    def value(self, expression: str) -> Any:
        """Return what JavaScript evaluates to, None while the page is not ready."""
        answer = self._ask(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True
        )
        return answer["result"].get("value")

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._unread:
                read = os.read(self._from_browser, 1 << 20)
                assert read, "the browser has ended"
                self._unread += read
            line, _, self._unread = self._unread.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
