"""How much memory is free for this process, and the refusal of what would need more.

Linux grants every request for memory and ends a process once there is none left, without a message. So what a
piece of work needs is held against what is free before it starts. Standard library only.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import InputError
from .processor import control_groups

# Environment variable: with 1, memory is not checked.
IGNORE_VARIABLE = "SEGWITHU_IGNORE_MEMORY"
# What the program holds with torch and a model loaded, where the system does not say (measured on Linux).
PROGRAM_BYTES = 600_000_000
# Control groups without a limit show a number near 2^63.
_UNLIMITED = 1 << 60
# Of `memory.stat`: files kept in memory, which the kernel drops before it ends a process.
_CACHE_LINES = ("active_file", "inactive_file")


class NotEnoughMemoryError(InputError):
    """A piece of work needs more memory than is free; nothing was allocated for it yet.

    Attributes:
        needed, free: bytes.
        message: without the name of the file.
    """

    def __init__(
        self, what: str, needed: float, free: float, remedies: Sequence[str], file: Path | None = None
    ) -> None:
        """Say that `what` needs so much, so much is free, and one of the remedies helps.

        Args:
            remedies: besides closing programs and taking another computer.
            file: that the work is about; stands before the sentence.
        """
        self.needed, self.free = needed, free
        ways = [*remedies, "close other programs", "use a computer with more memory"]
        self.message = (
            f"{what} needs about {size_text(needed)} of memory more than the program holds already, but only "
            f"{size_text(free)} are free: {', '.join(ways[:-1])} or {ways[-1]}."
        )
        begin = "" if file is None else f"{file}: "
        super().__init__(begin + (self.message if file is None else self.message[0].lower() + self.message[1:]))


def check_memory(
    what: str, needed: float, remedies: Sequence[str] = (), reusable: int = 0, file: Path | None = None
) -> None:
    """Refuse work that needs more memory than is free; where that is not known, nothing is refused.

    Args:
        what: the subject of the sentence, in words.
        needed: bytes beyond what the program holds.
        remedies: what to do, besides closing programs and taking another computer.
        reusable: bytes that this process holds, and that the work may use.
        file: that the work is about.

    Raises:
        NotEnoughMemoryError: more is needed than free.
    """
    free = available_bytes()
    if free is not None and needed > free + reusable:
        raise NotEnoughMemoryError(what, needed, free + reusable, remedies, file)


def size_text(size: float) -> str:
    """Format a number of bytes for people: "85 MB", "1.7 GB", "12 GB"."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if size >= 0.9995 * unit:
            return f"{size / unit:.{0 if size >= 9.95 * unit else 1}f} {name}"
    return f"{size / 1e6:.0f} MB"


_process_limit: int | None = None


def limit_process(size: int | None) -> None:
    """Let this process count on no more than `size` bytes in all, because it is ended beyond.

    Args:
        size: None for no limit.
    """
    global _process_limit
    _process_limit = size


def available_bytes(proc: Path = Path("/proc")) -> int | None:
    """Memory that this process can still get; None if the system does not say.

    The least of: memory that Linux calls available with free swap, what the control groups of the process and their
    parents leave (version 1 and 2), and what `limit_process` leaves. Other systems refuse memory themselves.

    Args:
        proc: where Linux shows its state.
    """
    if os.environ.get(IGNORE_VARIABLE) == "1":
        return None
    meminfo = _numbers(proc / "meminfo", 1024)
    found = [meminfo["MemAvailable"] + meminfo.get("SwapFree", 0)] if "MemAvailable" in meminfo else []
    for folder, version in control_groups("memory", proc):
        # Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None:
            stat = _numbers(folder / "memory.stat")
            found.append(limit - used + sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _CACHE_LINES))
    if _process_limit is not None:
        found.append(_process_limit - resident_bytes())
    return max(0, min(found)) if found else None


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """Memory that this process holds now; about what it holds at least where the system does not say."""
    try:
        pages = int((proc / "self" / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return PROGRAM_BYTES
    return pages * os.sysconf("SC_PAGE_SIZE")


def _numbers(path: Path, unit: int = 1) -> dict[str, int]:
    """Read the "name number" or "name: number kB" lines of a file, in bytes; empty if it cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = [line.replace(":", " ").split() for line in lines]
    return {part[0]: int(part[1]) * unit for part in parts if len(part) > 1 and part[1].isdigit()}


def _number(path: Path) -> int | None:
    """Read the number in a file of a control group; None for "max", for no limit, and if there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        number = int(path.read_text(encoding="ascii"))
        return number if number < _UNLIMITED else None
    return None


# Of mallopt(3): from which size on memory goes back to the system, and is asked from it by itself.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; False if it cannot (no glibc), or the user has set glibc himself.

    Peaks hardly change (`segment`: 898 instead of 914 MB on a heart, 732 instead of 701 MB on a hippocampus);
    `give_back_freed_memory` ends a computation.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    mallopt = _glibc("mallopt")
    return mallopt is not None and all(mallopt(option, NEVER) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))


def give_back_freed_memory() -> None:
    """Return freed memory to the system (glibc only)."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(function: str) -> Callable[..., int] | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    return getattr(ctypes.CDLL(None), function, None)
