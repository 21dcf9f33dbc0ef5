"""Draw docs/example.png, the picture at the top of the README, from a run of the default job.

It shows two of the test images that the run has drawn: the one of median Dice and the worst.

    python docs/draw_example.py [RUN]         the newest run where none is named
"""

import csv
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
_GAP = 8  # pixels


def main() -> None:
    """Draw the picture, and say which images it shows."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else newest_run(ROOT / "logs" / "train" / "runs")
    scores = drawn_images(run)
    if not scores:
        sys.exit(f"{run} holds no picture of a test image; name a finished run with a test split")
    names = sorted(scores, key=lambda name: scores[name])
    shown = [names[len(names) // 2], names[0]]
    file = ROOT / "docs" / "example.png"
    stacked([run / "pictures" / f"test_{name}.png" for name in shown]).save(file, optimize=True)
    for name in shown:
        print(f"{name}  Dice {scores[name]:.3f}")
    print(f"of {run} in {file}")


def newest_run(folder: Path) -> Path:
    """Return the run that has ended last."""
    ended = sorted(folder.glob("*/metrics.json"), key=lambda file: file.stat().st_mtime)
    if not ended:
        sys.exit(f"{folder} holds no finished run; make train makes one")
    return ended[-1].parent


def drawn_images(run: Path) -> dict[str, float]:
    """Return the Dice of each test image that a run has drawn, by name."""
    file = run / "cases_test.csv"
    if not file.is_file():
        return {}
    with file.open(newline="") as stream:
        scores = {line["name"]: float(line["dice"]) for line in csv.DictReader(stream)}
    return {
        name: dice
        for name, dice in scores.items()
        if (run / "pictures" / f"test_{name}.png").is_file()
    }


def stacked(files: list[Path]) -> Image.Image:
    """Return pictures one below the other."""
    pictures = [Image.open(file).convert("RGB") for file in files]
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + _GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, height), "white")
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height + _GAP
    return canvas


if __name__ == "__main__":
    main()
