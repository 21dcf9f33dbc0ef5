"""The processes that train: one of a job of a sweep, or one of several that share a run.

``python -m liverseg.worker job|device FOLDER PARENT_PROCESS_ID``, where FOLDER holds the config. A
process that dies leaves nothing to the next one, and takes nothing of what has started it along.
"""

import gc
import os
import sys
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from liverseg.runs import CONFIG_FILE, die_with, load_config, log_like_the_run
from liverseg.settings import told_in_one_sentence

_LAST_WORDS_SECONDS = 10  # for a process that fails to end and to tell its error


def main() -> None:
    """Train as the config in a folder says: that of a job, or one for the moment."""
    part, folder, parent = sys.argv[1:]
    gc.set_threshold(200_000, 50, 50)  # as in each command
    die_with(int(parent))
    {"job": _run_job, "device": _train_on_device}[part](Path(folder))


def _run_job(folder: Path) -> None:
    """Do what ``python train.py`` does, in the environment that Hydra sets for a job."""
    hydra = OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra
    os.environ.update({str(name): str(value) for name, value in hydra.job.env_set.items()})
    log_like_the_run(folder)

    from liverseg.launch import train_and_tell

    with told_in_one_sentence(ends_command=True):
        train_and_tell(load_config(folder))


def _train_on_device(folder: Path) -> None:
    """Train beside the others that share a run; where one has gone, leave it time to say why."""
    config = OmegaConf.load(folder / CONFIG_FILE)
    assert isinstance(config, DictConfig)
    if os.environ["RANK"] == "0":
        log_like_the_run(Path(config.output_dir))

    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.errors import record

    @record  # the launcher is told which process failed first, and how
    def train_beside_others() -> None:
        from liverseg.experiment import train

        try:
            train(config)
        except RuntimeError as error:
            if isinstance(error, DistError) or "/gloo/" in str(error):
                time.sleep(_LAST_WORDS_SECONDS)  # the launcher ends it as soon as it has heard
            raise

    train_beside_others()


if __name__ == "__main__":
    main()
