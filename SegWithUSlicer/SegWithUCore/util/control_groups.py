"""The control groups of this process, by which containers and schedulers limit memory and processor time on Linux."""

import re
from collections.abc import Iterator
from pathlib import Path


def control_groups(controller: str, proc: Path = Path("/proc")) -> Iterator[tuple[Path, int]]:
    """Find the folders of the control groups that this process is in, parents included, each with its version.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1.

    Args:
        controller: "memory" or "cpu"; of version 1, where each has a hierarchy of its own.
        proc: where Linux shows its state.
    """
    try:
        mounts = (proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        groups = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups if ":" in line)}
    for line in mounts:
        own, _, other = line.partition(" - ")
        fields, kind = own.split(), other.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        names = [name for name in paths if (name == "" if version == 2 else controller in name.split(","))]
        if not names or (version == 1 and controller not in kind[-1].split(",")):
            continue
        yield from (
            (folder, version) for folder in _with_parents(fields[3], Path(_unescaped(fields[4])), paths[names[0]])
        )


def _with_parents(root: str, mount: Path, path: str) -> list[Path]:
    """List the folders of a group and its parents below a mount; in a container the mount may be the group itself."""
    inside = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
    steps = [step for step in inside.split("/") if step and step != ".."]
    return [mount.joinpath(*steps[:depth]) for depth in range(len(steps), -1, -1)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
