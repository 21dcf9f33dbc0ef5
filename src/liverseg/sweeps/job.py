"""The process of one job: ``python -m liverseg.sweeps.job FOLDER LAUNCHER_PROCESS_ID``.

A process that dies leaves nothing to the next job, and takes nothing of the sweep with it.
"""

import os
import sys
from pathlib import Path

from omegaconf import OmegaConf

from liverseg.runs import die_with, load_config, log_like_the_run


def main() -> int:
    """Train as the job's config says; return the exit status."""
    die_with(int(sys.argv[2]))
    folder = Path(sys.argv[1])
    hydra = OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra
    os.environ.update({str(name): str(value) for name, value in hydra.job.env_set.items()})
    log_like_the_run(folder)

    from hydra.errors import CompactHydraException

    from liverseg.launch import train_and_tell

    try:
        train_and_tell(load_config(folder))
    except CompactHydraException as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
