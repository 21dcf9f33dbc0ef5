"""Which threshold and which cleaning help: candidates, scored side by side on one split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn

from liverseg.labels import first_scored
from liverseg.prediction.cleaning import Cleaning
from liverseg.prediction.options import Options
from liverseg.prediction.predictor import Predictor
from liverseg.scores import SegmentationScores, predict_classes

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
SIZES = (10, 30, 100, 300, 1000)  # of components, in pixels
SMALLEST_GAIN = 1e-4  # a smaller one is taken for chance
_MOST_ROUNDS = 8
Scores = Mapping[str, float]


class CandidateTask(LightningModule):
    """Scores several candidates in one pass over a split.

    Args:
        predictor: Gives logits; its own threshold and cleaning do not count.
        candidates: What is tried.
    """

    def __init__(self, predictor: Predictor, candidates: Sequence[Options]) -> None:
        super().__init__()
        self.results: list[dict[str, float]] = []
        self._predictor = predictor
        self._scores = [
            SegmentationScores(predictor.num_classes, predictor.class_names) for _ in candidates
        ]
        self._on_the_device = nn.ModuleList(self._scores)
        self._thresholds = [one.threshold or predictor.threshold for one in candidates]
        self._cleanings = [cleaning_of(one, predictor) for one in candidates]

    def validation_step(self, batch: Mapping[str, Tensor], batch_index: int) -> None:
        """Count a batch."""
        mask = batch["mask"]
        logits = self._predictor(batch["image"], (mask.shape[1], mask.shape[2]))
        decided = {one: predict_classes(logits, one) for one in set(self._thresholds)}
        for scores, threshold, clean in zip(
            self._scores, self._thresholds, self._cleanings, strict=True
        ):
            scores.update(clean(decided[threshold]), mask, batch["index"], batch["case"])

    def on_validation_epoch_end(self) -> None:
        """Add up, over all processes."""
        self.results = [
            {name: float(value) for name, value in scores.compute().items()}
            for scores in self._scores
        ]


def cleaning_of(options: Options, predictor: Predictor) -> Cleaning:
    """Return what options remove and fill in what a predictor finds."""
    return Cleaning.of_names(
        predictor.class_names,
        first_scored(predictor.num_classes, predictor.class_names),
        min_pixels=options.min_pixels,
        largest_component=options.largest_component,
        fill_holes=options.fill_holes,
    )


def tune(
    predictor: Predictor,
    score: Callable[[Sequence[Options]], Sequence[Scores]],
    goodness: Callable[[Scores], float],
    start: Options,
) -> Options:
    """Return the options with which a split scores best, found one change at a time.

    First the threshold, where there is one; then, while one helps, the change of a single class
    that helps most: its smallest component, its largest component alone, its holes.

    Args:
        predictor: What is tuned.
        score: Returns the scores of candidates on the split.
        goodness: Which of two scores is the better one; the higher.
        start: Whose other options stay.
    """
    best = replace(start, min_pixels=None, largest_component=None, fill_holes=None)
    reached: float | None = None
    for round_ in range(_MOST_ROUNDS):
        wave = list(_thresholds(best, predictor) if round_ == 0 else _changes(best, predictor))
        if not wave:
            continue
        values = [goodness(one) for one in score([best, *wave])]
        reached = values[0]
        most = max(range(len(wave)), key=lambda place: values[place + 1])
        if values[most + 1] >= reached + SMALLEST_GAIN:
            best = wave[most]
        elif round_ > 0:
            break
    return best


def _thresholds(options: Options, predictor: Predictor) -> Iterator[Options]:
    """Yield other thresholds, those near the present one first: of equals the first is taken."""
    if predictor.num_classes == 1:
        present = options.threshold or predictor.threshold
        for one in sorted(THRESHOLDS, key=lambda threshold: abs(threshold - present)):
            if one != present:
                yield replace(options, threshold=one)


def _changes(options: Options, predictor: Predictor) -> Iterator[Options]:
    """Yield options with one change more, of one class."""
    assert not isinstance(options.min_pixels, int)  # made here
    sizes = dict(options.min_pixels or {})
    lists: dict[str, list[str]] = {
        word: list(getattr(options, word) or []) for word in ("largest_component", "fill_holes")
    }
    has_background = first_scored(predictor.num_classes, predictor.class_names) == 1
    for name in predictor.class_names:
        for word, names in lists.items():
            if name not in names and (has_background or word != "fill_holes"):
                changed: Any = {word: [*names, name]}
                yield replace(options, **changed)
        for size in SIZES:
            if size != sizes.get(name):
                yield replace(options, min_pixels={**sizes, name: size})
