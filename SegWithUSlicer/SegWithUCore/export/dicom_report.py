"""DICOM Structured Reports (TID 1500): figures and flags of the structures, one reviewer's verdicts on the regions.

Needs highdicom, so it is imported only where that was found.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import DT

from ..case.structures_table import table_entries
from ..models.input_spec import Code, Label
from ..regions.region import Region
from ..review.flags import Flag, asks_all, informative_dice, metrics_of_case
from ..review.log_format import Signed, StructureJudged, Undone, VerdictGiven
from ..review.reviews import Review
from ..review.signing import valid_signature
from ..review.verdicts import GIVEN, Verdict
from . import dicom_objects as objects
from .dicom_objects import SCHEME, concept, text, type_of

EXPECTED_WRONG = concept(Code(SCHEME, "EXPECTED_WRONG", "Expected wrong volume"))
PREDICTED_DICE = concept(Code(SCHEME, "PREDICTED_DICE", "Predicted Dice coefficient"))
VOLUME_PERCENT = concept(Code(SCHEME, "VOLUME_PERCENT", "Volume in percent of that of the whole"))
ASYMMETRY = concept(Code(SCHEME, "ASYMMETRY", "Left minus right volume in percent of their mean"))
FLAG, VERDICT = Code(SCHEME, "FLAG", "Why to look at it first"), Code(SCHEME, "VERDICT", "Verdict of the reviewer")
SIGNED = Code(SCHEME, "SIGNED", "What the signature of the reviewer rests on")
CASE, REGION = Code(SCHEME, "CASE", "Segmentation as a whole"), Code(SCHEME, "REGION", "Region to review")
VOLUME, MM3 = codes.SCT.Volume, codes.UCUM.CubicMillimeter
_SPATIAL = Code("SCT", "309825002", "Spatial and Relational Concept")
_SIDES = ("7771000", "24028007")  # left and right in SNOMED CT


# A DICOM Segmentation, and the segments that it was made of, in the order of its segment numbers.
Drawing = tuple[Dataset, objects.Segments]


def judged_regions(regions: Sequence[Region], review: Review) -> list[Region]:
    """List the regions on which a reviewer gave a verdict after a look."""
    return [region for region in regions if review.state.verdict_of(region.id) in GIVEN]


def region_segment(region: Region) -> objects.Segment:
    """Make the segment of a region; its voxels are those that have its id in `regions.nii.gz`."""
    label = Label(region.id, f"region {region.id}: {region.structure}", (255, 165, 0), _SPATIAL, REGION)
    return objects.Segment(label, 0, region.id, about=f"Region {region.id} to review: {region.kind.value}")


@dataclass(frozen=True)
class Report:
    """A Comprehensive 3D SR of one case, and what it is made of.

    Attributes:
        source: the series.
        origin: what made the results.
        raw: the content of `case.json`.
        model: the model's segmentation.
        flags: of the case, as far as the reader of the report may see them.
        regions: of the case.
        review: of the one reviewer whose verdicts are reported; None for a report without verdicts.
        is_done: this reviewer has finished all structures asked for.
        reviewed: this reviewer's version, if there is one.
        judged: the regions on which the reviewer gave a verdict after a look, one segment each; None without any.
    """

    source: objects.SourceSeries
    origin: objects.ModelProvenance
    raw: Mapping[str, Any]
    model: Drawing
    flags: Sequence[Flag]
    regions: Sequence[Region]
    review: Review | None
    is_done: bool
    reviewed: Drawing | None
    judged: Drawing | None

    def made(self, title: objects.SeriesTitle) -> Dataset:
        """Make the object. Its volumes are in mm3.

        Volumes are given twice: as segmented, and as estimated, with the distances from there to the ends of its
        interval (TID 310). The report is complete if the review is done, and verified if the reviewer has signed. What
        the model says names the model as its algorithm; verdicts and signed volumes are the person observer's.

        Raises:
            InputError: the headers of the series do not allow it.
        """
        review, source = self.review, self.source
        name, software = objects.person(review.reviewer) if review else None, text(self.origin.software)
        person = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes(name)) if name else None
        device = sr.DeviceObserverIdentifyingAttributes(self.uid("device"), software, objects.MANUFACTURER)
        common = objects.common_fields(source, self.origin, title)
        fields = {key: value for key, value in common.items() if not key.startswith("content_")}
        with objects.header_errors(source):
            content = sr.MeasurementReport(
                sr.ObservationContext(person, sr.ObserverContext(codes.DCM.Device, device)),
                procedure_reported=codes.SCT.ImagingProcedure,
                imaging_measurements=list(self.groups()),
                title=codes.DCM.ImagingMeasurementReport,
                referenced_images=source.headers,
            )
            found = sr.Comprehensive3DSR(
                [*source.headers, *(one[0] for one in (self.model, self.reviewed, self.judged) if one)],
                content[0],
                is_complete=self.is_done,
                is_verified=self.signed is not None,
                verifying_observer_name=name,
                verifying_organization="not stated",
                **fields,
            )
        if self.signed and review:
            found.VerifyingObserverSequence[0].VerificationDateTime = _time(review.state.signed_at)
        found.SpecificCharacterSet = objects.UNICODE
        return found

    @property
    def signed(self) -> Signed | None:
        """What the reviewer has signed."""
        return valid_signature(self.raw, self.review) if self.review else None

    def uid(self, what: str) -> str:
        """Return the same identifier for the same thing whenever a case is exported from the same series."""
        series = str(self.source.headers[0].SeriesInstanceUID)
        return str(generate_uid(entropy_srcs=[series, self.origin.weights_sha256, what]))

    def groups(self) -> Iterator[Any]:
        """Yield a group for each structure, total and the case, each structure reviewed, and each judged region."""
        review = self.review
        entries = table_entries(self.raw)
        structures = {int(entry["value"]): entry for entry in entries if "value" in entry}
        for number, segment in enumerate(self.model[1].entries, 1):
            yield self._structure(number, segment.label, structures[segment.label.value])
        for entry in entries[len(structures) :]:  # totals and asymmetries, which have no segment
            label = Label.from_json({**entry, "value": 0, "color": [0, 0, 0]})
            yield self._group(label.name, None, 0, label, type_of(label), _figures(entry), by_model=True)
        wrong = _number(EXPECTED_WRONG, metrics_of_case(self.raw)["wrong_mm3"] if asks_all(self.raw) else None, MM3)
        yield self._group("case", None, 0, None, CASE, wrong, self._flags(None), True)
        if self.reviewed and review:
            for number, segment in enumerate(self.reviewed[1].entries, 1):
                voxels, label = np.count_nonzero(self.reviewed[1].mask(segment)), segment.label
                volume = _number(VOLUME, voxels * math.prod(self.source.image.GetSpacing()), MM3)
                yield self._group(f"reviewed {label.name}", self.reviewed, number, label, type_of(label), volume)
        signed = {each.structure: each for each in self.signed.volumes} if self.signed else {}
        for segment in self.model[1].entries:
            if signature := signed.get(segment.label.name):
                numbers = _figures({**asdict(signature), "percent": None})
                basis = sr.QualitativeEvaluation(
                    concept(SIGNED), concept(Code(SCHEME, signature.basis.upper(), signature.basis))
                )
                about = (segment.label, type_of(segment.label))
                yield self._group(f"signed {signature.structure}", None, 0, *about, numbers, [basis])
        if self.judged and review:
            labels = {segment.label.name: segment.label for segment in self.model[1].entries}
            for number, region in enumerate(judged_regions(self.regions, review), 1):
                wrong = _number(EXPECTED_WRONG, region.expected_wrong_mm3, MM3)
                verdict = self._verdict(review.state.verdict_of(region.id), region.id)
                site = labels.get(region.structure)
                yield self._group(f"region {region.id}", self.judged, number, site, REGION, wrong, verdict)

    def _structure(self, number: int, label: Label, entry: Mapping[str, Any]) -> Any:
        """Make the group of a structure as the model drew it."""
        verdict = self.review.state.structure(label.name).verdict if self.review else None
        said = [*self._flags(label.name), *self._verdict(verdict, label.name)]
        return self._group(label.name, self.model, number, label, type_of(label), _figures(entry), said, True)

    def _flags(self, structure: str | None) -> Iterator[Any]:
        """Yield the flags of a structure, or of the whole case, each as a code and as a sentence."""
        for flag in self.flags:
            if flag.structure == structure:
                rule = concept(Code(SCHEME, flag.rule.name, flag.rule.value))
                found = sr.QualitativeEvaluation(concept(FLAG), rule)
                sentence = text(flag.message, 1024)
                found.append(sr.TextContentItem(codes.DCM.Comment, sentence, sr.RelationshipTypeValues.CONTAINS))
                yield found

    def _verdict(self, verdict: Verdict | None, about: int | str) -> Iterator[Any]:
        """Yield a verdict on a region or structure, if there is one, with the time at which it was given."""
        if verdict is None or self.review is None:
            return
        events, when = self.review.events, self.review.when
        undone = {event.action.line for event in events if isinstance(event.action, Undone)}
        for line, event in enumerate(events, 1):
            match event.action:
                case VerdictGiven(judged) | StructureJudged(judged) if judged == about and line not in undone:
                    when = event.when
        given = sr.QualitativeEvaluation(concept(VERDICT), concept(Code(SCHEME, verdict.name, verdict.value)))
        given[0].ObservationDateTime = _time(when)
        yield given

    def _group(
        self,
        name: str,
        drawing: Drawing | None,
        number: int,
        label: Label | None,
        finding: Code,
        figures: Sequence[Any],
        evaluations: Iterable[Any] = (),
        by_model: bool = False,
    ) -> Any:
        """Make a group of measurements (TID 1411; 1501 without a segment).

        Args:
            name: by which it is tracked.
            drawing, number: the segment that it is about.
            label: the structure, which is the site.
            by_model: whether the model is the algorithm behind it.
        """
        model, _, version = self.origin.model.rpartition(" ")
        told: dict[str, Any] = {
            "tracking_identifier": sr.TrackingIdentifier(self.uid(name), text(name)),
            "finding_type": concept(finding),
            "finding_sites": [_site(label)] if label else None,
            "algorithm_id": sr.AlgorithmIdentification(text(model), text(version)) if by_model else None,
            "measurements": figures,
            "qualitative_evaluations": list(evaluations),
        }
        if drawing is None:
            return sr.MeasurementsAndQualitativeEvaluations(**told)
        series = sr.SourceSeriesForSegmentation(self.source.headers[0].SeriesInstanceUID)
        segmentation = drawing[0].SOPClassUID, drawing[0].SOPInstanceUID
        segment = sr.ReferencedSegment(*segmentation, number, source_series=series)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**told, referenced_segment=segment)


def _site(label: Label) -> Any:
    """Return the anatomic site of a structure, with its side or part."""
    by_kind = {} if label.type is None else {
        "laterality" if code.value in _SIDES else "topographical_modifier": concept(code) for code in label.modifiers
    }  # fmt: skip
    return sr.FindingSite(concept(type_of(label)), **by_kind)


def _figures(entry: Mapping[str, Any]) -> list[Any]:
    """Make the measurements of an entry of `table_entries`."""
    what = VOLUME_PERCENT if "volume_mm3" in entry else ASYMMETRY
    return [
        *_number(VOLUME, entry.get("volume_mm3"), MM3),
        *_number(
            VOLUME, entry.get("expected_volume_mm3"), MM3, codes.SCT.Estimated, entry.get("expected_interval_mm3")
        ),
        *_number(what, entry.get("percent"), codes.UCUM.Percent, interval=entry.get("interval_percent")),
        *_number(EXPECTED_WRONG, entry.get("expected_wrong_mm3"), MM3),
        *_number(PREDICTED_DICE, informative_dice(entry), codes.UCUM.NoUnits),
    ]


def _number(
    name: Any, value: float | None, unit: Any, derivation: Any = None, interval: Sequence[float] | None = None
) -> list[Any]:
    """Make a measurement, if there is a value."""
    if value is None:
        return []
    value, ends = round(float(value), 4), None
    if interval is not None:
        below, above = round(value - float(interval[0]), 4), round(float(interval[1]) - value, 4)
        ends = sr.MeasurementProperties(upper_measurement_uncertainty=above, lower_measurement_uncertainty=below)
        for item in ends:  # highdicom gives them no unit
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [sr.CodedConcept.from_code(unit)]
    return [sr.Measurement(name, value, unit, derivation=derivation, properties=ends)]


def _time(when: str) -> DT:
    """Convert the time of a log's line, ISO 8601 in UTC."""
    return DT(datetime.fromisoformat(when).strftime("%Y%m%d%H%M%S%z"))
