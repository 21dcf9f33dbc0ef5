"""The reliability diagram: what probabilities say, and what is true."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from liverseg.pictures.colours import class_colour
from liverseg.pictures.lettering import find_letters, legend_columns, shortened
from liverseg.scores import ECE, calibration_error, count_calibration, reliability
from liverseg.training import Scored, SegmentationTask, Split

if TYPE_CHECKING:  # imported where it is needed, because it takes a second
    from matplotlib.figure import Figure


class Calibration(Callback):
    """Adds ``SPLIT/ece`` to the results of a pass, and draws ``reliability_SPLIT.png``.

    Args:
        folder: Where the diagram is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(pl_module, outputs, batch, "val")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(pl_module, outputs, batch, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the error and draw."""
        self._finish("val", trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the error and draw."""
        self._finish("test", trainer, pl_module)

    def _count(
        self, task: LightningModule, outputs: Scored, batch: dict[str, Tensor], split: Split
    ) -> None:
        assert isinstance(task, SegmentationTask)
        first = task.tally(split).scores.first_class
        counts = count_calibration(outputs["logits"], batch["mask"], first=first)
        self._counts = counts if self._counts is None else self._counts + counts

    def _finish(self, split: Split, trainer: Trainer, task: LightningModule) -> None:
        assert isinstance(task, SegmentationTask)
        if self._counts is None:
            return
        counts = trainer.strategy.reduce(self._counts, reduce_op="sum")
        assert isinstance(counts, Tensor)
        self._counts = None
        names = task.tally(split).scores.class_names
        errors = calibration_error(counts)
        task.results[split][ECE] = float(errors.mean())
        if len(names) > 1:
            task.results[split] |= {
                f"{ECE}/{name}": float(error) for name, error in zip(names, errors, strict=True)
            }
        if trainer.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)
            draw_reliability(self._folder / f"reliability_{split}.png", counts, names)


def draw_reliability(file: Path, counts: Tensor, class_names: Sequence[str]) -> "Figure":
    """Draw how often pixels of a probability are of the class, and how many there are.

    Args:
        file: The PNG file to write.
        counts: What :func:`liverseg.scores.count_calibration` returned, of all images.
        class_names: The names of the classes.

    Returns:
        What was drawn.
    """
    from matplotlib.figure import Figure

    share, probability, truth = reliability(counts)
    errors = calibration_error(counts)
    figure = Figure((5.2, 5.6), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="as it should be")
    for place, name in enumerate(class_names):
        some = share[place] > 0
        shown = f"{shortened(name)}, error {float(errors[place]):.4f}"
        red, green, blue = (0.75 * part / 255 for part in class_colour(place + 1))
        style = {"color": (red, green, blue), "marker": "o", "markersize": 3.5}
        above.plot(probability[place][some], truth[place][some], label=shown, **style)
        below.plot(probability[place][some], share[place][some], **style)
    above.set_ylabel("share of pixels of the class")
    above.set_xlim(-0.02, 1.02)  # dots at the ends are whole
    above.set_ylim(-0.02, 1.02)
    below.set_yscale("log")
    below.set_ylim(top=1.3)
    below.set_ylabel("share of all pixels")
    below.set_xlabel("probability, mean of each step")
    columns = legend_columns(len(above.lines))
    legend = figure.legend(loc="outside right upper", ncols=columns, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # $ is a letter of a name
    find_letters(figure)
    figure.set_figwidth(figure.get_figwidth() + legend.get_window_extent().width / figure.dpi)
    for panel in (above, below):
        panel.grid(alpha=0.3)
    figure.savefig(file)
    return figure
