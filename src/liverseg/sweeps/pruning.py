"""A hopeless trial of a search ends before its last epoch.

Apart from :mod:`liverseg.sweeps.search`, which needs neither torch nor Lightning.
"""

from dataclasses import dataclass
from pathlib import Path

import optuna
from lightning import Callback, LightningModule, Trainer

from liverseg.runs import PRUNED_FILE, write_json
from liverseg.sweeps.search import open_storage


@dataclass(kw_only=True, eq=False)
class Pruning(Callback):
    """Reports a trial's score after each epoch, and stops a trial that the pruner gives up.

    What was reported is a function of the epoch, so that a resumed trial reports the same. A trial
    that is stopped leaves ``pruned.json`` in its folder instead of final scores.
    """

    storage: str  # see OptunaSearch
    study: str  # its name
    trial: int  # its number
    monitor: str  # the score that is reported
    folder: str  # that of the run
    pruner: optuna.pruners.BasePruner

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score, and stop where it is hopeless."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_hopeless = trainer.is_global_zero and self._report(trainer)
        if trainer.strategy.broadcast(is_hopeless):
            trainer.should_stop = True

    def _report(self, trainer: Trainer) -> bool:
        """Report a score, and tell whether the trial is to be stopped."""
        epoch, value = trainer.current_epoch, float(trainer.callback_metrics[self.monitor])
        storage = open_storage(self.storage)
        study_id = storage.get_study_id_from_name(self.study)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, self.trial)
        if epoch not in storage.get_trial(trial_id).intermediate_values:
            storage.set_trial_intermediate_value(trial_id, epoch, value)
        study = optuna.load_study(study_name=self.study, storage=storage)
        is_hopeless = self.pruner.prune(study, storage.get_trial(trial_id))
        if is_hopeless:
            write_json(Path(self.folder) / PRUNED_FILE, {"epoch": epoch, self.monitor: value})
        storage.remove_session()
        return is_hopeless
