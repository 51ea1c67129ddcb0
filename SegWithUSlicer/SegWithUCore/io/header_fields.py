"""Entries of a text header: parsed strictly, or refused in a sentence that shows the value."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..util.errors import InputError
from .image_file import unreadable

DETACHED = "voxels-in-another-file"
"""Error code of a header whose voxels lie elsewhere."""
NO_VOLUME = "no-volume"
"""Error code of what is not one scalar volume of three axes."""
_SHOWN = 80
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_MILLIMETRES = {"", "?", "???", "none", "mm", "millimeter", "millimeters", "millimetre", "millimetres"}
"""How headers write mm, or that they do not know the unit."""
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def excerpt(text: str) -> str:
    """Shorten text of a file for a message and remove control characters."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[: _SHOWN + 1])
    return printable if len(printable) <= _SHOWN else f"{printable[: _SHOWN - 3]}..."


class HeaderFields:
    """The entries of one file's text header: parsed strictly, or refused in a sentence that shows the value."""

    def __init__(self, path: Path, values: Mapping[str, str]) -> None:
        self.path, self._values = path, values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, otherwise: str = "") -> str:
        """Return a field that may be missing."""
        return self._values.get(name, otherwise)

    def needed(self, name: str) -> str:
        """Return a field without which there is no image.

        Raises:
            InputError: it is missing.
        """
        if name not in self._values:
            raise unreadable(self.path, f"its header has no field '{name}'")
        return self._values[name]

    def wrong(self, name: str) -> InputError:
        """Make the error about a value that cannot be."""
        return unreadable(self.path, f"its header has '{name}: {excerpt(self._values[name])}'")

    def unsupported(self, name: str, remedy: str, code: str = "") -> InputError:
        """Make the error about a value that may be right, but is not read here."""
        entry = f"'{name}: {excerpt(self._values[name])}'"
        return InputError(f"{self.path} has {entry} in its header, which is not read here: {remedy}.", code)

    def check_units(self, name: str, units: Iterable[str]) -> None:
        """Refuse lengths that are not in mm: Slicer takes them for mm, so a converted image would lie elsewhere there.

        Args:
            units: of the axes in space, as the field `name` gives them; an empty one says nothing.

        Raises:
            InputError: one is another unit.
        """
        if not all(unit.strip().lower() in _MILLIMETRES for unit in units):
            raise self.unsupported(name, "save it with lengths in mm", code="unusable-header")

    def wholes(self, name: str, count: int) -> list[int]:
        """`count` positive integers.

        Raises:
            InputError: the field is missing or holds anything else.
        """
        words = self.needed(name).split()
        if len(words) != count or not all(re.fullmatch(r"[+]?(?!0+$)[0-9]{1,18}", word, re.ASCII) for word in words):
            raise self.wrong(name)
        return [int(word) for word in words]

    def reals(self, name: str, count: int) -> tuple[float, ...]:
        """`count` finite numbers.

        Raises:
            InputError: the field is missing or holds anything else.
        """
        values = reals(self.needed(name).split())
        if values is None or len(values) != count:
            raise self.wrong(name)
        return values

    def truth(self, name: str, otherwise: bool) -> bool:
        """Parse a field that is true or false, and may be missing.

        Raises:
            InputError: it holds anything else.
        """
        if name not in self:
            return otherwise
        value = _TRUTH.get(self._values[name].lower())
        if value is None:
            raise self.wrong(name)
        return value


def reals(words: Iterable[str]) -> tuple[float, ...] | None:
    """Parse numbers; None if one is anything else."""
    try:
        return tuple(strict_number(word) for word in words)
    except ValueError:
        return None


def strict_number(text: str) -> float:
    """Parse a decimal number as other programs read it; `float` also takes `1_0`, `nan` and digits of other scripts.

    Raises:
        ValueError: it is anything else, or too large for a number.
    """
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(f"{text!r} is no decimal number")
    return number
