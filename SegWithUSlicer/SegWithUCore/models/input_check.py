"""Which parts of the input check a model can do: those that its fingerprint knows the training cases for."""

from .bundle import Bundle

QUALITY = "quality"
"""Block of a fingerprint: shading, sharpness and brightness of the training cases, by channel."""
PARTS = {
    "channels": ("picture", "noise", "contrast", "grey values"),
    QUALITY: ("shading", "sharpness", "brightness"),
}
"""Parts of the input check by the block that they need; size and voxels are known to all models with a fingerprint."""


def checks_lacking(bundle: Bundle) -> list[str]:
    """Name the parts of the input check that a model cannot do."""
    if bundle.fingerprint is None:
        return ["size", "voxels", *(part for parts in PARTS.values() for part in parts)]
    lacking: list[str] = []
    for block, parts in PARTS.items():
        known = bundle.fingerprint.get(block) or {}
        if any(known.get(channel) is None for channel in bundle.input.channels):
            lacking += parts
    return lacking


def input_check_words(bundle: Bundle) -> str:
    """Say what an image is compared with, and what is missing."""
    if bundle.fingerprint is None:
        return "none: nothing is known of the training cases"
    lacking = checks_lacking(bundle)
    every = ["size", "voxels", *(part for parts in PARTS.values() for part in parts)]
    done = f"compares {_listed([part for part in every if part not in lacking])}"
    cases = f"{done} with {bundle.fingerprint['cases']} training cases"
    return f"{cases}; lacks {_listed(lacking)}" if lacking else cases


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
