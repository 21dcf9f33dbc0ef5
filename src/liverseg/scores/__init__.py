"""From masks to numbers.

Reading order: ``catalogue`` (which scores there are), ``boundaries`` (distances from edge to edge),
``averages`` (from images to a split), ``metrics`` (classes, counts, and their sum over batches),
``absence`` (classes that no mask holds), ``calibration`` (of probabilities), ``intervals`` (how far
a mean can be believed), ``final`` and ``tables`` (the end of a run), ``files`` (one line per image
or patient), ``paired`` (one against another).
"""

from liverseg.scores.absence import classes_without_truth, sentence_of_absence
from liverseg.scores.averages import dice, iou
from liverseg.scores.calibration import calibration_error, count_calibration, reliability
from liverseg.scores.catalogue import (
    AVERAGES,
    CATALOGUE,
    CHOSEN,
    ECE,
    METRIC_CONVENTION,
    SCORES,
    computed,
    keys_of,
    score_of,
    title_of,
)
from liverseg.scores.files import (
    RECORD_FILE,
    Case,
    read_cases,
    record_of,
    table_of,
    tables_text,
)
from liverseg.scores.final import final_numbers, is_score, table_numbers
from liverseg.scores.intervals import mean_interval, signed_rank_p
from liverseg.scores.metrics import (
    SegmentationScores,
    class_probabilities,
    count_by_probability,
    count_pixels,
    precision_recall,
    predict_classes,
)
from liverseg.scores.paired import Comparison, Difference, Values, compare, mean_of, unit_values
from liverseg.scores.tables import intervals_note, score_tables, summary

__all__ = [
    "AVERAGES",
    "CATALOGUE",
    "CHOSEN",
    "ECE",
    "METRIC_CONVENTION",
    "RECORD_FILE",
    "SCORES",
    "Case",
    "Comparison",
    "Difference",
    "SegmentationScores",
    "Values",
    "calibration_error",
    "class_probabilities",
    "classes_without_truth",
    "compare",
    "computed",
    "count_by_probability",
    "count_calibration",
    "count_pixels",
    "dice",
    "final_numbers",
    "intervals_note",
    "iou",
    "is_score",
    "keys_of",
    "mean_interval",
    "mean_of",
    "precision_recall",
    "predict_classes",
    "read_cases",
    "record_of",
    "reliability",
    "score_of",
    "score_tables",
    "sentence_of_absence",
    "signed_rank_p",
    "summary",
    "table_numbers",
    "table_of",
    "tables_text",
    "title_of",
    "unit_values",
]
