"""How many processors this task may use: in a container that is its limit, not what the machine has."""

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""The quota of a container (cgroup v2): microseconds of processor time in each period, or max."""


def processors(cpu_max: Path = CPU_MAX) -> int:
    """Return the number of processors, at least one.

    A process for each processor of a large node would share the time of a small limit, and multiply the memory.
    """
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        limit = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no container, cgroup v1, or no limit
        return usable
    return max(1, min(usable, limit))
