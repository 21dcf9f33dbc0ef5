"""What people look at.

Reading order: ``cases`` (how an image, its truth and its prediction are drawn), ``gallery`` (which
ones, and when), ``dashboard`` (TensorBoard), ``charts`` (the curves of a run), ``diagrams`` (a
U-Net as the U).
"""

from liverseg.pictures.cases import draw_case
from liverseg.pictures.charts import draw_curves, read_curves
from liverseg.pictures.dashboard import Dashboard, show_result
from liverseg.pictures.diagrams import draw_numbers, draw_u
from liverseg.pictures.gallery import PictureBoard, boards_of

__all__ = [
    "Dashboard",
    "PictureBoard",
    "boards_of",
    "draw_case",
    "draw_curves",
    "draw_numbers",
    "draw_u",
    "read_curves",
    "show_result",
]
