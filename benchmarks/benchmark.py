"""How fast training and prediction are, beside what one would use instead: ``make benchmark``.

    python benchmarks/benchmark.py [--device cuda] [--only step,parts,compile,target,...]
                                   [--data DIR] [--rounds 3] [--steps 4] [--width 64] [--quick]

Everything is measured in one run: the loops take turns, and medians are compared as ratios, since
seconds depend on the machine and on its neighbours. The table is printed and written, with the
machine described, to ``logs/benchmark/DATE_TIME/benchmark.md`` and ``benchmark.json``.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, Trainer
from loops import (
    CONFIGS,
    WARM_UP,
    WARM_UP_OF_A_RUN,
    Apart,
    BestLoop,
    Files,
    Here,
    LessonLoop,
    LightningLoop,
    OurLoop,
    now,
    quiet,
    tune,
)
from PIL import Image
from torch._inductor import config as inductor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from liverseg.data import Phantom
from liverseg.experiment import predict, train
from liverseg.network import UNet
from liverseg.runs import num_cores
from liverseg.training import AUTOCAST_FORMATS, compile_network, fast_precision

ROOT = Path(__file__).parents[1]
Rows = list[tuple[str, ...]]


def steps(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Compare training steps, in images per second."""
    is_gpu = arguments.device == "cuda"
    rows: Rows = [("size", "batch", "loop", "images/s", "of the lesson", "of the best")]
    rows[0] += ("of the ceiling",) if is_gpu else ()
    numbers: dict[str, Any] = {}
    sizes = arguments.sizes or ([512, 572] if is_gpu else [128, 256])
    settings = [(size, "unet_paper" if size == 572 else "unet") for size in sizes]
    batches = (4, arguments.best_batch) if is_gpu else (4,)
    ceiling = flops_per_second(arguments.device) if is_gpu else 1.0
    for size, model in settings:
        root = pairs_of(folder, size)
        for batch_size in batches:
            loops = loops_of(root, model, batch_size, arguments)
            taken = alternate(loops, arguments, f"{size}/{batch_size}")
            for one in loops:
                one.end()
            speed = {
                name: batch_size / statistics.median(seconds) for name, seconds in taken.items()
            }
            key = f"{size}/{batch_size}"
            numbers[f"images_per_second/{key}"] = speed
            lesson, best = speed.get("lesson"), speed["best"]
            flops = flops_of_an_image(arguments.width, size) if model == "unet" else None
            for name, value in speed.items():
                cells = [value / lesson if lesson else None, value / best]
                if is_gpu:
                    cells.append(flops * value / ceiling if flops else None)
                    numbers[f"share_of_ceiling/{key}/{name}"] = cells[-1]
                told = ("" if one is None else f"{one:.2f}" for one in cells)
                rows.append((str(size), str(batch_size), name, f"{value:.2f}", *told))
            numbers[f"share_of_best_loop/{key}"] = speed["liverseg"] / best
            if lesson:
                numbers[f"train_step_ratio_to_tutorial/{key}"] = speed["liverseg"] / lesson
    return numbers, rows


def alternate(
    loops: list[Apart] | list[Here], arguments: argparse.Namespace, of: str
) -> dict[str, list[float]]:
    """Let loops take turns; return the seconds of a step of each by name, and tell them at once."""
    taken: dict[str, list[float]] = {one.name: [] for one in loops}
    for number in range(arguments.rounds):
        for one in loops if number % 2 == 0 else reversed(loops):
            seconds = one.seconds(arguments.steps)
            taken[one.name].append(seconds)
            print(f"  {of} {one.name}: {1000 * seconds:.1f} ms", file=sys.stderr, flush=True)
    return taken


def loops_of(
    root: Path, model: str, batch_size: int, arguments: argparse.Namespace
) -> list[Apart] | list[Here]:
    """Return the loops that are held against each other."""
    shared = {
        "root": root,
        "width": arguments.width,
        "batch_size": batch_size,
        "device": arguments.device,
    }
    simple = (LessonLoop, LightningLoop) if model == "unet" else ()
    if arguments.device == "cpu":
        tuned = [Apart(one, is_tuned=True, model=model, **shared) for one in (OurLoop, BestLoop)]
        return [*tuned, *(Apart(one, is_tuned=False, **shared) for one in simple)]
    loops = [Here(one, model=model, **shared) for one in (OurLoop, BestLoop)]
    for name, change in (("from files", "data.cache_megabytes=0"), ("compiled", "compile=true")):
        made = {**shared, "model": model, "changes": (change,)}
        loops.append(Here(OurLoop, name=f"liverseg, {name}", **made))
    return [*loops, *(Here(one, **shared) for one in simple)]


def compiling(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Say after how many steps ``compile=true`` has saved the time that it takes."""
    rows: Rows = [("size", "batch", "step, ms", "compiled, ms", "compiling, s", "pays after")]
    numbers: dict[str, Any] = {}
    is_gpu = arguments.device == "cuda"
    if not is_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return numbers, [("it needs a C++ compiler, and none is here",)]
    batch_size = arguments.best_batch if is_gpu else 4
    for size in arguments.sizes or ([512] if is_gpu else [128, 256]):
        shared = {"width": arguments.width, "batch_size": batch_size, "device": arguments.device}
        loops = [
            Here(BestLoop, name=name, root=pairs_of(folder, size), **shared)
            for name in ("as it is", "compiled")
        ]
        net = loops[1].loop.net  # type: ignore[attr-defined]  # a BestLoop
        compile_network(net, torch.device(arguments.device))
        start = now()
        with inductor.patch(force_disable_caches=True):  # as on a machine that has compiled nothing
            loops[1].seconds(1)
        taken = now() - start
        before, after = map(statistics.median, alternate(loops, arguments, f"{size}").values())
        taken -= (WARM_UP + 1) * after
        saved = before - after
        # Rounds differ by some per cent: less is no gain that is known.
        steps_needed = taken / saved if saved > 0.03 * before else None
        told = f"{steps_needed:,.0f} steps" if steps_needed else "never"
        cells = (f"{1000 * before:.0f}", f"{1000 * after:.0f}", f"{taken:.0f}", told)
        rows.append((str(size), str(batch_size), *cells))
        numbers[f"compile/{size}"] = {
            "step_seconds": before,
            "compiled_step_seconds": after,
            "seconds_to_compile": taken,
            "steps_to_pay": steps_needed,
        }
    return numbers, rows


def parts(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Say where a step goes, and how much of what the machine can multiply it uses."""
    size = 512 if arguments.device == "cuda" else 128
    root = pairs_of(folder, size)
    given: dict[str, Any] = {"width": arguments.width, "batch_size": 4, "device": arguments.device}
    given |= {"root": root, "changes": ("trainer=profile",)}
    is_cpu = arguments.device == "cpu"
    loop = Apart(OurLoop, is_tuned=True, **given) if is_cpu else Here(OurLoop, **given)
    # The profile is of the steps of the warm-up, too: as many as hide them.
    seconds = loop.seconds(max(arguments.steps, 3 * WARM_UP_OF_A_RUN))
    loop.end()
    text = (root / "run" / "profile.txt").read_text()
    rows: Rows = [("part of a step", "ms", "share")]
    for line in text.splitlines():
        if line.endswith("%") and ":" not in line:
            *name, milliseconds, share = line.split()
            rows.append((" ".join(name), milliseconds, share))
    flops = flops_of_an_image(arguments.width, size)
    ceiling = flops_per_second(arguments.device)
    share = 4 * flops / seconds / ceiling
    rows += [
        ("GFLOP of an image, forward and backward", f"{flops / 1e9:.1f}", ""),
        ("GFLOP/s of a large product", f"{ceiling / 1e9:.0f}", f"{share:.1%}"),
    ]
    numbers = {"profile": text, "flops_per_image": flops, "ceiling_flops_per_second": ceiling}
    return {**numbers, "share_of_ceiling": share}, rows


def flops_of_an_image(width: int, size: int) -> int:
    """Return the floating-point operations of one training step for one image, counted by torch."""
    net = UNet(in_channels=1, num_classes=1, depth=4, width=width).eval()  # convolved as written
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, size, size)).sum().backward()
    return int(counter.get_total_flops())


def flops_per_second(device: str) -> float:
    """Return how many operations of a matrix product a second takes, in the format of training."""
    kind = AUTOCAST_FORMATS.get(fast_precision(device)[0], torch.float32)
    size = 8192 if device == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(kind)  # zeros and ones would be faster
    best = float("inf")
    for _ in range(5):
        start = now()
        for _ in range(4):
            left @ left
        best = min(best, (now() - start) / 4)
    return float(2 * size**3 / best)


def target(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Compare the time until the pooled Dice of val reaches a value."""
    rows: Rows = [("data", "pooled Dice", "loop", "seconds")]
    numbers: dict[str, Any] = {}
    places = {"phantom": phantom_of(folder, (24, 6, 6), 128)}
    if arguments.data:
        places["data"] = arguments.data
    for name, root in places.items():
        ours = seconds_to(root, arguments)
        theirs = lesson_seconds_to(root, arguments)
        for loop, seconds in (("liverseg", ours), ("lesson", theirs)):
            told = f"{seconds:.0f}" if seconds is not None else f"not in {arguments.limit:.0f} s"
            rows.append((name, f"{arguments.dice}", loop, told))
            numbers[f"seconds_to_dice/{name}/{loop}"] = seconds
    return numbers, rows


class Until(Callback):
    """Ends training when val reaches a score, and notes when that was."""

    reached: float | None = None

    def __init__(self, dice: float, limit: float) -> None:
        self.dice, self.limit = dice, limit

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Start the clock."""
        Until.reached, self.since = None, now()

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Look at the score."""
        if trainer.sanity_checking:
            return
        elapsed = now() - self.since
        if float(trainer.callback_metrics["val/dice_pooled"]) >= self.dice:
            Until.reached = elapsed
        trainer.should_stop = Until.reached is not None or elapsed > self.limit


def seconds_to(root: Path, arguments: argparse.Namespace) -> float | None:
    """Return how long ``train.py data=liver`` takes to a pooled Dice; None if it does not."""
    with (
        tempfile.TemporaryDirectory() as run,
        initialize_config_dir(str(CONFIGS), version_base="1.3"),
    ):
        clock = f"{{_target_: {Until.__module__}.Until, dice: {arguments.dice}, limit: "
        config = compose(
            "train",
            [
                *("data=liver", f"data.root={root}", f"output_dir={run}", "sweep_name=unused"),
                *("++trainer.enable_progress_bar=false", f"trainer.accelerator={arguments.device}"),
                f"+callbacks.until={clock}{arguments.limit}}}",
            ],
        )
        train(config)
    return Until.reached


def lesson_seconds_to(root: Path, arguments: argparse.Namespace) -> float | None:
    """Return how long the lesson's loop takes, looking at val after each pass over train."""
    loop = LessonLoop(root, width=arguments.width, batch_size=4, device=arguments.device)
    val = DataLoader(Files(root / "val"), batch_size=4)
    passes = max(1, len(Files(root / "train")) // 4)
    start = now()
    while now() - start < arguments.limit:
        loop.net.train()
        loop.seconds(passes)
        loop.net.eval()
        counts = torch.zeros(2)
        with torch.no_grad():
            for image, mask in val:
                found = (loop.net(image.to(arguments.device)) > 0).cpu()
                counts += torch.stack([2 * (found & (mask > 0)).sum(), found.sum() + mask.sum()])
        if counts[0] / counts[1].clamp(min=1) >= arguments.dice:
            return now() - start
    return None


def predictions(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Measure predict.py, files read and written."""
    root = pairs_of(folder, 256)
    shared = {"width": 16, "batch_size": 4, "device": arguments.device}
    OurLoop(root, **shared).seconds(1)
    images = [one for one in sorted((root / "train").glob("*.png")) if "_mask" not in one.name]
    rows: Rows = [("pictures", "images/s")]
    numbers = {}
    for pictures in (True, False):
        with (
            tempfile.TemporaryDirectory() as output,
            initialize_config_dir(str(CONFIGS), version_base="1.3"),
        ):
            config = compose(
                "predict",
                [
                    f"ckpt_path={root / 'run' / 'checkpoints' / 'best.ckpt'}",
                    *(f"source={root / 'train'}", f"output_dir={output}"),
                    *(f"pictures={str(pictures).lower()}", "allow=[loops]"),
                    f"trainer.accelerator={arguments.device}",
                ],
            )
            start = now()
            predict(config)
            speed = len(images) / (now() - start)
        rows.append((str(pictures).lower(), f"{speed:.1f}"))
        numbers[f"predicted_images_per_second/pictures={pictures}"] = speed
    return numbers, rows


def growth(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Measure how cost grows with the side of an image and with the number of pairs."""
    rows: Rows = [("what", "of", "seconds")]
    numbers: dict[str, Any] = {}
    for size in (64, 128, 256, 512) if arguments.quick else (64, 128, 256, 512, 1024):
        loop = BestLoop(pairs_of(folder, size), width=16, batch_size=4, device=arguments.device)
        seconds = loop.seconds(arguments.steps)
        rows.append(("step of 4, width 16", f"{size} x {size}", f"{seconds:.3f}"))
        numbers[f"step_seconds/{size}"] = seconds
    for count in (100, 1000) if arguments.quick else (100, 1000, 10000):
        root = many_pairs(folder, count)
        times = []
        for _ in range(2):
            loop_of_ours = OurLoop(root, width=4, batch_size=16, device=arguments.device)
            start = now()
            loop_of_ours.seconds(2)
            times.append(now() - start)
        what = f"run of {2 + WARM_UP_OF_A_RUN} steps, first and second"
        told = " / ".join(f"{one:.1f}" for one in times)
        rows.append((what, f"{count} pairs of 64 x 64", told))
        numbers[f"run_seconds/{count}"] = times
    return numbers, rows


def starts(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Measure what a command takes before it does anything."""
    rows: Rows = [("command", "seconds")]
    numbers = {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    root = pairs_of(folder, 128)
    for words in (
        ["train.py", "--cfg", "job"],
        ["train.py", "trainer=debug", "data=liver", f"data.root={root}", "model.width=4"],
    ):
        taken = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            command = [sys.executable, str(ROOT / words[0]), *words[1:]]
            subprocess.run(
                command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            taken.append(time.perf_counter() - start)
        name = " ".join(words[:2])
        rows.append((f"python {name}", f"{statistics.median(taken):.2f}"))
        numbers[f"start_seconds/{name}"] = statistics.median(taken)
    return numbers, rows


def pairs_of(folder: Path, size: int) -> Path:
    """Return a folder of pairs of one size, enlarged from slices of the phantom."""
    root = folder / f"pairs_{size}"
    if not root.is_dir():
        source = phantom_of(folder, (6, 1, 1), 128)  # 48 pairs: more than a batch
        for file in sorted(source.rglob("*.png")):
            kind = Image.Resampling.NEAREST if "_mask" in file.name else Image.Resampling.BICUBIC
            place = root / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.open(file).resize((size, size), kind).save(place)
    return root


def phantom_of(folder: Path, num_patients: tuple[int, int, int], size: int) -> Path:
    """Return a folder of the phantom."""
    root = folder / f"phantom_{num_patients[0]}_{size}"
    Phantom(
        num_patients=list(num_patients), slices_per_patient=8, image_size=size, seed=0
    ).write(root)  # fmt: skip
    return root


def many_pairs(folder: Path, count: int) -> Path:
    """Return a folder of many small pairs."""
    root = folder / f"many_{count}"
    if not root.is_dir():
        image, mask = Image.new("L", (64, 64), 90), Image.new("L", (64, 64))
        mask.paste(255, (16, 16, 40, 40))
        for split, number in (("train", count), ("val", 8)):
            (root / split).mkdir(parents=True)
            for index in range(number):
                image.putpixel((index % 64, index // 64 % 64), index % 256)
                image.save(root / split / f"{index:06}.png")
                mask.save(root / split / f"{index:06}_mask.png")
    return root


SECTIONS: dict[str, tuple[str, Callable[..., tuple[dict[str, Any], Rows]]]] = {
    "step": ("Training steps", steps),
    "parts": ("Where a step goes", parts),
    "compile": ("When compile=true pays", compiling),
    "target": ("Time to a pooled Dice of val", target),
    "predict": ("Prediction of 256 x 256, width 16", predictions),
    "growth": ("How cost grows", growth),
    "start": ("Start-up", starts),
}


def machine(device: str) -> dict[str, str]:
    """Describe what was measured on."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [one for one in info.read_text().splitlines() if one.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    described = {
        "processor": f"{name}, {num_cores()} cores",
        "precision": ": ".join(fast_precision(device)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    if device == "cuda":
        described["gpu"] = torch.cuda.get_device_name()
    return described


def most_memory(device: str) -> float:
    """Return the most megabytes that this process, or one that it started and ended, has held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    most = max(resource.getrusage(one).ru_maxrss for one in whose)
    return most / 2**20 if sys.platform == "darwin" else most / 2**10  # bytes there, else KiB


def table(rows: Rows) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        yield (
            "| "
            + " | ".join(one.ljust(width) for one, width in zip(row, widths, strict=True))
            + " |"
        )
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, by comma")
    parser.add_argument("--data", type=Path, help="a folder of pairs, for the time to a Dice")
    parser.add_argument("--dice", type=float, default=0.9, help="the Dice to reach")
    parser.add_argument("--limit", type=float, default=900, help="seconds to reach it in")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="on the clock in a round; 4, on a GPU 40")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--best-batch", type=int, default=16, help="the other batch, on a GPU")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides of images, for the steps")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    arguments = parser.parse_args()
    if arguments.steps is None:  # on a GPU, more than the loaders have ready when the clock starts
        arguments.steps = 40 if arguments.device == "cuda" else 4
    if arguments.quick:
        arguments.rounds, arguments.steps, arguments.width = 1, 2, 4
        arguments.limit, arguments.dice = 5.0, 0.5
    if unknown := set(arguments.only.split(",")) - SECTIONS.keys():
        parser.error(f"--only knows {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; leave --device out")
    quiet()
    if arguments.device == "cuda":  # where all loops run in this process, see Here
        tune()
    described = machine(arguments.device)
    numbers: dict[str, Any] = {"machine": described, "command": " ".join(sys.argv)}
    text = ["# Benchmark", "", *(f"* {key}: {value}" for key, value in described.items())]
    print("\n".join(text[2:]))
    output = ROOT / "logs" / "benchmark" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only.split(","):
            title, measure = SECTIONS[name]
            found, rows = measure(arguments, Path(folder))
            peak = most_memory(arguments.device)
            numbers |= found | {"peak_memory_megabytes": peak}
            lines = ["", f"## {title}", "", *table(rows), "", f"Most memory so far: {peak:.0f} MB"]
            text += lines
            print("\n".join(lines), flush=True)
            (output / "benchmark.md").write_text("\n".join(text) + "\n")
            (output / "benchmark.json").write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"\nwritten to {output.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
