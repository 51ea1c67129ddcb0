"""The public functions for notebooks and scripts: `load_model` and `segment_image`.

`from segwithu import load_model, segment_image` loads this file when a name is first used, and with it torch and
SimpleITK. Images are segmented by the code of `segwithu segment`; nothing is written unless the result is saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk

from .case.case_file import MAP_NAMES
from .case.case_image import IMAGE_FILE
from .case.case_regions import label_values, whole_image
from .inference.case_result import CaseResult, Job
from .inference.case_writer import map_planes, write_case_folder
from .inference.deviation import Deviation
from .inference.engines import AUTO
from .inference.model import Model
from .inference.segment import compute_case
from .inference.settings import DEFAULTS, RunSettings
from .inference.structures import StructureMetrics
from .inference.uncertainty_maps import not_assessed_value
from .io.grid import check_grid
from .io.inputs import case_name, channel_inputs, find_input
from .io.volume import checked_volume
from .models.bundle import Bundle
from .models.installed import resolve_model
from .regions.region import Region
from .util.errors import InputError, UsageError
from .util.progress import Progress, silent

# One channel: a path, or an image.
ImageInput: TypeAlias = str | Path | sitk.Image
INSIST = "unlike_training=True"
VOLUMES = ("segmentation", *MAP_NAMES)


def load_model(name_or_folder: str | Path, device: str = AUTO, head: str | None = None, engine: str = AUTO) -> Model:
    """Load a model and keep it ready; it takes longer than segmenting a small image.

    Args:
        name_or_folder: name of an installed model, such as "hippocampus", or the folder of a bundle.
        device: "auto" (CUDA, then Apple's MPS, then the CPU), "cpu", "cuda" or "mps".
        head: uncertainty head other than the model's default.
        engine: "auto" (torch where it has a graphics card, else OpenVINO where model and computer have what it needs,
            else torch), "torch" or "openvino"; `model.engine_words` says which it was and why.

    Raises:
        UsageError: no such model, device or engine.
        InputError: the bundle is damaged, has no such head, or its network is too large for this computer.
    """
    return Model(resolve_model(str(name_or_folder)), device, head, engine)


def segment_image(
    image: ImageInput | Sequence[ImageInput],
    model: Model,
    roi: Sequence[float] | None = None,
    *,
    unlike_training: bool = False,
    series: str | None = None,
    progress: Progress = silent,
    settings: RunSettings = DEFAULTS,
) -> "SegmentationResult":
    """Segment one case in memory, as `segwithu segment` does.

    Args:
        image: a path (image file, folder of a DICOM series, or a folder in nnU-Net naming with one case), a SimpleITK
            image, or for a model of several channels a sequence of these, in the model's order. Of an array make an
            image by `SimpleITK.GetImageFromArray`, with its spacing, origin and direction.
        model: from `load_model`.
        roi: region of interest, six numbers as `--roi`: centre and edge lengths in mm along the patient's right,
            anterior and superior (RAS); None for the whole image.
        unlike_training: continue although the image is out of distribution.
        settings: all that can be chosen for a run, such as `RunSettings(include_image=True)`; head, engine and device
            are those of the model.
        series: end of the UID of the series to take from a DICOM folder that holds several.
        progress: called with stage, fraction and details.

    Raises:
        InputError: an image is unusable, has the wrong channels, or is out of distribution.
        UsageError: no region of interest, or an option that does not go with the image.
    """
    settings = _run_settings(settings, roi, unlike_training)
    channels, images = list(image) if isinstance(image, list | tuple) else [image], dict[Path, sitk.Image]()
    if all(isinstance(channel, str | Path) for channel in channels):
        job = _job_of_files([Path(str(channel)) for channel in channels], model.bundle, series)
    else:
        images = _checked_images(channels, model.bundle)
        job = Job("image", list(images), Path())
        settings = replace(settings, include_image=True)
    job = replace(job, settings=settings, insist_option=INSIST)
    return SegmentationResult(compute_case(job, model, progress, images), images)


class SegmentationResult:
    """A segmentation with its uncertainty, on the grid of the input.

    Volumes are SimpleITK images; `array` gives them as arrays (z, y, x).

    Attributes:
        structures: volume, expected volume with interval, expected wrong volume and predicted Dice of each structure,
            background first.
        regions: regions to review, largest expected error first; empty if the head is not calibrated.
        labels: name of each label value, 0 is the background.
        warnings: how the input differs from the training cases (the out-of-distribution check), and what else the user
            should know.
    """

    def __init__(self, case: CaseResult, images: Mapping[Path, sitk.Image]) -> None:
        """Wrap what was computed; see `segment_image`."""
        self._case, self._images = case, images
        self.structures: list[StructureMetrics] = list(case.assessed.structures)
        self.regions: list[Region] = [] if case.regions is None else list(case.regions.regions)
        self.labels: dict[int, str] = {label.value: label.name for label in case.labels}
        self.warnings: list[Deviation] = list(case.warnings)

    @cached_property
    def segmentation(self) -> sitk.Image:
        """Label values; 0 outside the region of interest."""
        return self.image("segmentation")

    @cached_property
    def error_probability(self) -> sitk.Image | None:
        """Probability that a voxel is wrong, 0 to 1; -1 is not assessed. None if the head is not calibrated."""
        return self.image("error_probability") if self._case.maps.error_probability is not None else None

    @cached_property
    def ranking(self) -> sitk.Image:
        """Ranking map: orders voxels by risk of error, no unit; what was not assessed is below all other values."""
        return self.image("ranking")

    @cached_property
    def calibration(self) -> sitk.Image:
        """Calibration map: how much the probabilities are softened, no unit; -1 is not assessed."""
        return self.image("calibration")

    def image(self, name: str) -> sitk.Image:
        """Return one of `VOLUMES` as a SimpleITK image on the grid of the input.

        Raises:
            UsageError: there is no volume of that name.
        """
        case = self._case
        if name == "segmentation":
            classes = np.asarray(case.maps.classes)
            return whole_image(label_values(classes, case.labels), case.assessed.box, case.source.grid, 0)
        maps = map_planes(case.maps)
        if name not in maps:
            known = ", ".join(["segmentation", *maps])
            why = " (the head of the model is not calibrated)" if name in VOLUMES else ""
            raise UsageError(f"There is no volume '{name}'{why}: choose one of {known}.")
        values = np.asarray(maps[name])
        return whole_image(values, case.assessed.box, case.source.grid, not_assessed_value(name, float(values.min())))

    def array(self, name: str) -> np.ndarray:
        """Return one of `VOLUMES` as an array (z, y, x).

        Raises:
            UsageError: there is no volume of that name.
        """
        return sitk.GetArrayFromImage(self.image(name))

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write a case folder like that of `segwithu segment`, and return it; images from memory are written into it.

        Raises:
            OutputError: the folder exists already, or cannot be written.
        """
        folder = Path(folder)
        job, source = replace(self._case.job, name=folder.name), self._case.source
        if self._images:
            names = [IMAGE_FILE, *(f"image_{number:04d}.nii.gz" for number in range(1, len(job.files)))]
            first, *others = (self._images[file] for file in job.files)
            job = replace(job, files=[folder / name for name in names])
            source = replace(source, image=first, further_images=dict(zip(names[1:], others, strict=True)))
        return write_case_folder(replace(self._case, job=job, source=source), folder, overwrite)

    def __repr__(self) -> str:
        """Say what was found, for notebooks."""
        found = ", ".join(f"{each.label.name} {each.volume_mm3:.0f} mm3" for each in self.structures[1:])
        return f"<SegmentationResult: {found}; {len(self.regions)} regions, {len(self.warnings)} warnings>"


def _run_settings(settings: RunSettings, roi: Sequence[float] | None, unlike_training: bool) -> RunSettings:
    """Return the settings of a run; region and insistence that are given apart win."""
    if roi is not None:
        settings = replace(settings, roi=tuple(roi))  # type: ignore[arg-type]  # it checks that they are six
    return replace(settings, unlike_training=unlike_training or settings.unlike_training)


def _job_of_files(paths: Sequence[Path], bundle: Bundle, series: str | None) -> Job:
    """Find the channels of a case in files, for a run that writes nothing.

    Raises:
        InputError: as `find_input` and `channel_inputs`, or the number of channels is not the model's.
        UsageError: a folder of several cases, or a series for several paths.
    """
    if len(paths) != 1:
        if series is not None:
            message = "series= is valid for a single path only: for several channels give the folder of each series."
            raise UsageError(message)
        _check_count(len(paths), bundle)
        return Job(case_name(paths[0]), paths, Path())
    cases = find_input(paths[0]).cases
    if len(cases) != 1:
        raise UsageError(f"{paths[0]} holds {len(cases)} cases: give the files of one.")
    inputs = channel_inputs(cases[0], [], [] if series is None else [series], bundle.input.channels)
    _check_count(len(inputs), bundle)
    uids = [each.series for each in inputs]
    return Job(cases[0].name, [each.path for each in inputs], Path(), series=uids)


def _checked_images(images: Sequence[ImageInput], bundle: Bundle) -> dict[Path, sitk.Image]:
    """Check the channels of a case in memory as files are checked; returns them by what messages call them.

    Raises:
        InputError: an image that would be refused as a file, too, or another number of channels than the model's.
        UsageError: something else than images.
    """
    _check_count(len(images), bundle)
    checked = {}
    for channel, image in zip(bundle.input.channels, images, strict=True):
        source = Path(f"{channel} image")
        if not isinstance(image, sitk.Image):
            raise UsageError(f"{type(image).__name__} is not an image: give paths or SimpleITK images.")
        check_grid(source, image)
        checked[source] = checked_volume(source, image)
    return checked


def _check_count(given: int, bundle: Bundle) -> None:
    wanted = bundle.input.channels
    if given != len(wanted):
        given_and_wanted = f"{given} image(s) instead of {len(wanted)} channel(s) ({', '.join(wanted)})"
        message = f"The model '{bundle.name}' got {given_and_wanted}: give them in that order."
        raise InputError(message, "other-channels")
