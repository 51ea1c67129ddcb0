"""What all slices of a series must say alike: whom and what they show, by which contrast, and how voxels are stored.

De-identified exports and archives put several patients or contrasts under one series UID. Where their slices lie one
after the other, only these values tell.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..util.errors import InputError
from .dicom_folder import DicomSlice

SAME_NUMBER = 0.01
"""Share of a number by which roundings of it differ: scanners write the echo time that they reached in each slice."""
_LISTED = 4
Value = str | float | None
Read = Callable[[DicomSlice, str], Value]


@dataclass(frozen=True)
class Rule:
    """A header value that is one and the same in a whole series.

    Attributes:
        keyword: of the value.
        what: differs where it does, in the plural.
        code: of the refusal.
        read: gives the value of a slice; "" where it has none, None where having none says nothing.
        shown: whether messages show values: those of patients they do not.
        remedy: what to do.
    """

    keyword: str
    what: str
    code: str
    read: Read = DicomSlice.text
    shown: bool = True
    remedy: str = "give a folder that holds one of them"


def _number(one: DicomSlice, keyword: str) -> Value:
    """Read a number; 0 is none, as scanners write for what was not used."""
    numbers = one.numbers(keyword)
    return (numbers[0] or "") if len(numbers) == 1 else one.text(keyword)


def _part(position: int) -> Read:
    """One of several values, counted from 0."""
    return lambda one, keyword: [*one.text(keyword).split("\\"), "", "", ""][position]


def _if_there(one: DicomSlice, keyword: str) -> Value:
    return one.text(keyword) or None


def _given(one: DicomSlice, keyword: str) -> Value:
    """Whether there is a value, of whatever size."""
    return "given" if one.text(keyword) else ""


def _name(one: DicomSlice, keyword: str) -> Value:
    """Drop the empty components at the end of a name, which may be left out (PS3.5, section 6.2.1.1)."""
    return one.text(keyword).rstrip("^= ")


def _age(one: DicomSlice, keyword: str) -> Value:
    return one.text(keyword).lstrip("0")


def _typed(one: DicomSlice, keyword: str) -> Value:
    """Text that somebody typed."""
    return " ".join(one.text(keyword).casefold().split())


def _patients(keyword: str, read: Read = DicomSlice.text) -> Rule:
    return Rule(keyword, "patients", "mixed-patients", read, shown=False)


def _contrasts(keyword: str, what: str, read: Read = DicomSlice.text) -> Rule:
    remedy = (
        "move the files of each to a folder of its own (beside this one, not inside), or convert the series with "
        "dcm2niix, which splits it"
    )
    return Rule(keyword, what, "mixed-contrasts", read, remedy=remedy)


ORIGIN = (
    _patients("PatientID"),
    _patients("IssuerOfPatientID"),
    _patients("PatientName", _name),
    _patients("PatientBirthDate"),
    _patients("PatientSex"),
    _patients("PatientAge", _age),
    Rule("StudyInstanceUID", "studies", "mixed-studies", shown=False),
    Rule("FrameOfReferenceUID", "frames of reference", "mixed-frames-of-reference", shown=False),
    Rule("Modality", "modalities", "mixed-modalities"),
    Rule("SOPClassUID", "kinds of image", "mixed-image-kinds"),
    _contrasts("EchoTime", "echo times", _number),
    _contrasts("InversionTime", "inversion times", _number),
    _contrasts("DiffusionBValue", "b-values", _number),
    _contrasts("KVP", "tube voltages", _number),
    _contrasts("ImageType", "kinds of image (original, derived)", _part(0)),
    _contrasts("ImageType", "image types", _part(2)),
    _contrasts("ComplexImageComponent", "components of complex images"),
    _contrasts("ContrastBolusAgent", "contrast agents", _typed),
    _contrasts("ConvolutionKernel", "reconstruction kernels"),
    _contrasts("Units", "units"),
    _contrasts("RescaleType", "units", _if_there),
)
"""Whom slices show, and how they were made.

A value that only some slices have is a difference: a scanner writes the same attributes into all slices of a volume,
and a slice without `InversionTime` or `ContrastBolusAgent` says that it was made without. `RescaleType` alone may be
left out where it is the usual one. `AcquisitionNumber` differs within the volumes of many CT scanners, and the later
values of `ImageType` differ with filters.
"""
STORAGE = (
    *(
        Rule(keyword, f"values of {keyword}", "mixed-pixel-formats")
        for keyword in (
            *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
            "PixelRepresentation",
        )
    ),
    *(
        Rule(
            keyword,
            "scales",
            "rescale-in-some-slices",
            _given,
            shown=False,
            remedy="export the series again, since slices without it would be on another scale than the others",
        )
        for keyword in ("RescaleSlope", "RescaleIntercept")
    ),
)
"""How slices store their voxels: one that differs holds other numbers than its neighbours."""


def check_agreement(folder: Path, slices: Sequence[DicomSlice], rules: Sequence[Rule]) -> None:
    """Check that all slices say the same; what is absent in all of them is no matter.

    Raises:
        InputError: names what differs, the values unless they are a patient's, how many slices have each, and a file.
    """
    for rule in rules:
        groups = sorted(_groups(slices, rule).items(), key=lambda group: -len(group[1]))
        if len(groups) > 1:
            listed = "; ".join(_group_words(rule, *group) for group in groups[:_LISTED])
            more = f"; and {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
            raise InputError(
                f"{folder} holds {len(groups)} {rule.what} in one series ({rule.keyword} differs: {listed}{more}): "
                f"{rule.remedy}.",
                rule.code,
            )


def _groups(slices: Sequence[DicomSlice], rule: Rule) -> dict[str | float, list[DicomSlice]]:
    """Sort slices by their value; numbers that differ by a rounding are one."""
    found: dict[str | float, list[DicomSlice]] = {}
    for one in slices:
        if (value := rule.read(one, rule.keyword)) is not None:
            found.setdefault(value, []).append(one)
    numbers = sorted(value for value in found if isinstance(value, float))
    least = numbers[0] if numbers else 0.0
    for number in numbers[1:]:
        if number <= least * (1 + SAME_NUMBER):
            found[least] += found.pop(number)
        else:
            least = number
    return found


def _group_words(rule: Rule, value: str | float, slices: Sequence[DicomSlice]) -> str:
    shown = slices[0].shown(rule.keyword) or "none"
    label = f"{shown}: " if rule.shown or value == "" else ""
    return f"{label}{len(slices)} slices such as {slices[0].file.name}"


_COUNTS = ("ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances")
"""How many images there are; not every scanner writes one of them, and it may count several volumes."""


def doubts(slices: Sequence[DicomSlice]) -> list[str]:
    """Sentences about a series that can be read but may be incomplete or mixed; they hold no name of a file."""
    found = []
    counts = {numbers[0]: keyword for keyword in _COUNTS for one in slices if len(numbers := one.numbers(keyword)) == 1}
    if counts and (most := max(counts)) > len(slices):
        found.append(
            f"By its headers ({counts[most]}) the series has {most:.0f} images, but {len(slices)} slices are here: "
            "check that none is missing, unless the headers count several volumes."
        )
    ordered = sorted(number for one in slices for number in one.numbers("InstanceNumber"))
    without_gap = len(ordered) == len(slices) > 1 and all(b == a + 1 for a, b in pairwise(ordered))
    if without_gap and ordered[0] > 1:
        found.append(
            f"The slices are numbered from {ordered[0]:.0f} to {ordered[-1]:.0f} (InstanceNumber): check that those "
            "before are not missing."
        )
    scales = Counter((one.text("RescaleSlope"), one.text("RescaleIntercept")) for one in slices)
    (usual, count) = scales.most_common(1)[0]
    if len(slices) / 2 < count < len(slices):
        found.append(
            f"{len(slices) - count} of {len(slices)} slices have another RescaleSlope or RescaleIntercept than the "
            f"rest ({usual[0] or 1} and {usual[1] or 0}): check that their grey values are on one scale."
        )
    orders = Counter(one.text("AccessionNumber") for one in slices)
    if len(orders) > 1:
        shares = " and ".join(str(number) for number in sorted(orders.values(), reverse=True)[:_LISTED])
        found.append(
            f"The slices have {len(orders)} accession numbers ({shares} slices): check that they belong to one study."
        )
    return found
