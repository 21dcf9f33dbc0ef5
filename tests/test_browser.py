"""The dashboard of real runs, asked over HTTP and opened in a real browser."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import browser
import pytest
from browser import Browser
from omegaconf import DictConfig
from PIL import Image
from sketches import ALL_PICTURES
from waiting import wait_for

from liverseg.experiment import train

pytestmark = pytest.mark.slow
JOBS = ["sweeps/study/0/tensorboard", "sweeps/study/1/tensorboard"]
RUNS = ["train", "val", "final", "final/val", "final/test"]  # of each job
LOSSES = {"train": 2, "val": 2, "final/val": 1, "final/test": 1}  # points of the curve


class TensorBoard:
    """Serves a folder of runs on a free port."""

    def __init__(self, logs: Path, output: Path) -> None:
        arguments = ["--logdir", logs, "--port", "0", "--host", "127.0.0.1", "--load_fast", "false"]
        with output.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tensorboard.main", *map(str, arguments)],
                stdout=stream,
                stderr=stream,
            )
        ends = time.monotonic() + 240
        while " at http" not in output.read_text():
            assert self.process.poll() is None, output.read_text()
            assert time.monotonic() < ends, output.read_text()
            time.sleep(0.2)
        self.address = output.read_text().split(" at ")[1].split()[0]

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        address = f"{self.address}data/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = Request(address, data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def charts(self) -> list[dict[str, Any]]:
        """Return the charts that are laid out."""
        layout = self.ask("plugin/custom_scalars/layout")
        return [chart for part in layout.get("category", []) for chart in part["chart"]]

    def losses(self, job: str) -> dict[str, int]:
        """Return how many points the chart of the loss has for each run that has some."""
        found: dict[str, int] = {}
        for chart in self.charts()[:1]:
            for run in LOSSES:
                asked = {"run": f"{job}/{run}", "tag": chart["multiline"]["tag"][0]}
                lines = self.ask("plugin/custom_scalars/scalars", **asked)["tag_to_events"]
                found |= {run: len(lines["loss"])} if lines.keys() == {"loss"} else {}
        return found


@pytest.fixture
def board(compose: Callable[..., DictConfig], tmp_path: Path) -> Iterator[TensorBoard]:
    """Serves two jobs of a sweep."""
    for job, width in enumerate((4, 6)):
        folder = tmp_path / "logs" / "sweeps" / "study" / str(job)
        changes = [f"model.width={width}", f"output_dir={folder}", "trainer.max_epochs=2"]
        train(compose([*changes, *ALL_PICTURES, "callbacks.dashboard.graph=true"]))
    served = TensorBoard(tmp_path / "logs", tmp_path / "tensorboard.txt")
    wait_for(lambda: len(served.ask("runs")) == len(JOBS) * len(RUNS))
    # They are all named before the events of each are read.
    wait_for(lambda: all(served.losses(job) == LOSSES for job in JOBS))
    yield served
    served.process.kill()
    served.process.wait()


def test_the_dashboard_answers(board: TensorBoard) -> None:
    assert sorted(board.ask("runs")) == sorted(f"{job}/{run}" for job in JOBS for run in RUNS)
    tabs = {name for name, tab in board.ask("plugins_listing").items() if tab["enabled"]}
    assert tabs >= {"custom_scalars", "graphs", "hparams", "images", "pr_curves", "scalars"}

    titles = [chart["title"] for chart in board.charts()]
    assert len(titles) == len(set(titles)) == 18  # shared by both runs, not repeated
    assert board.losses(JOBS[0]) == LOSSES
    charts = {tag for tags in board.ask("plugin/scalars/tags").values() for tag in tags}
    assert not [tag for tag in charts if "epoch" in tag or "final" in tag]
    assert list(board.ask("plugin/pr_curves/tags")[f"{JOBS[0]}/val"]) == ["precision_recall"]
    assert len(board.ask("plugin/images/tags")[f"{JOBS[1]}/val"]) == 8

    experiment = board.ask("plugin/hparams/experiment", {"experimentName": ""})
    compared = {one["name"]: one.get("differs", False) for one in experiment["hparamInfos"]}
    assert {name for name, differs in compared.items() if differs} - {"TEST dice"} == {
        *("VAL dice", "model/width")
    }
    metrics = {(one["name"]["group"], one["name"]["tag"]) for one in experiment["metricInfos"]}
    assert len(metrics) == 30
    assert {group for group, _ in metrics} == {"val", "test"}
    assert compared.keys() >= {"optimizer/lr", "model/depth", "seed", "scheduler"}
    wanted = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"hparam": "model/width"}, {"metric": {"group": "test", "tag": "dice"}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    groups = board.ask("plugin/hparams/session_groups", wanted)["sessionGroups"]
    assert sorted(group["hparams"]["model/width"] for group in groups) == [4, 6]
    final = {
        group["name"]: one["value"]
        for group in groups
        for one in group["metricValues"]
        if (one["name"]["group"], one["name"]["tag"]) == ("test", "dice")
    }
    for job in JOBS:
        folder = Path(board.ask("environment")["data_location"]) / job
        scores = json.loads((folder.parent / "metrics.json").read_text())
        assert final[f"{job}/final"] == pytest.approx(scores["test/dice"])


@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_a_browser_shows_charts_pictures_and_runs(board: TensorBoard, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as page:
        for place, texts, num_images in [
            ("#custom_scalars", ["Loss", "Gradient norm", "Images per second", *JOBS], 0),
            ("#images", ["pictures/patient004_slice00", "pictures/patient005_slice03"], 4),
            ("#pr_curves", ["precision_recall", *JOBS], 0),
            ("#hparams", ["VAL dice", "model/width", "optimizer/lr", "test.dice"], 0),
            ("?tagFilter=worst#timeseries", ["worst/1", "worst/4"], 2),
        ]:
            page.open(f"{board.address}{place}")
            page.wait_for(*texts, num_images=num_images)
            file = tmp_path / f"{place.split('#')[1]}.png"
            page.save_screenshot(file)
            with Image.open(file) as picture:
                assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 100
