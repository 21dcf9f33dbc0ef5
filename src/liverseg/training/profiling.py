"""Where the time of a run goes: waiting for images, computing, or keeping books."""

import logging
import time
from collections import defaultdict
from pathlib import Path

import torch
from lightning.pytorch.profilers import Profiler
from torch import nn

logger = logging.getLogger(__name__)
_MUCH = 0.15  # of a step; a run that waits longer than this gains by faster reading
_FETCH = "[_TrainingEpochLoop].train_dataloader_next"
# What Lightning calls the parts of a step, in order; "forward" is the network alone.
_PARTS = {
    "waiting for images": (_FETCH,),
    "copying, augmenting": ("on_before_batch_transfer", "batch_to_device"),
    "network, forward": ("forward",),
    "loss and scores": ("training_step", "-forward"),
    "backward": ("backward",),
    "clipping and optimizer": ("optimizer_step", "-training_step", "-backward", "-within"),
    "logging and callbacks": ("callbacks",),
}


class RunProfile(Profiler):
    """Writes ``profile.txt`` at the end of training, and tells in a line what limits its speed.

    Each part of a step is timed by itself; a GPU is waited for at its borders, so that the time of
    a part is its own, and the run is a little slower than without.

    Args:
        folder: Where the file is written.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.num_steps = 0
        self._since: dict[str, float] = {}
        self._begin = time.perf_counter()

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Time the network itself, too."""
        super().setup(stage, local_rank, log_dir)
        module = getattr(self, "_lightning_module", None)
        if stage == "fit" and module is not None and isinstance(module.net, nn.Module):
            self._begin = time.perf_counter()
            module.net.register_forward_pre_hook(lambda *_: self.start("forward"))
            module.net.register_forward_hook(lambda *_: self.stop("forward"))

    def start(self, action_name: str) -> None:
        """Note when a part begins."""
        self._since[action_name] = self._clock()

    def stop(self, action_name: str) -> None:
        """Add up how long a part has taken."""
        since = self._since.pop(action_name, None)
        module = getattr(self, "_lightning_module", None)  # Lightning sets it as training begins
        if since is None or module is None:
            return
        name = action_name.rpartition(".")[2] if action_name != _FETCH else _FETCH
        taken = self._clock() - since
        if action_name == "save_checkpoint":
            self.seconds[name] += taken
        elif module.trainer.training:
            if action_name.startswith("[Callback]"):
                name = "callbacks"
                if any(one.endswith("optimizer_step") for one in self._since):
                    self.seconds["within"] += taken
            self.seconds[name] += taken
            self.num_steps += name == "optimizer_step"

    def _clock(self) -> float:
        """Return the time, less that of checkpoints: they are written within a callback's hook."""
        return _now() - self.seconds["save_checkpoint"]

    def parts(self) -> dict[str, float]:
        """Return the seconds of a mean step by part."""
        steps = max(self.num_steps, 1)
        return {
            name: sum(-self.seconds[one[1:]] if one[0] == "-" else self.seconds[one] for one in of)
            / steps
            for name, of in _PARTS.items()
        }

    def sentence(self) -> str:
        """Return what limits the speed of training."""
        parts = self.parts()
        step = sum(parts.values()) or 1.0
        waiting = parts["waiting for images"] / step
        bookkeeping = parts["logging and callbacks"] / step
        if waiting > _MUCH:
            limit = (
                "data are the limit; raise data.num_workers, or data.cache_megabytes until all "
                "images fit"
            )
        elif bookkeeping > _MUCH:
            limit = "logging is the limit; raise trainer.log_every_n_steps"
        else:
            limit = "computing is the limit"
        return f"a step takes {step:.3f} s, {waiting:.0%} of it waiting for images: {limit}"

    def summary(self) -> str:
        """Return a table of the parts."""
        parts = self.parts()
        step = sum(parts.values()) or 1.0
        run = time.perf_counter() - self._begin
        lines = [f"{'part of a step':<24}{'ms':>9}{'share':>8}"]
        lines += [f"{name:<24}{1000 * one:9.1f}{one / step:8.1%}" for name, one in parts.items()]
        training = step * self.num_steps
        lines += [
            "",
            f"{self.num_steps} steps took {training:.1f} s of the {run:.1f} s of training",
            f"checkpoints took {self.seconds['save_checkpoint']:.1f} s; the rest is validation, "
            "pictures and what lies between epochs",
        ]
        return "\n".join(lines) + "\n"

    def describe(self) -> None:
        """Write the table and tell the limit, after training."""
        if self._stage != "fit" or self._local_rank or not self.num_steps:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "profile.txt"
        file.write_text(self.sentence() + "\n\n" + self.summary())
        logger.info("%s; see %s", self.sentence(), file)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
