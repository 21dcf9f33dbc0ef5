"""What ruins a study, found in its files before it begins.

Reading order: ``alignment`` (whether a mask lies on its image), ``measures`` (one pair),
``reading`` (all of them), ``findings`` (how something found is told), and the rules: ``files``,
``masks``, ``leaks`` and ``oddities``; ``inspecting`` puts them together.
"""

from liverseg.inspection.findings import FIRST_FILES, File, Finding, Level
from liverseg.inspection.inspecting import LOOKED_FOR, inspect, tables
from liverseg.inspection.masks import images_that_hold, share_of_class
from liverseg.inspection.measures import Measured
from liverseg.inspection.reading import Survey, survey

__all__ = [
    "FIRST_FILES",
    "LOOKED_FOR",
    "File",
    "Finding",
    "Level",
    "Measured",
    "Survey",
    "images_that_hold",
    "inspect",
    "share_of_class",
    "survey",
    "tables",
]
