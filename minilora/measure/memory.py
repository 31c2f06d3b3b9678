"""Memory that a process took."""

import re
from pathlib import Path


def peak_rss() -> int | None:
    """Return the most bytes that this process has had in memory (resident set); None on systems other than Linux."""
    try:  # not `getrusage`: its maximum begins with that of the process that started this one
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(peak[1]) * 1024 if peak else None
