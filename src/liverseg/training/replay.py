"""Training steps of a U-Net on a GPU, recorded once and replayed.

A step is a thousand kernels. Of small images or few, a GPU computes them sooner than Python asks
for them, one by one; a CUDA graph asks for all of them at once (Nguyen, Gray et al., "Accelerating
PyTorch with CUDA Graphs", https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from liverseg.network import UNet, fused_at_all_sizes

_WARM_UP = 3  # steps before one is recorded, in which libraries choose and compile their kernels


def computed(net: nn.Module, image: Tensor) -> Tensor:
    """Return logits as the network's class computes them, whatever its ``forward`` is."""
    logits: Tensor = type(net).forward(net, image)
    return logits


class Unhooked(nn.Module):
    """A network without hooks of its own: these are called around what is replayed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        return computed(self.net, image)


class Step:
    """Logits and gradients of batches of one size, recorded.

    Args:
        net: The network, in training.
        image: A batch.
    """

    def __init__(self, net: nn.Module, image: Tensor) -> None:
        self._net = Unhooked(net)
        self.image = image.clone()
        weights = self._net.named_parameters()
        self.weights = {name: one for name, one in weights if one.requires_grad}
        self.buffers = list(net.buffers())  # held, as it writes to them
        self.latest: Any = None  # of the forward passes, the only one that may go back, once
        # The same memory, but nothing of autograd that another stream has begun.
        self._own = {name: one.detach().requires_grad_() for name, one in self.weights.items()}
        before = [one.clone() for one in self.buffers]
        random = torch.cuda.get_rng_state(image.device)
        is_mixed, kind = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        # Weights that were cast to 16 bits once would be those of this step for ever.
        no_cache = torch.autocast("cuda", kind, is_mixed, cache_enabled=False)
        with no_cache, fused_at_all_sizes():
            self._warm_up()
            self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            # Threads that load images may ask for memory meanwhile.
            with torch.cuda.graph(self.forward, capture_error_mode="thread_local"):
                logits = self._compute()
            self.due = torch.empty_like(logits)
            pool = self.forward.pool()
            with torch.cuda.graph(self.backward, pool=pool, capture_error_mode="thread_local"):
                self.gradients = torch.autograd.grad(logits, list(self._own.values()), self.due)
        self.logits = logits.detach()
        for one, old in zip(self.buffers, before, strict=True):
            one.copy_(old)
        torch.cuda.set_rng_state(random, image.device)

    def __call__(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = _Replay.apply(self, image, *self.weights.values())
        return logits

    def _compute(self) -> Tensor:
        logits: Tensor = functional_call(self._net, self._own, (self.image,))
        return logits

    def _warm_up(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                logits = self._compute()
                torch.autograd.grad(logits, list(self._own.values()), torch.zeros_like(logits))
        torch.cuda.current_stream().wait_stream(stream)


class _Replay(torch.autograd.Function):
    """A recorded step, for autograd."""

    @staticmethod
    def forward(ctx: Any, step: Step, image: Tensor, *weights: Tensor) -> Tensor:
        ctx.step, step.latest = step, ctx
        step.image.copy_(image)
        step.forward.replay()
        return step.logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, due: Tensor) -> Any:
        step: Step = ctx.step
        if step.latest is not ctx:
            raise RuntimeError(
                "a recorded step goes back once, before the next one: leave compile=true out"
            )
        step.latest = None
        step.due.copy_(due)
        step.backward.replay()
        # The next step overwrites them: autograd copies them, as they are held here as well.
        return None, None, *step.gradients


class Replayed:
    """What a network computes in training, replayed where a batch has the size of those before.

    The first size that comes twice in a row is recorded; other sizes are computed, by the same
    kernels, and images that are scored as without it. What is trained, which layers train, and
    where weights and running means lie, may change: it is then recorded anew. Weights, running
    means and random numbers are those of a step that is computed.

    Args:
        net: The network, on its device.
        record: Records a step, see :class:`Step`.
    """

    def __init__(self, net: nn.Module, record: type[Step] = Step) -> None:
        self._net = net
        self._record = record
        self._layers: list[nn.Module] = []
        self._latest: torch.Size | None = None
        self._step: Step | None = None
        self._state: Any = None

    def __call__(self, image: Tensor) -> Tensor:
        """Return logits."""
        is_training = self._net.training and torch.is_grad_enabled() and not image.requires_grad
        if not is_training:
            return computed(self._net, image)
        step = self._step_for(image)
        if step is not None:
            return step(image)
        with fused_at_all_sizes():  # as what is recorded, which a resumed run is not at first
            return computed(self._net, image)

    def _step_for(self, image: Tensor) -> Step | None:
        """Return what is replayed for a batch, None for what is computed."""
        if torch.is_anomaly_enabled():
            return None
        if image.shape != self._latest:
            if self._step is None:
                self._latest = image.shape
                self._layers = list(self._net.modules())
            return None
        if any(map(_runs_python, self._layers[1:])):
            return None
        state = self._state_now()
        if self._step is None or state != self._state:
            self._step = None  # lets go of its memory first
            self._step, self._state = self._record(self._net, image), state
        return self._step

    def _state_now(self) -> Any:
        values = [
            (one.data_ptr(), one.requires_grad)
            for layer in self._layers
            for one in (*layer._parameters.values(), *layer._buffers.values())
            if one is not None
        ]
        modes = [(layer.training, getattr(layer, "momentum", None)) for layer in self._layers]
        is_mixed = torch.is_autocast_enabled("cuda")
        return values, modes, is_mixed and torch.get_autocast_dtype("cuda")


def _runs_python(layer: nn.Module) -> bool:
    """Return whether a layer does in each step what a graph would not hold."""
    forward = layer._forward_hooks or layer._forward_pre_hooks
    has_hooks = bool(forward or layer._backward_hooks or layer._backward_pre_hooks)
    # The mean of all batches: it looks at how many there were.
    return has_hooks or getattr(layer, "momentum", 0) is None


def compile_network(net: nn.Module, device: torch.device) -> None:
    """Have a network train faster from now on, at the price of some time before.

    A U-Net with batch norm is replayed on a GPU, where its own kernels are faster than compiled
    ones (:mod:`liverseg.network.fused`). ``torch.compile`` compiles everything else.
    """
    has_batch_norm = any(isinstance(one, nn.BatchNorm2d) for one in net.modules())
    if device.type == "cuda" and type(net) is UNet and has_batch_norm:
        net.forward = Replayed(net)  # type: ignore[method-assign]
    else:
        net.compile()
