"""How long a run is, where steps or minutes limit it: the epochs that fit, and a schedule of them.

A schedule has to know its end before it begins to fall. Steps are divided by those of an epoch at
the start. Minutes are divided by those of the first epoch, in which a schedule of epochs has not
moved yet: from then on, the run is the one that ``trainer.max_epochs`` of that number is, digit for
digit.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

logger = logging.getLogger(__name__)
_MARGIN = 0.97  # of the time; the rest is for an epoch that takes longer than the first


def is_limited(trainer: Mapping[str, Any]) -> bool:
    """Tell whether steps or minutes end a run; epochs are then as many as fit."""
    return bool(without_limits(trainer))


def without_limits(trainer: Mapping[str, Any]) -> str:
    """Return the words that take what limits a run away, by comma; "" where nothing does."""
    words = ["trainer.max_time=null"] if trainer.get("max_time") is not None else []
    return ",".join(words + ["trainer.max_steps=-1"] * ((trainer.get("max_steps") or -1) > 0))


class FittingLength(Callback):
    """Gives a run that steps or minutes limit the epochs that fit, and a schedule that ends there.

    Args:
        schedule_of: Returns what makes the schedule of a number of epochs, and records the number.
        is_known: Whether the number is known already, since the run goes on.
    """

    def __init__(
        self,
        schedule_of: Callable[[int], Callable[[Optimizer], LRScheduler]],
        *,
        is_known: bool,
    ) -> None:
        self._schedule_of = schedule_of
        self._is_known = is_known
        self._max_steps = -1
        self._num_untimed = 0  # epochs that the clock has not seen

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the count of steps over: Lightning ends without a check on val, and resumes amiss.

        Where it counts steps itself, it ends an epoch once more that had ended in a checkpoint.
        """
        if trainer.max_steps > 0:
            self._max_steps, trainer.fit_loop.epoch_loop.max_steps = trainer.max_steps, -1

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run that has ended begin another epoch, in which a new limit is divided."""
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        if not self._is_known and -1 < (trainer.max_epochs or 0) <= done:
            trainer.fit_loop.max_epochs = done + 1
        if Timer.__name__ not in checkpoint["callbacks"]:
            self._num_untimed = done

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Divide the steps by those of an epoch."""
        if not self._is_known and _timer(trainer) is None:
            self._fit(trainer, self._epochs_of_steps(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # the hook's own signature
        """End after the last step, once val is checked."""
        if 0 < self._max_steps <= trainer.global_step:
            trainer.should_stop = True

    def limit_reached(self, trainer: Trainer) -> str:
        """Say which limit has ended a run; "" for none."""
        if 0 < self._max_steps <= trainer.global_step:
            return f"trainer.max_steps={self._max_steps} is reached"
        timer, most = _timer(trainer), trainer.max_epochs or 0
        if timer is None or _left(timer) > 0 or trainer.current_epoch >= most > 0:
            return ""
        cut = f", before the {most} epochs that it was to hold" if self._is_known else ""
        return f"trainer.max_time is over{cut}"

    def _epochs_of_steps(self, trainer: Trainer) -> int:
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        return max(1, -(-self._max_steps // per_epoch))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Divide the time that is left by that of an epoch so far."""
        timer = _timer(trainer)
        if self._is_known or timer is None:
            return
        if not trainer.is_last_batch:  # something has cut the epoch
            if trainer.is_global_zero and _left(timer) <= 0:
                logger.warning(
                    "trainer.max_time is over within the first epoch, in which the learning rate "
                    "does not fall; raise it, or shorten an epoch by data.min_steps, or by a "
                    "smaller data.image_size"
                )
            return
        done, elapsed = trainer.current_epoch + 1, timer.time_elapsed()
        left = _MARGIN * (elapsed + _left(timer)) - elapsed
        more = int(left // (elapsed / (done - self._num_untimed)))
        num_epochs = trainer.strategy.broadcast(done + max(more, 0))
        if self._max_steps > 0:
            num_epochs = min(num_epochs, self._epochs_of_steps(trainer))
        self._fit(trainer, num_epochs)
        if trainer.is_global_zero:
            logger.info(
                "trainer.max_time holds %d epochs here; trainer.max_epochs=%d without it is the "
                "same run",
                *(num_epochs, num_epochs),
            )

    def _fit(self, trainer: Trainer, num_epochs: int) -> None:
        """Let a run, and its schedule from the steps that it has taken on, end with an epoch."""
        self._is_known = True
        trainer.fit_loop.max_epochs = num_epochs
        build = self._schedule_of(num_epochs)
        for one in trainer.lr_scheduler_configs:
            if one.interval != "epoch" or isinstance(one.scheduler, ReduceLROnPlateau):
                continue
            for group in one.scheduler.optimizer.param_groups:
                group["lr"] = group["initial_lr"]
            num_stepped = one.scheduler.last_epoch
            one.scheduler = build(one.scheduler.optimizer)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that no optimizer was stepped in between
                for _ in range(num_stepped):
                    one.scheduler.step()


def _timer(trainer: Trainer) -> Timer | None:
    """Return what watches ``trainer.max_time``."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # its connector's
    timers = (one for one in callbacks if isinstance(one, Timer))
    return next((one for one in timers if one.time_remaining() is not None), None)


def _left(timer: Timer) -> float:
    return timer.time_remaining() or 0.0
