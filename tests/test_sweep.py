from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from liverseg.sweep import SweepTable, format_table


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    rows = [
        {"job": "0", "overrides": "model.depth=3", "val/dice": "0.5000", "status": "done"},
        {"job": "1", "overrides": "seed=1", "status": "failed"},
    ]
    assert format_table(rows).splitlines() == [
        "job  overrides      val/dice  status",
        "0    model.depth=3  0.5000    done",
        "1    seed=1                   failed",
    ]


def test_a_job_is_done_when_it_completed_and_left_its_scores(tmp_path: Path) -> None:
    table = SweepTable()
    for status, has_scores in (
        (JobStatus.COMPLETED, True),
        (JobStatus.COMPLETED, False),
        (JobStatus.FAILED, True),
    ):
        folder = tmp_path / str(len(table.rows))
        folder.mkdir()
        if has_scores:
            (folder / "metrics.json").write_text('{"val/dice": 0.25, "val/loss": 1.0}')
        hydra_cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(folder)}}})
        table.on_job_end(
            OmegaConf.create(), JobReturn(["seed=1"], hydra_cfg=hydra_cfg, status=status)
        )
    assert [row["status"] for row in table.rows] == ["done", "failed", "failed"]
    assert table.rows[0] == {
        "job": "0",
        "overrides": "seed=1",
        "val/dice": "0.2500",
        "status": "done",
    }
