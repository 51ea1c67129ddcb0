"""`MODEL_CARD.md` and the licence notice, written from what `bundle.json` says."""

from collections.abc import Mapping
from typing import Any

from .bundle import Bundle

LICENCE_PAGES = {
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
}


def licence_notice(about: Mapping[str, str]) -> str:
    """Who may do what with the weights, and what they were made from."""
    licence = about["licence_weights"]
    page = LICENCE_PAGES.get(licence, "")
    return (
        f"The weights of the model '{about['name']}' are licensed under {licence}. {page}\n\n"
        f"They were derived by training on: {about.get('data', 'see the citation')} ({about['licence_data']}).\n"
        f"{about['citation']}\n\nChanges: a neural network was trained on the images; no image is contained.\n"
    )


def model_card(bundle: Bundle) -> str:
    """The card: what the model is for, how it was made, how well it works, how to read its maps."""
    about, calibration = bundle.about, bundle.calibration
    fitted = "not calibrated: there is no error probability"
    if calibration is not None:
        fitted = f"error probability fitted on {calibration['cases']} calibration cases"
    parts = [
        f"# {about['name']} {about['version']}",
        about["task"] + " **For research, not for clinical use.**",
        "## What it expects",
        _expectations(bundle),
        "## How it was made",
        f"Backbone: {bundle.backbone.kind}, `{dict(bundle.backbone.arguments)}`, trained on {about.get('data', '')}. "
        f"Uncertainty head: {', '.join(head.name for head in bundle.heads)} (SegWithU, arXiv 2604.15271), trained on "
        f"the frozen backbone. Calibration: {fitted}. The settings are in the recipe of the same name under "
        '`Resources/Recipes`; the commands are in the README under "Train your own".',
        "## How well it works",
        _figures(bundle.figures),
        "## How to read the maps",
        "*Error probability*: of 100 voxels that read 0.25, about 25 are wrong. *Ranking map*: orders voxels by risk, "
        "no unit. *Calibration map*: how much the probabilities were softened. A low value never means that a voxel is "
        "correct, and no map speaks about images unlike those of training.",
        "## Licence and citation",
        f"Weights: {about['licence_weights']}. Training data: {about['licence_data']}. {about['citation']}",
    ]
    return "\n\n".join(parts) + "\n"


def _expectations(bundle: Bundle) -> str:
    spec, fingerprint = bundle.input, bundle.fingerprint
    text = f"{', '.join(spec.channels)} ({spec.modality})."
    if fingerprint is not None:
        span = fingerprint["field_of_view_mm"]
        sides = zip(span["low"], span["high"], strict=True)
        text += (
            f" The {fingerprint['cases']} training cases span {' x '.join(f'{a:g}-{b:g}' for a, b in sides)} mm "
            f"along {', '.join(spec.orientation)}: give a region of interest of about that size."
        )
    return text


def _figures(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "Not measured yet: run `segwithu evaluate --record`."
    rows = ["| figure | mean | spread over cases (10 % to 90 %) |", "|---|---|---|"]
    for entry in figures["table"]:
        spread = f"{entry['p10']:.4g} to {entry['p90']:.4g}" if "p10" in entry else ""
        rows.append(f"| {entry['title']} | {entry['mean']:.4g} | {spread} |")
    return f"Measured once on {figures['cases']} test cases; means over cases.\n\n" + "\n".join(rows)
