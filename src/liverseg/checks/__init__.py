"""Which parts of a config fit together, held against each other before any data is read.

Reading order: ``check`` (the order of everything), ``kinds`` (what a section makes), ``agreement``
(values that are fine alone), ``monitors`` (what may be watched), ``callbacks``, ``devices`` (what
this computer has), ``building`` (parts built for trial), ``folders``, ``continuation`` (what may
change when a run is resumed). What a single value must be stands in :mod:`liverseg.settings`, and
what a class refuses by itself, such as ``model.depth=0``, in the class.
"""

from liverseg.checks.check import check_settings
from liverseg.checks.continuation import check_continuation
from liverseg.checks.monitors import score_names

__all__ = ["check_continuation", "check_settings", "score_names"]
