import resource
import sys

import pytest
import torch

from liverseg.training import keep_freed_memory


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is on Linux")
def test_memory_of_a_step_is_there_for_the_next() -> None:
    keep_freed_memory()
    num_values = 2**24  # 64 MiB
    taken = []
    for _ in range(12):
        before = faults()
        torch.zeros(num_values)
        taken.append(faults() - before)
    pages = 4 * num_values // resource.getpagesize()
    assert sum(taken[4:]) < pages / 4, taken  # without it, each takes all its pages anew
