"""Memory of one step, kept for the next one."""

import ctypes
import sys

# Parameters of mallopt, see malloc.h of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_AT_ONCE = 2**26  # bytes


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, where Linux has glibc; elsewhere nothing happens.

    It gives large blocks back at once, and the system fills their pages with zeros when the next
    step asks for them again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in (
            (_MMAP_MAX, 0),
            (_TRIM_THRESHOLD, _NEVER),
            (_TOP_PAD, _AT_ONCE),
        ):
            mallopt(parameter, value)
