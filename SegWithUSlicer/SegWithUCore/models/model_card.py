"""`MODEL_CARD.md`, from `model_card.md.jinja`, and the licence notice: what `bundle.json` says, for readers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..calibration.change import SCANNED_TEXT
from ..calibration.held import names_level
from ..network.specs import HEAD_TEXT, HeadText
from .bundle import CARD_FILE, FITTED_BY, Bundle, write_bundle_json
from .quality import away_markdown, model_warnings, site_command, site_message, weaknesses
from .second_stage_file import CHECK, check_message
from .training_record import TrainingRecord, read_record

LICENCE_PAGES = {
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
}


def licence_notice(about: Mapping[str, str]) -> str:
    """Say who may do what with the weights, and what they were made from."""
    licence = about["licence_weights"]
    page = LICENCE_PAGES.get(licence, "")
    if "origin" in about:
        changes = f"The backbone was not trained here: {about['origin']}; its weights are unchanged."
    else:
        changes = "Changes: a neural network was trained on the images; no image is contained."
    return (
        f"The weights of the model '{about['name']}' are licensed under {licence}. {page}\n\n"
        f"They were derived by training on: {about.get('data', 'see the citation')} ({about['licence_data']}).\n"
        f"{about['citation']}\n\n{changes}\n"
    )


def model_card(bundle: Bundle) -> str:
    """Write the card: what the model is for, how it was made, how well it works, how to read its maps."""
    from jinja2 import Environment  # not in Slicer before the engine is installed

    calibration, metrics, record = bundle.calibration or {}, bundle.metrics or {}, read_record(bundle.folder)
    span, head = (bundle.ood_reference or {}).get("field_of_view_mm"), bundle.default_head
    by_title = {entry["title"]: entry for entry in metrics.get("table", ()) if entry["cases"]}
    numbers = [calibration.get(block) or {} for block in ("volume_interval", "predicted_dice")]
    structures = [(label.name, *(block.get(str(label.value)) for block in numbers)) for label in bundle.labels[1:]]
    structures += [(name, interval, None) for name, interval in (calibration.get("totals") or {}).items()]
    template = Path(__file__).with_name("model_card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(template).render(
        bundle=bundle,
        about={"notes": "", "origin": "", "data": "", "judged": "", **bundle.about},
        input=bundle.input,
        warnings=model_warnings(bundle),
        weaknesses=weaknesses(bundle),
        ood_reference=bundle.ood_reference,
        sides=list(zip(span["low"], span["high"], strict=True)) if span else [],
        arguments=dict(bundle.backbone.arguments),
        head=head,
        text=HEAD_TEXT.get(head.variant) or head.plugin or HeadText("of unknown origin"),
        further=[head.name for head in bundle.heads if not head.default],
        trained=all(head.trained for head in bundle.heads),
        calibration={"site": None, **calibration} if calibration else None,
        site=site_message(calibration),
        away=away_markdown(bundle.away),
        measured_away=bundle.away is not None,
        takes_heads=bundle.placement is not None and bundle.placement.is_whole,
        site_command=site_command(bundle.name),
        fitted_on=calibration_message(calibration) if calibration else "",
        check=check_message(calibration[CHECK]) if CHECK in calibration else "",
        record=record,
        metrics=metrics,
        apart="" if "judged" in bundle.about else f" {_apart(record)}",
        by_title=by_title,
        ratio=(metrics.get("comparisons") or {}).get("wrong voxels, expected / true"),
        structures=[row for row in structures if row[1] or row[2]],
        flags=calibration.get("flags"),
        names_level=names_level,
        scanned_text=SCANNED_TEXT,
    )


def write_description(bundle: Bundle, folder: Path, source: str | None = None) -> Bundle:
    """Write `bundle.json` and the card; returns the bundle as it is in `folder`, and raises as `write_bundle_json`."""
    written = write_bundle_json(bundle, folder, source)
    (folder / CARD_FILE).write_text(model_card(written), encoding="utf-8")
    return written


def calibration_message(calibration: Mapping[str, Any]) -> str:
    """Say on how many cases the error probability was fitted, whether it sees the image, and by which version."""
    stage, words = calibration.get("second_stage"), f"{calibration['cases']} calibration cases"
    more = calibration.get("second_stage_check", {}).get("out_of_fold", {})
    if stage is None:
        words += ", without the image"
    elif stage["cases"] == calibration["cases"] and not more.get("taken"):
        words += ", with the image (second stage)"
    else:
        words += f", and second stage, which sees the image, on {stage['cases']}"
        words += f" and {more['cases']} training cases that cross-validation models predicted" if more else ""
    return words + (f", by segwithu {calibration[FITTED_BY]['segwithu']}" if FITTED_BY in calibration else "")


def _apart(record: TrainingRecord | None) -> str:
    """Say whether the cases of the metrics were used for anything else, if that is known."""
    roles = {} if record is None else record.roles or {}
    if record is None or not {"train", "select", "calibration", "test"} <= set(roles):
        return "Whether they were used for anything else is not recorded."
    others = {sha256 for role, known in roles.items() if role != "test" for sha256 in known}
    both = sum(sha256 in others for sha256 in roles["test"])
    if both:
        return f"{both} of them were used for training, validation or calibration too: new cases will fare worse."
    return "None of them is a training, validation or calibration case (compared by their voxels)."
