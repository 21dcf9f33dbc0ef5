"""What earlier releases wrote, and how it reads today.

Format 1 named classes by the files that held them then, and its U-Net joined the skip connection
first and the enlarged features second. Format 2 is today's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from liverseg.network import UpStep

FORMAT = 2
# What this package was called before ``make rename``, which writes the name here.
FORMER: tuple[str, ...] = ()
_RENAMED = {
    "liverseg.unet.UNet": "liverseg.network.UNet",
    "liverseg.losses.BinaryCrossEntropy": "liverseg.training.BinaryCrossEntropy",
    "liverseg.losses.CrossEntropy": "liverseg.training.CrossEntropy",
    "liverseg.losses.SoftDiceLoss": "liverseg.training.SoftDiceLoss",
    "liverseg.losses.SumLoss": "liverseg.training.SumLoss",
    "liverseg.datamodule.PairDataModule": "liverseg.data.PairDataModule",
    "liverseg.phantom.Phantom": "liverseg.data.Phantom",
    "liverseg.dashboard.Dashboard": "liverseg.pictures.Dashboard",
    "liverseg.gallery.PictureBoard": "liverseg.pictures.PictureBoard",
}


def with_names_of_today(node: Any) -> Any:
    """Return a plain config as today's classes read it: their names, and what had no name yet."""
    if isinstance(node, Mapping):
        named = {key: with_names_of_today(value) for key, value in node.items()}
        if "_target_" in named:
            target = _of_today(str(named["_target_"]))
            named["_target_"] = _RENAMED.get(target, target)
            if named["_target_"] == "liverseg.data.PairDataModule":
                named.setdefault("min_steps", 1)  # an epoch was one pass, however few the images
            if named["_target_"] == "liverseg.training.Muon":
                named.setdefault("block", max(1, named.get("largest_side", 256)))  # were whole
        return named
    if isinstance(node, list):
        return [with_names_of_today(value) for value in node]
    return node


def _of_today(target: str) -> str:
    """Return a name of this package's, whatever the package was called."""
    package, dot, rest = target.partition(".")
    return f"liverseg{dot}{rest}" if package in FORMER else target


def with_key_of_today(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose record stands where this package writes it, changed in place."""
    for name in FORMER:
        if name in checkpoint:
            checkpoint.setdefault("liverseg", checkpoint.pop(name))
    return checkpoint


def bring_up_to_date(checkpoint: dict[str, Any], task: nn.Module) -> None:
    """Rearrange the weights of a checkpoint of format 1, wherever it holds them, in place.

    The first convolution of each step up takes the joined features: its input channels change
    halves, in the weights, in averages of them, and in what an optimizer keeps of each weight.

    Args:
        checkpoint: As it was read; afterwards of format 2.
        task: What its weights are for.
    """
    record = checkpoint["liverseg"]
    if record.get("format", 1) >= FORMAT:
        return
    record["format"] = FORMAT
    names = {
        f"{name}.fuse.layers.0.weight"
        for name, module in task.named_modules()
        if isinstance(module, UpStep)
    }
    for weights in _weights_of(checkpoint):
        for name in names & weights.keys():
            weights[name] = _with_halves_changed(weights[name])
    # An optimizer numbers the parameters that it was given, which were those of the network.
    of_network = [name for name, _ in task.named_parameters() if name.startswith("net.")]
    numbers = [number for number, name in enumerate(of_network) if name in names]
    for optimizer in checkpoint.get("optimizer_states", []):
        for number in numbers:
            kept = optimizer["state"].get(number, {})
            for key, value in kept.items():
                if isinstance(value, Tensor) and value.dim() == 4:
                    kept[key] = _with_halves_changed(value)


def _weights_of(checkpoint: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what may hold weights by name: ``state_dict``, and what callbacks keep."""
    for part in checkpoint.values():
        if isinstance(part, dict):
            yield part
            yield from (inner for inner in part.values() if isinstance(inner, dict))


def _with_halves_changed(weight: Tensor) -> Tensor:
    """Exchange the two halves of the input channels of a weight of shape (out, in, 3, 3)."""
    return weight.roll(weight.shape[1] // 2, dims=1)
