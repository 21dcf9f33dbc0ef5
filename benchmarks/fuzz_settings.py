"""Random settings must end in a result or in one sentence: ``python benchmarks/fuzz_settings.py``.

Each command runs in a fork of a process that has imported everything, in a temporary folder. What
counts: a traceback, more than 10 seconds, or a failure without a word.
"""

import argparse
import collections
import os
import random
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
import lightning
import matplotlib.figure
import torch
import torchvision.transforms.v2
from omegaconf import OmegaConf

import liverseg.launch
from liverseg.settings import all_keys

ROOT = Path(__file__).parents[1]
SLOW_SECONDS = 10
HEAVY = (lightning, matplotlib.figure, torchvision.transforms.v2, liverseg.launch)  # for the forks
VALUES = (
    *("null", "true", "-1", "0", "1", "2", "1.5", "1e21", "1e400", "nan", "99999999999999999999"),
    *(
        "word",
        '""',
        "{}",
        "[]",
        "[1,b]",
        "{a:1}",
        "[[1]]",
        "${x}",
        "${data.root}",
        "~/x",
        "/proc/x",
    ),
    *("os.getcwd", "torch.nn.Conv2d", "val/dice", "?", "a b", "'", "[1,", "???", "range(5,1)"),
)
SMALL = (
    *("data=liver", "model=unet_small", "model.depth=2", "model.width=4", "trainer.max_epochs=1"),
    *("trainer.accelerator=cpu", "++trainer.enable_progress_bar=false"),
)
# Nobody's mistake: as many processes as were asked for.
LEFT_OUT = ("num_workers", "devices", "num_nodes", "jobs")


def overrides(keys: Sequence[str], draw: random.Random) -> list[str]:
    """Return one to three random settings."""
    found = []
    for _ in range(draw.randint(1, 3)):
        key = draw.choice(keys)
        if draw.random() < 0.1:
            place = draw.randrange(len(key))
            key = key[:place] + draw.choice("xyz") + key[place + 1 :]
        sign = draw.choice(["", "", "", "+", "++", "~"])
        found.append(f"~{key}" if sign == "~" else f"{sign}{key}={draw.choice(VALUES)}")
    return found


def run(script: str, arguments: Sequence[str], folder: Path) -> tuple[int, str, float]:
    """Run a command in a fork; return its status, what it printed, and the seconds it took."""
    output, begun = folder / "output.txt", time.monotonic()
    pid = os.fork()
    if pid == 0:
        file = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(folder)
        sys.argv = [str(ROOT / script), *arguments]
        code = 0
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while time.monotonic() - begun < 3 * SLOW_SECONDS:
        time.sleep(0.005)
        if (status := os.waitpid(pid, os.WNOHANG))[0]:
            break
    else:
        os.kill(pid, 9)
        status = os.waitpid(pid, 0)
    seconds = time.monotonic() - begun
    return os.waitstatus_to_exitcode(status[1]), output.read_text(errors="replace"), seconds


def commands(folder: Path, draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Yield commands of the three scripts, without end."""
    data = [f"data.root={folder / 'pairs'}"]
    phantom = ("data=phantom", "data.phantom.num_patients=[2,1,1]", "data.phantom.image_size=32")
    drawn = [one for one in SMALL if one != "data=liver"]
    code, said, _ = run(
        "train.py", [*drawn, *phantom, *data, f"hydra.run.dir={folder / 'run'}"], folder
    )
    assert code == 0, said
    checkpoint = f"ckpt_path={folder / 'run' / 'checkpoints' / 'best.ckpt'}"
    bases = {
        "train.py": [*SMALL, *data],
        "evaluate.py": [checkpoint, "split=val", "trainer.accelerator=cpu"],
        "predict.py": [checkpoint, f"source={folder / 'pairs' / 'val'}", "trainer.accelerator=cpu"],
    }
    keys = {}
    for script in bases:
        with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = hydra.compose(script.removesuffix(".py"))
        found = all_keys(OmegaConf.to_container(config, resolve=False))
        keys[script] = [key for key in found if key.rpartition(".")[2] not in LEFT_OUT]
    number = 0
    while True:
        script = draw.choice([*bases, "train.py"])
        number += 1
        where = f"output_dir={folder / 'runs' / str(number)}"
        where = where.replace("output_dir", "hydra.run.dir") if script == "train.py" else where
        yield script, [*bases[script], where, *overrides(keys[script], draw)]


def main() -> None:
    """Count how random settings end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        stream = commands(Path(name), random.Random(asked.seed))
        for _, (script, arguments) in zip(range(asked.count), stream, strict=False):
            code, said, seconds = run(script, arguments, Path(name))
            ends = ["passed" if code == 0 else "refused"]
            ends += ["traceback"] if "Traceback (most recent" in said else []
            ends += ["slow"] if seconds > SLOW_SECONDS else []
            ends += ["silent"] if code != 0 and not said.strip() else []
            ends += ["not foreseen"] if "HYDRA_FULL_ERROR" in said else []
            counts.update(ends)
            if {"traceback", "slow", "silent", "not foreseen"} & set(ends):
                print(ends, script, *arguments[-4:], "->", said[-300:].strip(), flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
