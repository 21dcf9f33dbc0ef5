"""The table at the end of ``python train.py -m``: one line per job, its overrides and scores."""

import json
import logging
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SHOWN = ("val/dice", "val/iou", "test/dice", "test/iou")
logger = logging.getLogger(__name__)


class SweepTable(Callback):
    """Collects the jobs of a sweep and logs them as a table when all have ended."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Keep what a job did."""
        assert job_return.hydra_cfg is not None
        folder = Path(job_return.hydra_cfg.hydra.runtime.output_dir)
        metrics = folder / "metrics.json"
        done = job_return.status == JobStatus.COMPLETED and metrics.is_file()
        scores = json.loads(metrics.read_text()) if done else {}
        self.rows.append(
            {
                "job": folder.name,
                "overrides": " ".join(job_return.overrides or []),
                **{name: f"{scores[name]:.4f}" for name in SHOWN if name in scores},
                "status": "done" if done else "failed",
            }
        )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Log the table."""
        logger.info("all jobs have ended\n\n%s\n", format_table(self.rows))


def format_table(rows: list[dict[str, str]]) -> str:
    """Return rows as aligned columns under a header; columns no row fills are left out."""
    order = ("job", "overrides", *SHOWN, "status")
    names = [name for name in order if any(name in row for row in rows)]
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
