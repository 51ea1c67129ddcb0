"""Names and versions of models: `NAME@VERSION`, which of two versions is newer, and the folder a model lies in.

No third-party packages, so that Slicer's own process can ask too.
"""

import re

from ..util.errors import InputError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,49}")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""


def split_name(text: str) -> tuple[str, str | None]:
    """Split `NAME@VERSION`; the version is None where none is named."""
    name, at, version = text.partition("@")
    return name, (version if at else None)


def parse_name(text: str) -> tuple[str, str | None]:
    """Split what a user gave as `split_name`, and check both.

    Raises:
        UsageError: no model can have that name or version.
    """
    name, version = split_name(text)
    if not NAME.fullmatch(name) or (version is not None and not VERSION.fullmatch(version)):
        raise UsageError(f"{text[:80]!r} is no name of a model: give NAME or NAME@VERSION, such as liver@1.2.0.")
    return name, version


SITE = "+site"
"""End of the version of a model that was recalibrated."""
VersionKey = tuple[tuple[int, ...], bool, str, tuple[tuple[bool, int, str], ...]]


def version_key(version: str) -> VersionKey:
    """Make what versions are ordered by.

    Numbers count as numbers (1.10 is newer than 1.9, and 1.0 is 1.0.0), what follows "-" or a letter makes an earlier
    version of the same number (1.2.0-rc1 is older than 1.2.0), what follows "+" a later one (1.2.0+site was made of
    1.2.0; +site.2 of that), and a version without a number is older than every other.
    """
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", version)
    numbers = tuple(int(number) for number in found[0].split(".")) if found else (-1,)
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    rest, _, local = version[found.end() if found else 0 :].partition("+")
    parts = local.split(".") if local else []
    return numbers, rest == "", rest, tuple((p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts)


def site_version(version: str) -> str:
    """Return the version of a recalibrated model: 1.1.0+site, and of that 1.1.0+site.2."""
    plain, marked, number = version.partition(SITE)
    if not marked:
        return f"{version}{SITE}" if "+" not in version else f"{version}.site"
    count = number.removeprefix(".")
    return f"{plain}{SITE}.{int(count) + 1 if count.isdigit() else 2}"


def folder_name(name: str, version: str) -> str:
    """Return the name of the folder that holds one version of a model.

    Raises:
        InputError: it could not be one on every computer.
    """
    folder = f"{name}-{version}"
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        what = f"The model {name[:80]!r} {version[:60]!r} cannot have a folder of that name"
        raise InputError(f"{what}: use letters, digits, '.', '_', '-' (in a version also '+').", "unusable-name")
    if RESERVED.fullmatch(folder) or folder.endswith("."):
        raise InputError(f"The model {name} {version} would lie in the folder '{folder}', which Windows cannot have.")
    return folder
