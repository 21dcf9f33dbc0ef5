"""A user's mistake is told in one sentence, without a traceback."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode

_PACKAGE = Path(__file__).parents[1]


@contextmanager
def told_in_one_sentence(*, ends_command: bool = False) -> Iterator[None]:
    """Turn an error that this package raised on purpose into its sentence.

    A command that is a single run ends with the sentence and status 1. A job among others fails
    with an error that Hydra prints as a sentence. Everything else passes as it is.
    ``HYDRA_FULL_ERROR=1`` in the environment shows the traceback of either.

    Args:
        ends_command: Whether what is wrapped is all of a command, also where it is no single run.
    """
    try:
        yield
    except Exception as error:
        sentence = find_sentence(error)
        if sentence is None:
            raise
        if os.environ.get("HYDRA_FULL_ERROR") != "1" and (ends_command or _is_single_run()):
            sys.exit(sentence)
        raise CompactHydraException(sentence) from error


def _is_single_run() -> bool:
    """Tell whether Hydra runs one job."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN


def find_sentence(error: BaseException) -> str | None:
    """Return the sentence of the first error in the chain that this package raised on purpose."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ValueError | OSError):
            if _is_ours(link.__traceback__):
                return str(link)
            # A loader's process sends its error as text; the last line holds the sentence.
            if "in DataLoader worker process" in str(link) and str(_PACKAGE) in str(link):
                return re.sub(r"^\w+: ", "", str(link).strip().splitlines()[-1])
        link = link.__cause__ or link.__context__
    return None


def _is_ours(trace: TracebackType | None) -> bool:
    """Tell whether the innermost frame, where the error was raised, is in this package."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return _PACKAGE in Path(trace.tb_frame.f_code.co_filename).parents
