"""What ``python train.py -m`` runs on, in the form in which Hydra finds it.

Hydra imports this module at every command, so what is heavy is imported when a sweep begins.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, configure_log
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_method
from omegaconf import DictConfig

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ProcessLauncher(Launcher):
    """Runs each job in a process of its own."""

    jobs: int  # how many run at once
    devices: Sequence[int | str] | str  # the GPUs that they share out; auto for all

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep nothing: the sweeper brings what a job is composed from."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Refuse jobs of a sweeper that is not ours, which composes them in its own way."""
        raise CompactHydraException(
            "hydra/launcher=processes runs what hydra/sweeper=resumable prepares; leave both out"
        )


@dataclass(kw_only=True)
class ResumableSweeper(Sweeper):
    """Runs every combination of the listed values, or those that a search chooses.

    The same command with the same ``sweep_name`` goes on where the sweep stands.
    """

    params: Mapping[str, str] | None  # overrides that an experiment lists; those typed win
    draw: str  # the function that draws what came out of all jobs so far
    conclude: str | None  # the one that is given the folder of a grid whose jobs have all succeeded

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what jobs are composed from, and make the launcher."""
        self._loader = hydra_context.config_loader
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that are not finished, and say what came out of all of them.

        Raises:
            SystemExit: If a job failed, a setting of the sweep is wrong, or a signal stopped it.
        """
        from liverseg.settings import told_in_one_sentence
        from liverseg.sweeps import Pool, run_sweep

        config, loader = self._config, self._loader
        launcher: Pool | Launcher = self._launcher
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        HydraConfig.instance().set_config(config)
        with told_in_one_sentence(ends_command=True):
            if isinstance(launcher, ProcessLauncher):
                command = (sys.executable, "-m", "liverseg.worker", "job")
                launcher = Pool(command, num_slots=launcher.jobs, devices=launcher.devices)
            folder = Path(config.hydra.sweep.dir)
            run_sweep(
                folder,
                OverridesParser.create(config_loader=loader).parse_overrides(
                    [*self.listed(arguments), *arguments]
                ),
                config=config,
                compose=lambda overrides: loader.load_sweep_config(config, list(overrides)),
                is_group=lambda key: bool(loader.get_group_options(key)),
                launcher=launcher,
                draw=lambda file, rows: get_method(self.draw)(file, rows),
            )
            if self.conclude and config.get("search") is None:
                get_method(self.conclude)(folder)

    def listed(self, typed: Sequence[str]) -> Iterator[str]:
        """Yield overrides of the experiment that are not typed.

        A choice that needs a package that is not installed is left out with a word.
        """
        from liverseg.settings import what_is_lacking

        for key, values in (self.params or {}).items():
            if any(one.startswith(f"{key}=") for one in typed):
                continue
            kept = []
            for value in str(values).split(","):
                if lacking := what_is_lacking(f"{key}={value}"):
                    logger.warning("left out: %s", lacking)
                else:
                    kept.append(value)
            yield f"{key}={','.join(kept)}"
