"""Parts of a network that learn at a rate of their own, or not at all.

A part is named as the network names it: ``encoder``, or ``encoder.0`` for what lies within.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from liverseg.network import inner_network

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]


class Freezing(Callback):
    """Keeps parts of a network as they are, for good or for the first epochs.

    Their weights get no gradient, and what they keep of batches (the statistics of a batch norm)
    stays as it is. Which parts are frozen follows from the epoch alone, so that a run resumes
    exactly.

    Args:
        net: The network, for what is said of its parts.
        parts: Names of parts.
        epochs: In how many epochs they stay frozen; None is for good.

    Raises:
        ValueError: If the network has no such part, or nothing is left to train.
    """

    def __init__(self, net: nn.Module, parts: Sequence[str], epochs: int | None = None) -> None:
        net = inner_network(net)
        self._names = {name for part in parts for name in weights_of(net, part, "freeze")}
        self._modules = [
            name for name, _ in net.named_modules() if any(_is_within(name, one) for one in parts)
        ]
        self._epochs = epochs
        if parts and epochs is None and not any(True for _ in self._others(net)):
            raise ValueError(
                f"freeze={list(parts)} leaves no weight to train; freeze fewer parts, or add "
                "freeze_epochs=1"
            )
        self.count = sum(one.numel() for name, one in net.named_parameters() if name in self._names)

    def _others(self, net: nn.Module) -> Iterable[nn.Parameter]:
        return (one for name, one in net.named_parameters() if name not in self._names)

    def __str__(self) -> str:
        """Say how many parameters are frozen, and for how long; "" for none."""
        if not self._names:
            return ""
        epochs = self._epochs
        until = "" if epochs is None else f" for {epochs} epoch{'s' if epochs > 1 else ''}"
        return f" ({self.count:,} frozen{until})"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze before an optimizer is made and parameters are counted."""
        # Processes agree once on the weights whose gradients they share: those that thaw are in it.
        if stage == "fit" and (self._epochs is None or trainer.world_size == 1):
            self._set_gradients(pl_module, wanted=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Thaw where a run goes on within a later epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Thaw when it is time."""
        if self._names and not self._is_frozen(trainer):
            self._set_gradients(pl_module, wanted=True)
            for module in self._frozen_modules(pl_module):
                module.train()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Have frozen norms keep their statistics; a check on val has put them back to training."""
        if self._is_frozen(trainer):
            for module in self._frozen_modules(pl_module):
                module.eval()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop gradients of what is frozen, where several processes have computed them."""
        if self._is_frozen(trainer):
            for parameter in self._frozen(pl_module):
                parameter.grad = None

    def _is_frozen(self, trainer: Trainer) -> bool:
        is_time = self._epochs is None or trainer.current_epoch < self._epochs
        return bool(self._names) and is_time

    def _set_gradients(self, task: LightningModule, *, wanted: bool) -> None:
        for parameter in self._frozen(task):
            parameter.requires_grad_(wanted)

    def _frozen(self, task: LightningModule) -> list[nn.Parameter]:
        return [one for name, one in _net_of(task).named_parameters() if name in self._names]

    def _frozen_modules(self, task: LightningModule) -> list[nn.Module]:
        return [_net_of(task).get_submodule(name) for name in self._modules]


def _net_of(task: LightningModule) -> nn.Module:
    assert isinstance(task.net, nn.Module)
    return inner_network(task.net)


def with_rates(make: MakeOptimizer, net: nn.Module, rates: Mapping[str, float]) -> MakeOptimizer:
    """Return what makes an optimizer whose parts have rates of their own.

    Schedules take each rate as they find it, so that they keep their ratio.

    Args:
        make: Makes an optimizer from parameters, or from groups of them.
        net: The network whose parameters it will be given, perhaps with others: of the loss.
        rates: For each part the factor of the optimizer's ``lr``; the name that says most counts.

    Raises:
        ValueError: If the network has no such part.
    """
    if not rates:
        return make
    net = inner_network(net)
    for part in rates:
        weights_of(net, part, "optimizer_parts")
    longest = sorted(rates, key=len, reverse=True)

    def made(parameters: Iterable[nn.Parameter]) -> Optimizer:
        names = {parameter: name for name, parameter in net.named_parameters()}
        groups: dict[str, list[nn.Parameter]] = {"": [], **{part: [] for part in rates}}
        for parameter in parameters:
            name = names.get(parameter, "")
            part = next((one for one in longest if _is_within(name, one)), "")
            groups[part].append(parameter)
        kept = {part: group for part, group in groups.items() if group}
        optimizer = make([{"params": group} for group in kept.values()])
        for part, group in zip(kept, optimizer.param_groups, strict=True):
            group["lr"] = group["lr"] * rates.get(part, 1)
        return optimizer

    return made


def weights_of(net: nn.Module, part: str, key: str) -> dict[str, nn.Parameter]:
    """Return the weights of a part by name.

    Args:
        net: The network.
        part: The name of a part.
        key: What names it, for the sentence.

    Raises:
        ValueError: If the network has no weights of that name.
    """
    found = {
        name: value for name, value in net.named_parameters() if part and _is_within(name, part)
    }
    if not found:
        known = [
            name for name, child in net.named_children() if any(True for _ in child.parameters())
        ]
        raise ValueError(
            f"{key}: {type(net).__name__} has no part {part or repr(part)} with weights; its parts "
            f"are {', '.join(known)}, and theirs such as {_example(net)}"
        )
    return found


def _example(net: nn.Module) -> str:
    names = [name.rpartition(".")[0] for name, _ in net.named_parameters()]
    return next((name for name in names if "." in name), names[0] if names else "none")


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
