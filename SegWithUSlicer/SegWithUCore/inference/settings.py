"""What a user may choose about a run, the same for all of its cases; nothing here needs a package.

Command line, Python, Slicer, its worker and workers of a cohort each make `RunSettings` once, where the user's choice
arrives, and hand it on whole (`Testing/unit/inference/test_settings.py` holds every field against each of them).
"""

from dataclasses import dataclass
from numbers import Real

from ..util.errors import UsageError
from .engines import AUTO

FARTHEST_MM = 1e6
"""Of a centre or an edge: a kilometre, beyond which a slip is certain and indices of voxels may overflow."""
SixNumbers = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class RunSettings:
    """What a user may choose about a run, besides the model and the images.

    Attributes:
        head: an uncertainty head other than the model's default.
        engine: what runs the network, one of `engines.ENGINES`.
        device: where: "auto", "cpu", "cuda" or "mps".
        roi: region of interest, centre and edge lengths in mm along the patient's right, anterior and superior (RAS);
            None for the whole image.
        unlike_training: continue although the input is too far from the training cases.
        include_image: also write the image into the case folder.
        structures: to be measured and reviewed, as `models.input_spec.asked_labels` takes them; none for what the model
            proposes.

    Raises:
        UsageError: the region is not six numbers with positive edges.
    """

    head: str | None = None
    engine: str = AUTO
    device: str = AUTO
    roi: SixNumbers | None = None
    unlike_training: bool = False
    include_image: bool = False
    structures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what no front end checks by itself."""
        roi = self.roi
        if roi is not None:
            are_numbers = len(roi) == 6 and all(isinstance(each, Real) and abs(each) <= FARTHEST_MM for each in roi)
            if not are_numbers or min(roi[3:]) <= 0:
                raise _no_region(",".join(map(str, roi)))


DEFAULTS = RunSettings()


def parse_roi(text: str) -> SixNumbers:
    """Read "R,A,S,dR,dA,dS", a region of interest on the command line.

    Raises:
        UsageError: as `RunSettings`.
    """
    try:
        r, a, s, dr, da, ds = (float(part) for part in text.split(","))
        RunSettings(roi=(r, a, s, dr, da, ds))
    except (ValueError, UsageError) as error:
        raise _no_region(text) from error  # with what was typed
    return r, a, s, dr, da, ds


def _no_region(text: str) -> UsageError:
    form = f"R,A,S,dR,dA,dS, centre and edge lengths in mm, up to {FARTHEST_MM:g}"
    return UsageError(f"'{text[:80]}' is not a region of interest: give {form}.", "wrong-usage")
