"""Which settings are refused before any data is read, each in one sentence.

Three things are held against the config, in this order: every value against its kind and range
(``rules``), every section against the class below it (``classes``), and the sections against one
another (``monitors``, ``agreement``, ``building``) and against this computer (``devices``,
``folders``); ``check`` holds the order. What a class of this package refuses by itself when it is
built, such as ``model.depth=0``, stands there and not here.
"""

from liverseg.settings.check import check_settings
from liverseg.settings.monitors import score_names

__all__ = ["check_settings", "score_names"]
