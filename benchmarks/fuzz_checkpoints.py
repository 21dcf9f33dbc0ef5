"""Load damaged checkpoints by the thousand: each must be read right or refused in one sentence.

    python benchmarks/fuzz_checkpoints.py [--checkpoints 3000] [--seed 0] [--keep FOLDER]

Small checkpoints are changed in four ways: bytes of the file; entries of its archive, whose
checksums are right afterwards; values of any kind anywhere in its structure; classes of torch,
torchvision and others, with arguments at random. Each is loaded, its network and its data are
rebuilt, names are matched, and an image is segmented. A table counts what came of it; "changed" was
read, but gives another prediction than the whole file: that is a fault where bytes alone were
damaged. Exits with 1 if anything but the package's sentence was raised, took longer than
``--seconds`` or more than ``--megabytes``, reached for the network or another program, or killed
its process. Needs Linux, which tells the peak of memory.
"""

import argparse
import copy
import hashlib
import io
import os
import random
import shutil
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_files import EDGES, Readers, damage_bytes

from liverseg.checkpoints import load_checkpoint, load_data, load_task
from liverseg.data import case_of
from liverseg.settings import find_sentence
from liverseg.training import SegmentationTask

CONFIGS = Path(__file__).parents[1] / "configs"
MOST_CHANNELS = 1024
OUTCOMES = ("same", "changed", "refused", "other", "slow", "memory", "killed")
FAULTS = OUTCOMES[3:]
LONGEST = 1500  # characters of a sentence
MARKER = "marker_of_a_call"
ORIGINALS = (
    ("model.depth=1", "model.width=2"),
    ("model.depth=1", "model.width=2", "model.padding=valid", "model.norm=none", "loss=bce"),
    (
        "model.depth=2",
        "model.width=2",
        "data.num_classes=4",
        "data.class_names=null",
        "model.norm=group",
        "loss=cross_entropy",
    ),
    ("model.depth=1", "model.width=2", "data.channels=3", "data.image_size=[24,40]", "loss=dice"),
)
# Events by which Python tells that the network, another program or a file is reached for.
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")
NAMES = ("patient001_slice01", "a" * 40, "a_" * 60 + "!", "liver-" * 30)
HOSTILE_NAMES = (
    *("os.system", "builtins.eval", "builtins.exec", "torch.hub.load", "torch.load", "os", "", "."),
    *(
        "subprocess.run",
        "liverseg.launch.os.system",
        "liverseg.experiment.train",
        "a" * 5000,
        "é.ü",
    ),
    *("torchvision.models.get_model", "torchvision.datasets.MNIST", "liverseg.data.PairDataModule"),
    *("torch.nn.functional.relu", "torch.nn.Module", "liverseg.network", "liverseg..network.UNet"),
)


def originals() -> list[bytes]:
    """Return small checkpoints as a run would write them."""
    return [_original(list(overrides)) for overrides in ORIGINALS]


def _original(overrides: list[str]) -> bytes:
    fixed = ["data=liver", "data.root=pairs", "output_dir=run", "sweep_name=fuzz"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("train", [*fixed, *overrides])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    torch.manual_seed(0)
    parts = {name: instantiate(plain[name], _convert_="all") for name in ("model", "loss", "data")}
    record = {"config": plain, "class_names": parts["data"].class_names, "scores": "", "format": 2}
    task = SegmentationTask(
        net=parts["model"],
        loss=parts["loss"],
        num_classes=plain["data"]["num_classes"],
        class_names=parts["data"].class_names,
    )
    checkpoint = {"state_dict": task.state_dict(), "liverseg": record, "epoch": 3, "global_step": 9}
    checkpoint |= {"optimizer_states": [{"state": {}, "param_groups": []}], "callbacks": {}}
    return written(checkpoint)


def written(checkpoint: Any) -> bytes:
    """Return a checkpoint as torch writes it."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()


def damage_file(content: bytes, chance: random.Random) -> bytes:
    """Change bytes anywhere in the file."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        if chance.random() < 0.5:
            content = damage_bytes(content, chance)
        else:  # names and checksums stand at the end
            content = content[:-3000] + damage_bytes(content[-3000:], chance)
    return content


def damage_archive(content: bytes, chance: random.Random) -> bytes:
    """Rewrite the archive with right checksums, one of its entries changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    place = chance.randrange(len(entries))
    if chance.random() < 0.5:
        place = next(index for index, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    name, body = entries[place]
    compression = zipfile.ZIP_STORED
    match chance.randrange(7):
        case 0:
            del entries[place]
        case 1:
            entries.append((name, b""))
        case 2:
            entries[place] = chance.choice((name[:-1], f"../{name}", "é", f"{name}/{name}")), body
        case 3:
            compression = zipfile.ZIP_DEFLATED
            entries[place] = name, bytes(10**7) if chance.random() < 0.5 else body
        case 4:
            entries[place] = name, body[: chance.randrange(len(body) + 1)]
        case _:
            entries[place] = name, damage_bytes(body, chance)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, body in entries:
            archive.writestr(zipfile.ZipInfo(name), body, compress_type=compression)
    return made.getvalue()


def damage_structure(content: bytes, chance: random.Random) -> bytes:
    """Remove, rename, exchange or replace values anywhere in what the file holds."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        places = list(_places(checkpoint))
        config = [one for one in places if one[0] is not checkpoint["state_dict"]] if places else []
        holder, key = chance.choice(config or places) if places else (checkpoint, "liverseg")
        match chance.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice((f"{key}x", 7, None, "_target_", (), ""))] = holder.pop(key)
            case 2 if places:
                other, there = chance.choice(places)
                holder[key] = copy.deepcopy(other[there])
            case 3 if places:
                other, there = chance.choice(places)
                holder[key] = other[there]  # shared, or one that holds itself
            case _:
                holder[key] = anything(chance, holder[key])
        if not isinstance(checkpoint.get("state_dict"), dict):
            break
    try:
        return written(checkpoint)
    except RecursionError:  # torch cannot write it either
        return written({"liverseg": {"config": nested(chance)}, "state_dict": {}})


def damage_classes(content: bytes, chance: random.Random) -> bytes:
    """Name another class, with arguments at random, where the file names its own."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    config = checkpoint["liverseg"]["config"]
    places = [(holder, key) for holder, key in _places(config) if key == "_target_"]
    holder, _ = chance.choice([one for one in places if one[0] in _rebuilt(config)] or places)
    if chance.random() < 0.4:
        for key in list(holder):
            if key != "_target_" and chance.random() < 0.3:
                holder[key] = anything(chance, holder[key])
    else:
        target = chance.choice(_TARGETS)
        kept = {key: value for key, value in holder.items() if chance.random() < 0.3}
        words = [*_parameters(target), "x"]
        named = {chance.choice(words): anything(chance, 1) for _ in range(chance.randrange(4))}
        holder.clear()
        holder.update({**kept, **named, "_target_": target})
    if chance.random() < 0.3:
        checkpoint["state_dict"] = {}
    try:
        return written(checkpoint)
    except RecursionError:
        return content


def _rebuilt(config: dict[str, Any]) -> list[Any]:
    return [config[name] for name in ("model", "loss", "data")]


def _targets() -> list[str]:
    found = [f"torch.nn.{name}" for name in dir(torch.nn) if name[0].isupper()]
    found += [
        f"torchvision.models.{name}"
        for name in dir(torchvision.models)
        if callable(getattr(torchvision.models, name))
    ]
    return [*found, *HOSTILE_NAMES]


_TARGETS = _targets()


def _parameters(target: str) -> list[str]:
    """Return the names of a class's arguments, if it is one of torch."""
    import inspect

    try:
        module = torchvision.models if "torchvision" in target else torch.nn
        return list(inspect.signature(getattr(module, target.rpartition(".")[2])).parameters)
    except (AttributeError, TypeError, ValueError):
        return []


def _places(node: Any, levels: int = 12) -> Any:
    """Yield every mapping or list with each of its keys."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list) and levels:
            yield from _places(node[key], levels - 1)


def nested(chance: random.Random) -> Any:
    """Return lists within lists, some of them shared."""
    node: Any = []
    for _ in range(chance.choice((3, 25, 60, 200))):
        node = [node, node] if chance.random() < 0.7 else {"a": node}
    return node


def anything(chance: random.Random, before: Any) -> Any:
    """Return a value of any kind, often one like that before."""
    number = chance.choice(EDGES) * chance.choice((1, -1))
    if isinstance(before, bool | int | float) and chance.random() < 0.6:
        return chance.choice((number, number / 7, -1, 0, float("nan"), float("inf"), 10**30, True))
    if isinstance(before, str) and chance.random() < 0.4:
        return chance.choice(
            ("", "a" * 10**5, "(a+)+$", "(.*)*x", "^(.+)", "(", "\0", "\udc80", before[1:], "../..")
        )
    if isinstance(before, torch.Tensor) and chance.random() < 0.8:
        return chance.choice(
            (
                lambda: before.to(chance.choice((torch.float64, torch.int8, torch.complex64))),
                lambda: torch.zeros(1).expand(before.shape),
                lambda: torch.zeros(1).expand(10**6, 10**6),
                lambda: before.flatten()[:1],
                lambda: before.to_sparse(),
                lambda: torch.empty(10**6, 10**6, device="meta"),
                lambda: torch.full_like(before, float("nan")) if before.is_floating_point() else 0,
                lambda: before.reshape(1, *before.shape),
            )
        )()
    return chance.choice(
        (
            lambda: None,
            lambda: number,
            lambda: [number, number],
            lambda: [],
            lambda: {},
            lambda: {"_target_": chance.choice(_TARGETS)},
            lambda: "x",
            lambda: chance.choice(HOSTILE_NAMES),
            lambda: (1, 2),
            lambda: {1, 2},
            lambda: 1.5,
            lambda: float("nan"),
            lambda: True,
            lambda: b"bytes",
            lambda: torch.zeros(2),
            lambda: complex(1, 2),
            lambda: nested(chance),
            lambda: list(range(10**4)),
        )
    )()


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": damage_file,
    "archive": damage_archive,
    "structure": damage_structure,
    "classes": damage_classes,
}


def outcome(way: str, path: Path) -> tuple[str, str]:
    """Return ``"read"`` and a digest of a prediction, ``"refused"`` or ``"other"`` and the words.

    A refusal is a ValueError of one line that this package raised on purpose.
    """
    try:
        checkpoint = load_checkpoint(path)
        task = load_task(checkpoint)
        data = load_data(checkpoint, {})
        for name in NAMES:
            case_of(name, data._case_pattern)
        height, width = data.image_size or (32, 40)
        channels = min(data.channels, MOST_CHANNELS)  # no image has more
        image = data.normalize(torch.linspace(0, 1, channels * 64 * 64).view(-1, 64, 64))
        image = image[None, :, : min(height, 64), : min(width, 64)]
    except Exception as error:
        text = find_sentence(error)
        is_sentence = text is not None and "\n" not in text and len(text) < LONGEST
        return (
            ("refused", text or "")
            if is_sentence
            else ("other", f"{type(error).__name__}: {str(error)[:300]}")
        )
    try:
        with torch.no_grad():
            classes = task.predict_classes(task(image))
    except Exception as error:  # the commands tell it in a sentence, as they do of any error
        return "refused", f"at an image: {type(error).__name__}"
    return "read", hashlib.sha256(classes.numpy().tobytes()).hexdigest()


def watch() -> None:
    """End this process if it reaches for the network or another program."""

    def refuse(event: str, _: Any) -> None:
        if event in FORBIDDEN:
            os._exit(99)

    sys.addaudithook(refuse)


def judge(way: str, path: Path) -> tuple[str, str]:
    """Return the outcome in a process that is watched."""
    global _is_watched
    if not _is_watched:
        watch()
        _is_watched = True
    return outcome(way, path)


_is_watched = False


def main() -> int:
    """Print the table and what went wrong; return 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time of a file")
    parser.add_argument("--megabytes", type=int, default=1024, help="most memory of a file")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    arguments = parser.parse_args()

    readers = Readers(seconds=arguments.seconds, megabytes=arguments.megabytes, judge=judge)
    counts: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    files = originals()
    with TemporaryDirectory() as name:
        os.chdir(name)
        path = Path(name) / "a.ckpt"
        whole = []
        for content in files:
            path.write_bytes(content)
            whole.append(readers.read("bytes", path))
            if whole[-1][0] != "read":
                raise SystemExit(f"an undamaged checkpoint is not read: {whole[-1]}")
        for number in range(arguments.checkpoints):
            chance = random.Random(f"{arguments.seed} {number}")
            choice, way = chance.randrange(len(files)), chance.choice(list(WAYS))
            path.write_bytes(WAYS[way](files[choice], chance))
            kind, details = readers.read(way, path)
            if kind == "read":
                kind = "same" if details == whole[choice][1] else "changed"
                if kind == "changed" and way == "bytes":
                    kind = "other"
            counts[way, kind] += 1
            if kind in FAULTS:
                faults[f"{kind} ({way}): {details.replace(str(path), 'FILE')[:200]}"] += 1
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, arguments.keep / f"{kind}_{number}.ckpt")
        if left := [one.name for one in Path(name).iterdir() if one != path]:
            faults[f"files were written: {left}"] += 1

    print(f"{'':<11}" + "".join(f"{name:>9}" for name in OUTCOMES))
    for way in WAYS:
        print(f"{way:<11}" + "".join(f"{counts[way, name]:>9}" for name in OUTCOMES))
    for fault, count in faults.most_common():
        print(f"{count:>6} x {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
