"""Which parts of a config fit together, held against each other before any data is read.

Reading order: ``check`` (the order of everything), ``keys`` (what a value at the top must be),
``kinds`` (what a section makes), ``agreement`` (values that are fine alone), ``monitors`` (what may
be watched), ``callbacks``, ``devices`` (what this computer has), ``building`` (parts built for
trial), ``folders``, ``continuation`` (what may change when a run is resumed). How a value is held
against a type stands in :mod:`liverseg.settings`, and what a class refuses by itself, such as
``model.depth=0``, in the class.
"""

from liverseg.checks.check import check_settings
from liverseg.checks.continuation import check_continuation
from liverseg.checks.monitors import score_names

__all__ = ["check_continuation", "check_settings", "score_names"]
