"""A case from its job to its result, part by part: what is asked, read, assessed, and what the case folder holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..io.roi import RegionOfInterest, VoxelBox
from ..models.input_spec import Label, asked_labels
from ..regions.find_regions import FoundRegions
from ..util.plane_files import Planes
from .deviation import Deviation
from .given_mask import GivenMask, MaskFile
from .model import ModelIdentity
from .settings import DEFAULTS, RunSettings
from .structures import StructureMetrics
from .uncertainty_maps import VoxelMaps


@dataclass(frozen=True)
class Job:
    """One case to be segmented.

    Attributes:
        name: of the case and of its folder.
        files: one image file or folder of a DICOM series per channel, in the model's order.
        target: the case folder to be written.
        settings: what the user chose for the run.
        overwrite: replace a case folder that is there.
        own_to_world_ras: linear transform that the image hangs under; only tells the network which way is up.
        series: for each file, the end of the UID of the series to take from a DICOM folder that holds several.
        insist_option: how the user says `RunSettings.unlike_training`, for messages.
        mask: a segmentation made elsewhere, which takes the place of the model's and is judged by it.
    """

    name: str
    files: Sequence[Path]
    target: Path
    settings: RunSettings = DEFAULTS
    overwrite: bool = False
    own_to_world_ras: Sequence[float] | None = None
    series: Sequence[str | None] = ()
    insist_option: str = "--unlike-training"
    mask: MaskFile | None = None

    @property
    def roi(self) -> RegionOfInterest | None:
        """The region of interest, None for the whole image."""
        return None if self.settings.roi is None else RegionOfInterest.of(self.settings.roi)


@dataclass(frozen=True)
class CaseInput:
    """What was read of the images of a case.

    Attributes:
        grid: of the images, and of all volumes.
        voxels_sha256: hash of the voxels of each channel, all of them.
        patient: of a DICOM series, PatientID and its issuer, of which `case.json` gets a keyed hash.
        image: the whole first channel, where a copy of it is to be written.
        further_images: the other channels, by the name of the file that a copy goes to.
    """

    grid: VoxelGrid
    voxels_sha256: Sequence[str]
    patient: Sequence[str] = ()
    image: sitk.Image | None = None
    further_images: Mapping[str, sitk.Image] = field(default_factory=dict)


@dataclass(frozen=True)
class AssessedBox:
    """A box of the image with its maps and metrics: all of it, the region of interest, or boxes that were placed.

    Attributes:
        box: its voxels.
        first: the first channel inside, (z, y, x).
        world: grid of that, as it lies in the world.
        maps: results inside.
        structures: metrics, background first.
        warnings: deviations from the training cases and what happened on the way.
        seconds: that reading and segmenting took.
        parts: boxes inside it that were assessed, where that is less than all of it (`placed_case`).
        roi: the region that it was cut out for.
    """

    box: VoxelBox
    first: Planes
    world: VoxelGrid
    maps: VoxelMaps
    structures: Sequence[StructureMetrics]
    warnings: Sequence[Deviation]
    seconds: Mapping[str, float]
    parts: Sequence[VoxelBox] = ()
    roi: RegionOfInterest | None = None

    def assessed(self, planes: Planes) -> list[Planes]:
        """Return the assessed parts of a map."""
        if not self.parts:
            return [planes]
        values = planes[:]
        return [values[part.relative_to(self.box).slices_zyx] for part in self.parts]


@dataclass(frozen=True)
class CaseResult:
    """All that a case folder holds.

    Attributes:
        job: what was asked.
        model: what segmented it.
        source: what was read.
        labels: of the segmentation; of a model of several sides those of each, of a mask its own.
        assessed: the part of the image that was segmented.
        regions: to review; None without fitted calibration.
        totals, asymmetries: of the model's segmentation (`structures.whole_metrics`); none of a mask.
        warnings: what the user should know, the most important first.
        placement: block of `case.json` about placed boxes; None where none had to be.
        mask: the segmentation where it was made elsewhere; the maps hold the part of it that was assessed.
        timings_s: seconds by stage.
    """

    job: Job
    model: ModelIdentity
    source: CaseInput
    labels: tuple[Label, ...]
    assessed: AssessedBox
    regions: FoundRegions | None = None
    totals: Sequence[Mapping[str, Any]] = ()
    asymmetries: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[Deviation] = ()
    placement: Mapping[str, Any] | None = None
    mask: GivenMask | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None

    @property
    def asked(self) -> list[Label]:
        """Structures to be measured and reviewed; raises as `asked_labels`."""
        return asked_labels(self.labels, self.job.settings.structures)

    @property
    def maps(self) -> VoxelMaps:
        """The maps of the assessed part."""
        return self.assessed.maps
