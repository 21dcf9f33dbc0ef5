"""One of several training processes: ``python -m liverseg.worker CONFIG LAUNCHER_PROCESS_ID``."""

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from liverseg.runs import die_with, load_config, log_like_the_run


@record  # lets the launcher tell which process failed first, and how
def main() -> None:
    """Train from a resolved config, as one of the processes that share it."""
    die_with(int(sys.argv[2]))
    file = Path(sys.argv[1])
    if os.environ["RANK"] == "0":
        log_like_the_run(file.parent)

    from liverseg.experiment import train

    train(load_config(file.parent))


if __name__ == "__main__":
    main()
