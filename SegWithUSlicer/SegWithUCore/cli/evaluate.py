"""`segwithu evaluate`: how well a model works on cases with references."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import Console, table

if TYPE_CHECKING:
    from ..inference.segment import Model
    from ..training.cases import Case


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `evaluate`."""
    command = commands.add_parser(
        "evaluate",
        parents=[common],
        help="measure a model on cases with references",
        description="Segment the cases as `segment` does and compare with their references: Dice, error detection, "
        "calibration, each as mean and spread over cases.",
    )
    command.add_argument("--model", required=True, help="name of an installed model, or a bundle's folder")
    command.add_argument("--cases", required=True, help="TABLE.csv:ROLE or an nnU-Net folder")
    command.add_argument("--output", type=Path, help="JSON file that receives all figures, also those of each case")
    command.add_argument("--mirrored", action="store_true", help="exchange left and right of all cases first")
    command.add_argument(
        "--record", action="store_true", help="write the figures into the model's bundle and model card"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Evaluate a model."""
    import torch

    from ..evaluation.figures import case_figures, summary
    from ..inference.segment import Model
    from ..models.registry import resolve_model
    from ..training.cases import find_cases

    if options.record and options.mirrored:
        raise UsageError(
            "--record and --mirrored do not go together: a bundle records the figures of images as they are."
        )
    bundle = resolve_model(options.model)
    cases = find_cases(options.cases)
    model = Model(bundle, torch.device("cpu"))
    rows, bands = [], []
    with console.progress("evaluate") as progress:
        for number, case in enumerate(cases):
            progress("evaluating", number / len(cases), case.name)
            prediction, truth, spacing = _predicted(case, model, options.mirrored)
            figures, band = case_figures(prediction, truth, spacing, bundle)
            rows.append(figures)
            bands += [band] if band is not None else []
    result = summary([case.name for case in cases], rows, bands)
    console.result(_text(result), result)
    if options.output:
        _write_json(options.output, result)
    if options.record:
        _record(model, result)
    return 0


def _predicted(case: "Case", model: "Model", mirrored: bool) -> Any:
    from ..inference.prediction import predict
    from ..inference.preprocessing import assessed_box, mirrored_copy
    from ..inference.volume import read_image, read_labels
    from ..training.cases import class_indices

    images = [read_image(path) for path in case.channels]
    labels = read_labels(case.reference)
    if mirrored:
        images, labels = [mirrored_copy(image) for image in images], mirrored_copy(labels)
    values = [label.value for label in model.bundle.labels]
    box = assessed_box(images, model.bundle.input)
    truth = class_indices(box.crop(labels), values, case.reference)
    return predict([box.crop(image) for image in images], model), truth, images[0].GetSpacing()[::-1]


def _text(result: dict[str, Any]) -> str:
    rows = [
        [
            row["title"],
            *([f"{row[key]:.5g}" for key in ("mean", "p10", "p90")] if row["cases"] else [""] * 3),
            str(row["cases"]),
        ]
        for row in result["table"]
    ]
    lines = [table(["figure", "mean", "10 %", "90 %", "cases"], rows), ""]
    for title, value in result["comparisons"].items():
        text = f"{value:.5g}" if isinstance(value, float) else "{mean:.5g} ({low:.5g} to {high:.5g})".format(**value)
        lines.append(f"{title}: {text}")
    return "\n".join(lines)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    from ..whole_files import whole_file

    with whole_file(path) as work:
        work.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _record(model: "Model", result: dict[str, Any]) -> None:
    from dataclasses import replace

    from ..models.bundle import CARD_FILE, weights_path, write_bundle_json
    from ..models.model_card import model_card
    from ..whole_files import whole_file

    folder = weights_path(model.bundle).parent
    written = write_bundle_json(replace(model.bundle, figures=result), folder)
    with whole_file(folder / CARD_FILE) as work:
        work.write_text(model_card(written), encoding="utf-8")
