"""The model card: what a file is, what it was trained on, how well it does, and what it is not for.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from liverseg.data import WHITE
from liverseg.data.volumes import check_window, window_text
from liverseg.sharing.parity import Parity

_SHOWN = ("dice", "dice_pooled", "dice_case", "iou", "hd95", "assd", "nsd")
_USE = """\
```python
import numpy, onnxruntime, PIL.Image, PIL.ImageOps

session = onnxruntime.InferenceSession("{file}")
image = PIL.ImageOps.exif_transpose(PIL.Image.open("IMAGE.png"))
{read}
image = {reshaped}  # {dtype} (N, {channels}, H, W)
classes, probabilities = session.run(["classes", "probabilities"], {{"image": image}})
```
"""
_READ_BYTES = """\
image = numpy.asarray(image.convert("{mode}"))"""
_READ_FLOATS = """\
is_deep = image.mode.startswith("I")  # grey of 16 bits
image = numpy.asarray(image if is_deep else image.convert("{mode}"), numpy.float32)
image = (image / ({white} if is_deep else 255)).clip(0, 1)"""
_USE_ARRAY = """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
# image: an array, {dtype} (N, {channels}, H, W){stacked}{values}
classes, probabilities = session.run(["classes", "probabilities"], {{"image": image}})
```
"""
_USE_PROGRAM = """\
```python
import torch

net = torch.export.load("{file}").module()  # only of someone you trust: it can run code
# image: a tensor, {dtype} (N, {channels}, H, W){stacked}{values}
classes, probabilities, logits = net(image)
```
"""
_LIMITS = """\
* Not a medical device, and not for diagnosis or treatment: nobody has tested it for that.
* It has seen the images named above. Another scanner, protocol, window, orientation or group of
  patients can make it fail, without a sign of it.
* Of a volume it sees a slice, or some neighbouring ones, and never the whole.
* A probability is what the network says, not how often it is right.
"""


def model_card(record: Mapping[str, Any], *, parity: Parity, file: Path) -> str:
    """Return a model card in Markdown.

    Args:
        record: What the exported file says about itself.
        parity: How it was compared with its checkpoint.
        file: The exported file.
    """
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(record["classes"]))
    parts = [
        f"# {file.stem}: {', '.join(record['class_names'])}\n",
        "What it is: a network for semantic segmentation of 2D images, "
        f"trained and exported with liverseg {record['liverseg_version']}.\n",
        "## Use\n",
        _usage(record, file),
        _table(("", ""), [*_facts(record, classes)]),
        "## Data\n",
        _table(("split", "images", "cases", "fingerprint"), _splits(record)),
        "Sources, consent, licence of the data: *fill in*\n",
        "## Scores\n",
        _scores(record),
        "## Limits\n",
        _LIMITS,
        "Known failures: *fill in*\n",
        "## Checked\n",
        f"Compared with the checkpoint in float32: {parity.sentence()}.",
        *_said(record, parity),
        "\n## Licence and contact\n",
        "Licence of the weights: *fill in*\n",
        "Contact: *fill in*\n",
    ]
    return "\n".join(parts)


def _usage(record: Mapping[str, Any], file: Path) -> str:
    is_grey, is_bytes = record["channels"] == 1, record["input"] == "uint8"
    how = _USE if file.suffix == ".onnx" else _USE_PROGRAM
    slices = record["config"]["data"].get("slices", 1)
    if file.suffix == ".onnx" and (record["channels"] not in (1, 3) or slices > 1):
        how = _USE_ARRAY  # no file of Pillow's
    white = record["white_value"] or WHITE
    read = _READ_BYTES if is_bytes else _READ_FLOATS
    reshaped = "image[None, None]" if is_grey else "image.transpose(2, 0, 1)[None]"
    if not (is_grey or is_bytes):
        reshaped = f"{reshaped} if image.ndim == 3 else numpy.stack([image] * 3)[None]"
    return how.format(
        file=file.name,
        read=read.format(mode="L" if is_grey else "RGB", white=white),
        reshaped=reshaped,
        dtype="uint8" if is_bytes else "float32 in 0 ... 1",
        channels=record["channels"],
        stacked=f": {slices} slices by number, those at an end again" if slices > 1 else "",
        values="" if is_bytes else f"\n# numbers of 16 bits / {white}, of 8 bits / 255, clipped",
    )


def _facts(record: Mapping[str, Any], classes: str) -> Iterator[tuple[str, str]]:
    config = record["config"]
    model = {key: value for key, value in config["model"].items() if key != "_target_"}
    size = record["image_size"]
    yield "classes", classes
    if record["threshold"] is not None:
        yield "foreground where the probability exceeds", f"{record['threshold']:g}"
    yield "image", f"{record['channels']} channel(s), {record['input']}, any height and width"
    if record["input"] == "float":
        white = record["white_value"] or WHITE
        yield "white", f"{white} in images of 16 bits, 255 in those of 8"
    yield (
        "resized within the file, to height x width",
        f"{size[0]} x {size[1]}, bilinear with antialiasing, and back" if size else "no",
    )
    if "window" in (record["volumes"] or {}):
        yield "window", window_text(check_window(record["window"]))
    if record["spacing"]:
        yield "spacing in mm, median of val", " x ".join(f"{one:g}" for one in record["spacing"])
    yield "network", f"{config['model']['_target_']} {model}"
    yield "trained in", f"{record['precision_of_training']}, epoch {_number(record['epoch'])}"
    yield "checkpoint, SHA-256", f"`{record['checkpoint_sha256']}`"
    yield "versions", ", ".join(f"{name} {one}" for name, one in record["versions"].items())


def _splits(record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each split that was trained or scored on."""
    for split in ("train", "val", "test"):
        mark, counts = record["fingerprints"].get(split), record["images"].get(split)
        if mark or counts:
            images, cases = (str(one or "") for one in counts or ("", ""))
            yield split, images, cases, f"`{mark}`" if mark else ""


def _scores(record: Mapping[str, Any]) -> str:
    scores = record["scores"]
    splits = [split for split in ("val", "test") if f"{split}/dice" in scores]
    if not splits:
        return "Unknown: the checkpoint did not lie in its run folder. *Fill in.*\n"
    names = [name for name in _SHOWN if any(f"{split}/{name}" in scores for split in splits)]
    rows = [
        (name, *(_with_interval(scores, f"{split}/{name}") for split in splits)) for name in names
    ]
    chosen = "`val` chose the checkpoint, so its scores flatter it; believe `test`."
    why = "`dice` is per image, `dice_pooled` over all pixels, `dice_case` per patient. "
    if any(f"{split}/dice_low" in scores for split in splits):
        has_patients = any(f"{split}/dice_case" in scores for split in splits)
        unit = "patients" if has_patients else "images, since no patients are known"
        why += f"In brackets stands the 95 % interval over {unit}. "
    return _table(("", *splits), rows) + "\n" + why + chosen + "\n"


def _with_interval(scores: Mapping[str, float], key: str) -> str:
    if key not in scores:
        return ""
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    interval = "" if low is None or high is None else f" ({low:.3f} ... {high:.3f})"
    return f"{scores[key]:.3f}{interval}"


def _said(record: Mapping[str, Any], parity: Parity) -> Iterator[str]:
    if not parity.images:
        yield "The images were made up: the run's own were not at hand."
    if record["precision_of_training"] != "32-true":
        yield (
            f"The run computes in {record['precision_of_training']}, as `evaluate.py` does with "
            "its checkpoint: near a boundary a pixel can differ from that."
        )


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(one) for one in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number(epoch: Any) -> str:
    return str(epoch + 1) if isinstance(epoch, int) else "unknown"
