"""By which version a calibration was fitted, and whether that version looked where references lie.

Version 0.4.0 and before took references voxel by voxel, so one that was stored in another order than its image, or at
another place, made error probabilities wrong without a word. What is fitted since says so in `fitted_by`.
"""

from collections.abc import Mapping
from typing import Any

from ..version import __version__
from .bundle import Bundle, block_sha256

FITTED_BY = "fitted_by"
_RIGHT = frozenset(
    {
        "9e4370d9f4a8779c6ce185b9f563f8b0cc9106950186936d7b35709231abe4ae",  # hippocampus 1.1.0, in 0.4.0
        "226fa7bec32b3011204d2c19c95faafd18be9e8cf7e40ad8ff5f495915ff4645",  # their head "paper"
    }
)
"""Hashes of earlier calibrations that are right: the references of all 217 hippocampi have exactly the size, spacing,
origin and direction of their images."""


def is_by_place(calibration: Mapping[str, Any]) -> bool:
    """Whether every part of a calibration was fitted with references where their headers put them."""
    return FITTED_BY in calibration or block_sha256(calibration) in _RIGHT


def with_origin(
    calibration: Mapping[str, Any], before: Mapping[str, Any] | None = None, whole: bool = False
) -> dict[str, Any]:
    """Note in a calibration that this version changed it last, with references where their headers put them.

    Args:
        before: what parts of it may still come from.
        whole: whether none does.

    Returns:
        The calibration; without the note if parts may have been fitted with references elsewhere.
    """
    found = {name: value for name, value in calibration.items() if name != FITTED_BY}
    known = whole or (before is not None and is_by_place(before))
    return {**found, **({FITTED_BY: {"segwithu": __version__}} if known else {})}


def fitted_by_words(calibration: Mapping[str, Any]) -> str:
    """Say which version fitted a calibration, to end a list; empty where that is not recorded."""
    return f", by segwithu {calibration[FITTED_BY]['segwithu']}" if FITTED_BY in calibration else ""


def calibration_doubts(bundle: Bundle) -> list[str]:
    """Say which heads of a model should be calibrated again, a sentence each."""
    blocks = {head.name: head.calibration for head in bundle.heads} | {bundle.default_head.name: bundle.calibration}
    return [
        f"{bundle.name} {bundle.about['version']}, head {name}: calibrated by segwithu 0.4.0 or before, which took "
        "references voxel by voxel. If any was stored in another order or at another place than its image, the error "
        "probabilities are wrong: calibrate again (segwithu calibrate), or compare with segwithu check-calibration "
        "[calibrate-again]."
        for name, block in blocks.items()
        if block is not None and not is_by_place(block)
    ]
