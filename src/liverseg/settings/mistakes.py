"""A mistake is told in one sentence, without a traceback.

One border around each command catches whatever a setting or a file raises. What this package
refuses on purpose is its own sentence; of everything else the border says what was raised, where,
and beside which key, file or typed override. So a rule is owed only where a sentence should be
better than that.
"""

import dis
import errno
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra._internal import utils as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

_PACKAGE = Path(__file__).parents[1]
_LONGEST = 400  # characters of what others say
_MOST_TYPED = 4  # what is typed last is on trial
_NO_MEMORY = re.compile("allocate memory|out of memory|^MemoryError$", re.IGNORECASE)
_RAISE = dis.opmap["RAISE_VARARGS"]


@contextmanager
def told_in_one_sentence(*, ends_command: bool = False) -> Iterator[None]:
    """Turn whatever is raised into a sentence.

    A command that is a single run ends with the sentence and status 1. A job among others fails
    with an error that Hydra prints as a sentence. ``HYDRA_FULL_ERROR=1`` in the environment shows
    the traceback of either; that of an error which nobody foresaw is in the run's log as well.

    Args:
        ends_command: Whether what is wrapped is all of a command, Hydra's own work included.
    """
    report = hydra_main.run_and_report
    if not wants_traceback():
        _tell_of_a_full_disk_once()
    if ends_command:  # Hydra prints tracebacks of its own errors, and offers no other way
        hydra_main.run_and_report = lambda func: func()
    try:
        yield
    except Exception as error:
        if wants_traceback():
            raise
        sentence = sentence_of(error)
        if find_sentence(error) is None and not isinstance(error, CompactHydraException):
            _keep_traceback()
        is_single_run = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN
        if ends_command or is_single_run:
            sys.exit(sentence)
        raise CompactHydraException(sentence) from error
    finally:
        hydra_main.run_and_report = report


def _tell_of_a_full_disk_once() -> None:
    """Keep threads, logs and files that are closed late from adding tracebacks of a full disk.

    What a thread could not write is raised again where more is given to it.
    """
    logging.raiseExceptions = False  # a log that cannot be written ends nothing

    def quietly(show: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda hooked: None if _is_full(hooked.exc_value) else show(hooked)

    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = quietly(threading.__excepthook__)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = quietly(sys.__unraisablehook__)


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def wants_traceback() -> bool:
    """Tell whether the user has asked for tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def sentence_of(error: BaseException) -> str:
    """Return the sentence that tells of an error, whoever raised it."""
    if told := find_sentence(error):
        return told
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        key = re.search(r"^full_key: (.+)$", str(error), re.MULTILINE)
        error = error.__cause__
        if key:
            error.add_note(key[1])
    if isinstance(error, CompactHydraException):
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else ""
        return f"{_one_line(error)} {_one_line(cause)}".strip()
    lost = re.match("Interpolation key '(.+)' not found", str(error))
    if lost and isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key} refers to {lost[1]}, which does not exist; name one that does"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if _is_full(error):
            return (
                f"{where}the disk is full; free some of it, and give the command again, or name a "
                "folder on another disk"
            )
        if where and error.strerror:
            return where + error.strerror
    name = type(error).__name__
    said = _one_line(error).rstrip(".") or name
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
    if _NO_MEMORY.search(said):
        return (
            f"the memory does not suffice ({said}); lower data.batch_size, data.image_size, "
            "model.width or another size"
        )
    at_hand = ", ".join(_at_hand(error, said))
    return (
        f"{at_hand + ': ' if at_hand else ''}{said} ({name}{_place(error)}); HYDRA_FULL_ERROR=1 in "
        "front of the command shows the traceback"
    )


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
    """Tell whether an error was raised by a ``raise`` of this package."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return _PACKAGE in Path(code.co_filename).parents and code.co_code[trace.tb_lasti] == _RAISE


def _at_hand(error: BaseException, said: str) -> Sequence[str]:
    """Return the keys that an error is about, or else those typed that it may be about."""
    if notes := getattr(error, "__notes__", None):
        return [str(notes[-1])]
    if key := getattr(error, "full_key", None):
        return [str(key)]
    typed = [one for one in sys.argv[1:] if re.match(r"[~+]*[\w./@]+=|~", one)]
    if not typed and HydraConfig.initialized():
        typed = list(HydraConfig.get().overrides.task)
    names = {one: re.split(r"[./]", one.partition("=")[0])[-1].strip("+~") for one in typed}
    named = [one for one in typed if re.search(rf"\b{re.escape(names[one])}\b", said)]
    return named or typed[-_MOST_TYPED:]


def _one_line(text: object) -> str:
    """Write a text in one line, without what OmegaConf knows of its own types."""
    return " ".join(str(text).partition("\n    full_key: ")[0].split())


def _place(error: BaseException) -> str:
    """Return the file and line that raised, of code that is not installed where there is some."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (own or frames)[-1:]
    return "".join(f" in {Path(frame.filename).name}, line {frame.lineno}" for frame in last)


def _keep_traceback() -> None:
    """Write the traceback of what is raised into the run's log, not onto the screen."""
    record = logging.LogRecord(__name__, logging.ERROR, "", 0, "not foreseen", None, sys.exc_info())
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
