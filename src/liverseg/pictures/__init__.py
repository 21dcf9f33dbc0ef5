"""What people look at.

Reading order: ``colours``, ``lettering`` (captions and legends), ``cases`` (how an image, its truth
and its prediction are drawn), ``boards`` (TensorBoard's files), ``ranking`` (which images are the
best and the worst), ``gallery`` (which pictures are drawn, and when), ``dashboard`` (what
TensorBoard shows besides), ``history`` and ``charts`` (the curves of a run), ``diagrams`` (a U-Net
as the U), ``calibration`` (what probabilities say), ``sheets`` (many images side by side),
``previews`` (what augmentation does).
"""

from liverseg.pictures.boards import TensorBoard, boards_of
from liverseg.pictures.calibration import Calibration
from liverseg.pictures.cases import as_shown, draw_case
from liverseg.pictures.charts import draw_curves, read_curves
from liverseg.pictures.colours import class_colour
from liverseg.pictures.dashboard import Dashboard, show_result
from liverseg.pictures.diagrams import draw_numbers, draw_u
from liverseg.pictures.gallery import PictureBoard
from liverseg.pictures.history import HISTORY_FILE, History
from liverseg.pictures.lettering import find_letters
from liverseg.pictures.previews import draw_augmentation
from liverseg.pictures.ranking import best_and_worst, rank
from liverseg.pictures.sheets import Tile, draw_sheet

__all__ = [
    "HISTORY_FILE",
    "Calibration",
    "Dashboard",
    "History",
    "PictureBoard",
    "TensorBoard",
    "Tile",
    "as_shown",
    "best_and_worst",
    "boards_of",
    "class_colour",
    "draw_augmentation",
    "draw_case",
    "draw_curves",
    "draw_numbers",
    "draw_sheet",
    "draw_u",
    "find_letters",
    "rank",
    "read_curves",
    "show_result",
]
