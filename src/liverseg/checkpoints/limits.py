"""How much memory and time a checkpoint may ask for, measured by what the file itself holds."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

MOST_LEVELS = 30  # of parts within parts
_MOST_VALUES = 100_000  # in a config
_LONGEST = 1000  # characters of a value
_MOST_WHOLE = 2**20  # a whole number in a config: of channels, layers or pixels
_MOST_OPERATIONS = 20_000  # of torch, to build a network or to run it once
# What of torch's allowlist makes tensors, or zeros, of a size that no file holds; torch.save writes
# none of them for what is trained here.
_MAKES_MEMORY = re.compile(
    rb"\n(?:bytearray|\w*Tensor|_rebuild_(?:sparse|meta|wrapper|device|q)\w+)\n"
)
_IS_FOLDER = 0x10  # of the attributes of DOS, which archives keep


def is_stored(archive: zipfile.ZipFile, file: Path) -> bool:
    """Tell whether an archive unfolds to no more than its own size, as what torch writes does.

    An entry that is marked as a folder would be left unread by torch, whatever it holds.
    """
    entries = archive.infolist()
    return (
        all(
            one.compress_type == zipfile.ZIP_STORED and not one.external_attr & _IS_FOLDER
            for one in entries
        )
        and sum(entry.file_size for entry in entries) <= file.stat().st_size
    )


def makes_memory(file: Path) -> bool:
    """Tell whether reading a checkpoint would make more than what stands in the file."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return any(_MAKES_MEMORY.search(archive.read(name)) for name in names)


def is_modest(node: Any) -> bool:
    """Tell whether a config is plain values that can be walked, few of them and on few levels."""
    waiting, count = [(node, 0)], 0
    while waiting:
        one, level = waiting.pop()
        inner: Sequence[Any] = ()
        if isinstance(one, Mapping):
            inner = list(one.values())
        elif isinstance(one, list | tuple | set):
            inner = list(one)
        elif not isinstance(one, bool | int | float | str | None) or len(str(one)) > _LONGEST:
            return False
        count += 1 + len(inner)
        if count > _MOST_VALUES or level > 2 * MOST_LEVELS:
            return False
        waiting += [(value, level + 1) for value in inner]
    return True


def refuse_large_numbers(section: str, node: Any) -> None:
    """Refuse whole numbers of which a loop in a constructor would not come to an end.

    Raises:
        ValueError: With the key; seeds may be as large as they like.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            refuse_large_numbers(f"{section}.{key}", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            refuse_large_numbers(f"{section}.{index}", value)
    elif isinstance(node, int) and abs(node) > _MOST_WHOLE and not section.endswith("seed"):
        raise ValueError(
            f"the checkpoint asks for {section}={node:.3g}, more than {_MOST_WHOLE:,}; take "
            "another file"
        )


class OverBudgetError(ValueError):
    """A network asks for more memory or more steps than it may."""


class Budget(TorchDispatchMode):
    """While it is entered, torch makes no more than so many bytes, in so many operations.

    The size of a result is found without memory first, on the device ``meta``.

    Args:
        what: What is built or run, for the sentence.
        most_bytes: Of all tensors that are made.
    """

    def __init__(self, what: str, most_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of torch
        self.what = what
        self.bytes_left = most_bytes
        self.operations_left = _MOST_OPERATIONS

    def __torch_dispatch__(
        self,
        func: Any,  # an operation of torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, if its result fits.

        Raises:
            OverBudgetError: If it does not, or if it is one too many.
        """
        named = dict(kwargs or {})
        self.operations_left -= 1
        if self.operations_left < 0:
            self._refuse(f"more than {_MOST_OPERATIONS:,} operations")
        if not any(one.alias_info for one in func._schema.returns):  # neither a view nor in place
            self.bytes_left -= (needed := _result_bytes(func, args, named))
            if self.bytes_left < 0:
                self._refuse(f"a tensor of {needed / 2**20:,.0f} MiB" if needed > 2**28 else "more")
        return func(*args, **named)

    def _refuse(self, what: str) -> None:
        raise OverBudgetError(
            f"the checkpoint's weights do not fit its config: {self.what} asks for {what}, which "
            "is out of proportion to the weights in the file"
        )


def _result_bytes(func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> int:
    """Return how many bytes an operation makes, without making them."""
    args, named = tree_map(_without_memory, (args, dict(kwargs)))
    if any(argument.name == "device" for argument in func._schema.arguments):  # type: ignore[attr-defined]  # of an operation of torch
        named["device"] = torch.device("meta")
    try:
        made = func(*args, **named)
    except RuntimeError:  # its result depends on numbers, such as that of item()
        return 0
    tensors = [one for one in tree_leaves(made) if isinstance(one, Tensor)]
    return sum(one.numel() * one.element_size() for one in tensors)


def _without_memory(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
