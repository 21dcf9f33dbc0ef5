"""Pages that are one file and open by mail: what a run, a comparison or a check has found.

Reading order: ``style`` (how pages look), ``pages`` (the frame: sections, tables, pictures),
``graphs`` (curves that a page draws itself).
"""

from liverseg.reports.graphs import Line, graph
from liverseg.reports.pages import (
    Html,
    Section,
    code,
    columns,
    facts,
    fold,
    mark,
    page,
    picture,
    table,
)

__all__ = [
    "Html",
    "Line",
    "Section",
    "code",
    "columns",
    "facts",
    "fold",
    "graph",
    "mark",
    "page",
    "picture",
    "table",
]
