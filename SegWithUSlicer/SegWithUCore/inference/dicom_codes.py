"""Names and codes as DICOM wants them: short text, people's names, and a code where a structure has none."""

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Any

from ..models.labels import Code, Label

SCHEME = "99SEGWITHU"
"""Coding scheme of what no public one has; "99" marks private schemes (PS3.3, section 8.2)."""
SCHEME_NAME = "Names of structures in SegWithU models"
ERROR_PROBABILITY = Code(SCHEME, "ERRORPROBABILITY", "Probability that the voxel's label is wrong")
NO_CATEGORY = Code(SCHEME, "STRUCTURE", "Structure of unspecified kind")
LONG, SHORT = 64, 16
"""Characters of a long string or person name, and of a code's value or scheme."""


def text(value: object, most: int = LONG) -> str:
    r"""A string without control characters and backslashes, which separate values, and of a limited length."""
    signs = "".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in str(value))
    return " ".join(signs.replace("\\", "/").split())[:most].rstrip()


def person(name: str) -> str:
    """A name typed in one piece: all of it is the family name, as nobody can tell its parts."""
    clean = text(name.translate({ord(sign): " " for sign in "^="}), LONG - 1)
    return f"{clean}^" if clean else ""


def category_of(label: Label) -> Code:
    """What kind of thing a structure is."""
    return label.category or NO_CATEGORY


def type_of(label: Label) -> Code:
    """What a structure is; without a code of its own, one made from its name: equal names have equal codes."""
    if label.type is not None:
        return label.type
    mark = hashlib.sha256(label.name.strip().casefold().encode()).hexdigest()
    return Code(SCHEME, mark[:SHORT].upper(), text(label.name) or "unnamed")


def concept(code: Code) -> Any:
    """A code as highdicom takes it."""
    from pydicom.sr.coding import Code as DicomCode

    return DicomCode(text(code.value), text(code.scheme, SHORT), text(code.meaning))


def terminology(tags: str) -> Mapping[str, Code]:
    """The codes that Slicer keeps with a segment.

    Args:
        tags: the segment's "Tags", such as "TerminologyEntry:context~category~type~modifier~...|", where a code is
            "scheme^value^meaning".

    Returns:
        Those of "category", "type", "modifier", "region" and "region_modifier" that are there.
    """
    entry = next((tag for tag in tags.split("|") if tag.startswith("TerminologyEntry:")), "")
    parts = entry.removeprefix("TerminologyEntry:").split("~")
    places = {"category": 1, "type": 2, "modifier": 3, "region": 5, "region_modifier": 6}
    found = {}
    for what, place in places.items():
        code = parts[place].split("^") if place < len(parts) else []
        if len(code) == 3 and all(part.strip() for part in code):
            found[what] = Code(*code)
    return found
