"""Where a model's calibration is probably lost, by limits that were fitted on altered calibration cases.

Before the run: a part of the image is blank, as after skull stripping. After the run: structures reach the edge of the
image, or the model expects more of its segmentation to be wrong than on harmlessly altered images
(`SegWithULab/calibration/altered_cases.py`). Models without the block `harm` are not checked so.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..models.bundle import Bundle
from ..util.plane_files import plane_pieces
from .deviation import WARNING, Deviation
from .image_features import ImageFeatures
from .structures import StructureMetrics
from .uncertainty_maps import VoxelMaps

HARM = "harm"
"""Block of an OOD reference: `blank` by channel, `edge` and `expected_wrong`."""
_ADVICE = "more may be wrong than the model says; check the result with care"


def blank_deviations(features: ImageFeatures, bundle: Bundle, channel: str) -> list[Deviation]:
    """Warn of an image of which more is blank than of any calibration case.

    Args:
        features: of the part to be segmented.
    """
    most = _limits(bundle).get("blank", {}).get(channel)
    if most is None or features.blank <= most:
        return []
    share = f"{features.blank:.1%} of the {channel} image is blank, as after skull stripping or beyond a cut"
    return [Deviation(WARNING, f"{share} (calibration cases: at most {most:.1%}): {_ADVICE}.", "calibration")]


def segmented_at_edge(maps: VoxelMaps) -> float:
    """Return the share of the segmented voxels that lie in the outermost planes of the image."""
    inside = segmented = 0
    last = maps.classes.shape[0] - 1
    for planes in plane_pieces(maps.classes.shape):
        found = np.asarray(maps.classes[planes]) > 0
        segmented += int(found.sum())
        first = planes.start or 0
        within = found[max(0, 1 - first) : max(0, last - first), 1:-1, 1:-1]
        inside += int(within.sum())
    return (segmented - inside) / max(1, segmented)


def expected_wrong_share(structures: Sequence[StructureMetrics]) -> float | None:
    """Return the expected wrong volume as a share of the segmented one; None without error probability.

    Args:
        structures: metrics, background first.
    """
    wrong = [each.expected_wrong_mm3 for each in structures]
    known = [each for each in wrong if each is not None]
    segmented = sum(each.volume_mm3 for each in structures[1:])
    return sum(known) / segmented if len(known) == len(wrong) and segmented > 0 else None


def result_deviations(maps: VoxelMaps, structures: Sequence[StructureMetrics], bundle: Bundle) -> list[Deviation]:
    """Warn after the run of a result at the edge of the image, and of one of which the model is unusually unsure.

    A model that was calibrated at a site says rightly how much is wrong there: its expected errors are not compared.
    """
    limits, found = _limits(bundle), list[str]()
    if not limits:
        return []
    edge, wrong = segmented_at_edge(maps), expected_wrong_share(structures)
    if edge > limits["edge"]:
        share, most = (f"{100 * each:.2g} %" for each in (edge, limits["edge"]))  # one voxel of thousands is not 0 %
        text = f"After the run: {share} of the segmented voxels lie at the edge of the image or region of interest"
        found.append(f"{text} (calibration cases: at most {most}): a part may be missing, and {_ADVICE}.")
    if wrong is not None and wrong > limits["expected_wrong"] and not (bundle.calibration or {}).get("site"):
        text = f"After the run: the model expects errors of {wrong:.1%} of the segmented volume"
        found.append(f"{text} (harmlessly altered images: up to {limits['expected_wrong']:.1%}): {_ADVICE}.")
    return [Deviation(WARNING, text, "calibration") for text in found]


def _limits(bundle: Bundle) -> dict[str, Any]:
    return dict((bundle.ood_reference or {}).get(HARM) or {})
