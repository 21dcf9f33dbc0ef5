"""Pages that are one file and open by mail: what a run, a comparison or a check has found.

Reading order: ``style`` (how pages look), ``pages`` (the frame: sections, tables, pictures),
``graphs`` (curves that a page draws itself), and what they show: ``findings`` (of a check),
``results`` (of a run), ``contestants`` and ``comparing`` (of several), ``concluding`` and
``sweep_charts`` (of a sweep).
"""

from liverseg.reports.comparing import compare_runs
from liverseg.reports.concluding import conclude_sweep
from liverseg.reports.findings import counted, in_words, write_findings
from liverseg.reports.graphs import Line, graph
from liverseg.reports.pages import (
    Cell,
    Html,
    Section,
    code,
    columns,
    facts,
    fold,
    item,
    mark,
    page,
    picture,
    table,
)
from liverseg.reports.results import RUN_REPORT, Result, write_result
from liverseg.reports.sweep_charts import draw_comparison

__all__ = [
    "RUN_REPORT",
    "Cell",
    "Html",
    "Line",
    "Result",
    "Section",
    "code",
    "columns",
    "compare_runs",
    "conclude_sweep",
    "counted",
    "draw_comparison",
    "facts",
    "fold",
    "graph",
    "in_words",
    "item",
    "mark",
    "page",
    "picture",
    "table",
    "write_findings",
    "write_result",
]
