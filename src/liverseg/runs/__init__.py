"""A run's folder and its life.

Reading order: ``files``, ``locks`` and ``processes`` (of the operating system), ``ranks`` (several
processes that train together), ``resume`` (a run's config, and how it goes on), ``jobs`` (a job of
a sweep on disk), ``provenance`` (where a result comes from), ``stopping`` (how a run is stopped;
imported by its own name, since it needs Lightning, which takes seconds).
"""

from liverseg.runs.files import read_json, short_path, write_bytes, write_json, write_text
from liverseg.runs.jobs import (
    JOB_FILE,
    PRUNED_FILE,
    Compose,
    Job,
    find_jobs,
    prepare,
    prepare_jobs,
    recorded,
    refuse_changed_search,
    shortened,
)
from liverseg.runs.locks import LOCK, is_locked, locked
from liverseg.runs.processes import child_environment, die_with, heard, num_cores, num_processes
from liverseg.runs.provenance import describe_run, origin, uncommitted_changes
from liverseg.runs.ranks import (
    agreed_arguments,
    found_launcher,
    is_first_process,
    requeue,
    was_restarted,
)
from liverseg.runs.resume import (
    CONFIG_FILE,
    SCORES_FILE,
    last_checkpoint,
    load_config,
    log_like_the_run,
    read_scores,
    refuse_fixed,
    resume_or,
    save_config,
)

__all__ = [
    "CONFIG_FILE",
    "JOB_FILE",
    "LOCK",
    "PRUNED_FILE",
    "SCORES_FILE",
    "Compose",
    "Job",
    "agreed_arguments",
    "child_environment",
    "describe_run",
    "die_with",
    "find_jobs",
    "found_launcher",
    "heard",
    "is_first_process",
    "is_locked",
    "last_checkpoint",
    "load_config",
    "locked",
    "log_like_the_run",
    "num_cores",
    "num_processes",
    "origin",
    "prepare",
    "prepare_jobs",
    "read_json",
    "read_scores",
    "recorded",
    "refuse_changed_search",
    "refuse_fixed",
    "requeue",
    "resume_or",
    "save_config",
    "short_path",
    "shortened",
    "uncommitted_changes",
    "was_restarted",
    "write_bytes",
    "write_json",
    "write_text",
]
