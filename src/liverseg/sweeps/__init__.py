"""``python train.py -m``: many runs, each in a process and a folder of its own.

Reading order: ``pool`` (several jobs at once), ``grid`` (all combinations), ``search`` (Optuna
chooses), ``pruning`` (and gives up) and ``best`` (what it found), ``table``, ``statistics`` and
``comparison`` (what came out), ``sweep`` (all of it in a row). Hydra finds them through
``hydra_plugins.liverseg_sweeps``.
"""

from liverseg.sweeps.pool import Pool
from liverseg.sweeps.statistics import REPEATS, labels
from liverseg.sweeps.sweep import run_sweep

__all__ = ["REPEATS", "Pool", "labels", "run_sweep"]
