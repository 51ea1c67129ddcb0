"""Parts of this program that other installed packages bring, by entry points (docs/reference/stable_api.md).

A bundle or a command only names such a part: the code that runs is that of a package which the user has installed, and
it is imported when the part is used.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from .errors import InputError, UsageError

HEADS, EXPORTS = "segwithu.heads", "segwithu.exports"
_KINDS = {HEADS: "head (variant)", EXPORTS: "export"}
_OURS = "segwithu"
T = TypeVar("T")


@dataclass(frozen=True)
class Package:
    """An installed package (a distribution)."""

    name: str
    version: str

    def __str__(self) -> str:
        """Return name and version, as in "my-heads 1.0"."""
        return f"{self.name} {self.version}"


def plugin_names(group: str) -> list[str]:
    """List the names of a group of entry points; imports nothing."""
    return sorted({point.name for point in entry_points(group=group)})


def plugin_package(group: str, name: str, own: Collection[str]) -> Package | None:
    """Return the package that brings a part; None if it is ours or unknown. Imports nothing.

    Args:
        own: names of our parts of this kind.

    Raises:
        UsageError: two packages bring a part of this name.
    """
    point = _entry_point(group, name, own)
    return None if point is None else _package_of(point)


def named_part(group: str, name: str, own: Mapping[str, T], kind: type[T]) -> T:
    """Return a part of ours or of an installed package, which is imported.

    Args:
        own: our parts of this kind, by name.
        kind: what a part must be.

    Raises:
        InputError: there is none of this name.
        UsageError: two packages bring a part of this name, or the package cannot be imported or brings something else.
    """
    point = _entry_point(group, name, own)
    if point is None and name not in own:
        known = ", ".join(sorted({*own, *plugin_names(group)}))
        raise InputError(f"There is no {_KINDS[group]} '{name}': this installation has {known} ({group}).")
    if point is None:
        return own[name]
    where = f"The entry point {name} = {point.value} ({group}) of the package {_package_of(point)}"
    try:
        part = point.load()
    except Exception as error:  # whatever the package does wrong
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(f"{where} cannot be loaded ({reason:.200}): update or remove it.", "broken-plugin") from error
    if not isinstance(part, kind):
        found = f"is of the type {type(part).__name__} instead of {kind.__name__}"
        raise UsageError(f"{where} {found}: update or remove the package.", "broken-plugin")
    return part


def _entry_point(group: str, name: str, own: Collection[str]) -> EntryPoint | None:
    found = list(entry_points(group=group, name=name))
    packages = [*([_OURS] if name in own else []), *sorted(str(_package_of(point)) for point in found)]
    if len(packages) > 1:
        message = f"The name '{name}' ({group}) is used by two packages, {' and '.join(packages)}"
        raise UsageError(f"{message}: remove one of them.", "two-plugins")
    return found[0] if found else None


def _package_of(point: EntryPoint) -> Package:
    assert point.dist is not None  # as of all that `entry_points` finds
    return Package(point.dist.name, point.dist.version)
