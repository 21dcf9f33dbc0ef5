"""One of several training processes: ``python -m liverseg.worker CONFIG LAUNCHER_PROCESS_ID``."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record

from liverseg.resume import log_like_the_run

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@record  # lets the launcher tell which process failed first, and how
def main() -> None:
    """Train from a resolved config, as one of the processes that share it."""
    _die_with(int(sys.argv[2]))
    file = Path(sys.argv[1])
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    if os.environ["RANK"] == "0":
        log_like_the_run(file.parent)

    from liverseg.experiment import train

    train(config)


def _die_with(launcher: int) -> None:
    """Have the kernel end this process when its launcher ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        sys.exit("the launcher has ended")


if __name__ == "__main__":
    main()
