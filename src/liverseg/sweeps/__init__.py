"""``python train.py -m``: many runs, each in a process and a folder of its own.

Reading order: ``pool`` (several jobs at once), ``grid`` (all combinations), ``search`` (Optuna
chooses) and ``pruning`` (and gives up), ``table`` and ``statistics`` (what came out), ``sweep``
(all of it in a row). Hydra finds them through ``hydra_plugins.liverseg_sweeps``.
"""

from liverseg.sweeps.pool import Pool
from liverseg.sweeps.statistics import REPEATS, Group, Summary, group_rows, labels
from liverseg.sweeps.sweep import run_sweep
from liverseg.sweeps.table import Row, monitored

__all__ = [
    "REPEATS",
    "Group",
    "Pool",
    "Row",
    "Summary",
    "group_rows",
    "labels",
    "monitored",
    "run_sweep",
]
