"""``python train.py -m``: many runs, each in a process and a folder of its own.

Reading order: ``jobs`` (a job on disk), ``job`` (its process), ``pool`` (several at once),
``grid`` (all combinations), ``search`` (Optuna chooses) and ``best`` (what it found), ``table``,
``statistics`` and ``comparison`` (what came out), ``sweep`` (all of it in a row). Hydra finds them
through ``hydra_plugins.liverseg_sweeps``.
"""
