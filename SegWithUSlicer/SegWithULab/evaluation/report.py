"""The report of an evaluation: its folder (JSON, CSV, Markdown, plots, worst cases) and one HTML page.

The page loads nothing from elsewhere and prints on A4.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from SegWithUCore.models.bundle import Bundle
from SegWithUCore.report.render import render
from SegWithUCore.util.csv_files import table_of, write_csv

from .evaluate import CaseEvaluation, Evaluation
from .pictures import WorstCase, draw_worst
from .plots import draw_plots
from .report_tables import Table, markdown, number, report_tables

PAGE_FILE = "report.html"


def evaluation_page(
    name: str,
    about: str,
    result: Mapping[str, Any],
    tables: Sequence[Table],
    plots: Mapping[str, Path],
    pictures: Mapping[str, Sequence[tuple[str, Path]]],
) -> str:
    """Build the whole page.

    Args:
        name: of the model.
        about: sentences on model and cases.
        plots: files by the words under them.
        pictures: of the worst cases by kind: words and files.
    """
    return tables_page(
        f"{name}: evaluation",
        [_lead(result), about],
        tables,
        before={"Curves": list(plots.items())},
        after=pictures,
    )


def tables_page(
    title: str,
    lead: Sequence[str],
    tables: Sequence[Table],
    before: Mapping[str, Sequence[tuple[str, Path]]],
    after: Mapping[str, Sequence[tuple[str, Path]]] = MappingProxyType({}),
    alerts: Sequence[str] = (),
) -> str:
    """Render one HTML page of tables; cells between double stars, as in Markdown, are bold.

    Args:
        lead: paragraphs below the title.
        before: pictures above the tables, words and files by heading.
        after: those below.
        alerts: warnings that stand above all else.
    """
    return render(
        "evaluation.html",
        title=title,
        heading=title,
        alerts=alerts,
        lead=[text for text in lead if text],
        tables_shown=tables,
        before=list(before.items()),
        after=list(after.items()),
    )


def cases_in_words(result: Mapping[str, Any]) -> str:
    """Say how many cases of how many patients."""
    cases, patients = result["cases"], result["patients"]
    words = "1 case" if cases == 1 else f"{cases} cases"
    return words if cases == patients else f"{words} of {patients} patients"


def write_report(folder: Path, result: Mapping[str, Any], evaluation: Evaluation, bundle: Bundle, source: str) -> None:
    """Write `figures.json`, `figures.csv`, `figures.md`, `plots/`, `worst/` and `report.html`.

    Args:
        folder: that exists and is empty; the caller makes it appear whole or not at all.
        result: from `summary.summary`.
        source: where the cases come from, in the user's words.

    There are no plots and pictures where matplotlib is not installed, as in Slicer.
    """
    (folder / "figures.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_csv(folder / "figures.csv", evaluation.cases)
    tables = report_tables(result)
    about = _about(bundle, evaluation, source)
    head = f"# {bundle.name} {bundle.about['version']}: evaluation\n{cases_in_words(result)}. {about}\n\n"
    (folder / "figures.md").write_text(head + markdown(tables), encoding="utf-8")
    drawable = importlib.util.find_spec("matplotlib") is not None
    plots = draw_plots(evaluation, result, folder / "plots") if drawable else {}
    pictures = {
        "Worst cases by Dice": evaluation.worst.by_dice,
        "Most error unseen at low error probability": evaluation.worst.by_unseen,
    }
    drawn = {kind: _draw(cases, bundle, folder / "worst", kind) for kind, cases in pictures.items() if drawable}
    page = evaluation_page(f"{bundle.name} {bundle.about['version']}", about, result, tables, plots, drawn)
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")


def _lead(result: Mapping[str, Any]) -> str:
    rows = {row["title"]: row for row in result["table"]}
    dice = [f"{title[5:]} {number(row['mean'])}" for title, row in rows.items() if title.startswith("dice ")]
    said = [f"{cases_in_words(result)}. Mean Dice: {', '.join(dice)}."]
    score = "error probability" if "auroc whole error probability" in rows else "ranking"
    whole, band = (rows.get(f"auroc {region} {score}") for region in ("whole", "band"))
    if whole and band and whole["mean"] is not None and band["mean"] is not None:
        said.append(
            f"The {score} finds wrong voxels with an AUROC of {number(whole['mean'])} in the whole image and "
            f"{number(band['mean'])} within {result['band']} of the predicted surface."
        )
    return " ".join(said)


def _about(bundle: Bundle, evaluation: Evaluation, source: str) -> str:
    calibrated = "" if bundle.calibration is None else f", calibration {str(bundle.calibration_sha256)[:12]}"
    mirrored = " Left and right of all cases were exchanged first." if evaluation.settings.mirrored else ""
    return (
        f"Cases: {source}. Weights {bundle.weights_sha256[:12]}{calibrated}. Means are over cases; intervals hold 95 % "
        f"of bootstrap draws of patients.{mirrored}"
    )


def _draw(cases: list[WorstCase], bundle: Bundle, folder: Path, kind: str) -> list[tuple[str, Path]]:
    folder.mkdir(exist_ok=True)
    drawn = []
    for rank, worst in enumerate(cases, 1):
        path = folder / f"{'dice' if 'Dice' in kind else 'unseen'}_{rank}_{worst.name}.png"
        draw_worst(worst, bundle.labels, path)
        drawn.append((f"{worst.name}: {worst.why}", path))
    return drawn


def _write_csv(path: Path, cases: list[CaseEvaluation]) -> None:
    write_csv(path, *table_of([_csv_row(case) for case in cases]))


def _csv_row(case: CaseEvaluation) -> dict[str, str]:
    metrics: dict[str, float] = {"mean dice": 1 - case.risk, **case.metrics}
    for structure in case.structures:
        metrics |= {
            f"{what} {structure.name}": getattr(structure, what)
            for what in ("predicted_dice", "true_mm3", "expected_mm3", "low_mm3", "high_mm3")
        }
    metrics |= {f"confidence {name}": value for name, value in case.confidences.items()}
    metrics |= {" ".join(key): value for key, value in case.detection.items()}
    written = {title: f"{value:.8g}" if value == value else "" for title, value in metrics.items()}
    return {"case": case.name, "patient": case.group, **written}
