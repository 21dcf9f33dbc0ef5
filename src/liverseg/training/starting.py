"""Weights that training starts from: what fits is taken, and what does not is told."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from liverseg.network import inner_network

# Under which a file keeps its weights, and what it puts in front of their names.
_PLACES = ("state_dict", "network_weights", "model_state_dict", "model_state", "model", "net")
_PREFIXES = ("net.", "module.", "model.", "network.", "_orig_mod.")


def weights_in(content: Any) -> dict[str, Tensor]:
    """Return the weights that a file holds, by name.

    Args:
        content: What was read: a checkpoint of this or another project, or weights by name.

    Raises:
        ValueError: If it holds none.
    """
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        found = {str(name): one for name, one in content.items() if isinstance(one, Tensor)}
        inner = next(
            (content[place] for place in _PLACES if isinstance(content.get(place), Mapping)), None
        )
        if inner is None and found:
            return found
        content = inner
    raise ValueError("it holds no weights by name")


def start_from(net: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Fill a network with the weights that fit it by name and shape.

    Args:
        net: The network; what finds no weights keeps its own.
        weights: By name, which may carry what other tools put in front, such as ``module.``.

    Returns:
        What was taken, and then a line for each weight that was not.

    Raises:
        ValueError: If nothing fits.
    """
    net = inner_network(net)
    own = net.state_dict()
    named = _as_named_in(own, weights)
    taken = {
        name: value
        for name, value in named.items()
        if name in own and value.shape == own[name].shape
    }
    # A norm's count of batches is no weight: alone it would make any network fit.
    learnt = dict(net.named_parameters()).keys()
    if not taken.keys() & learnt:
        if same := sorted(named.keys() & learnt):
            raise ValueError(
                f"none of its {len(weights)} weights has its shape in {type(net).__name__}: "
                f"{same[0]} is {list(named[same[0]].shape)} there and {list(own[same[0]].shape)} "
                "here; build the network as theirs was"
            )
        mine, theirs = next(iter(sorted(learnt)), "none"), next(iter(sorted(weights)), "none")
        raise ValueError(
            f"none of its {len(weights)} weights fits one of {type(net).__name__} by name and "
            f"shape: there they are called as {theirs}, here as {mine}"
        )
    with torch.no_grad():
        net.load_state_dict({**own, **{name: taken[name].to(own[name]) for name in taken}})
    lines = [f"{len(taken)} of {len(own)} weights taken"]
    for name, value in own.items():
        if name not in taken:
            had = f"is {list(named[name].shape)} there" if name in named else "is not there"
            lines.append(f"{name} {had} and {list(value.shape)} here: it starts anew")
    lines += [
        f"{name} {list(value.shape)} is not in the network: left out"
        for name, value in named.items()
        if name not in own
    ]
    return lines


def _as_named_in(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without what stands in front of all names, where more of them fit so."""
    best, candidates = dict(weights), [dict(weights)]
    for _ in range(3):  # module.net. is two of them
        candidates = [
            {
                name.removeprefix(prefix): one
                for name, one in found.items()
                if name.startswith(prefix)
            }
            for found in candidates
            for prefix in _PREFIXES
        ]
        candidates = [found for found in candidates if found]
        best = max([best, *candidates], key=lambda found: len(found.keys() & own.keys()))
    return best
