"""Compare regions with other ways to review a case: how much of what is wrong each shows.

    python Testing/Benchmarks/regions_proof.py [--data ../shared/data/hippocampus/split.csv] [--cache DIR] [--choose]

Parameters of the baselines are chosen on *select*, the table from entropy to error probability is fitted on
*calibration*, figures are those of *test*. Writes `results/regions.json`, `.md` and `.png`. `--choose` also measures
other settings of the regions on *select* (minutes); otherwise that table is kept as it was.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
from baselines_review import (  # noqa: E402
    LOOKS,
    SHIPPED,
    Question,
    Seen,
    baselines,
    chosen,
    compared,
    our_regions,
    seen_by,
)
from region_cases import SHIPPED_MODEL, ScoredCase, entropy_table, remembered_cases  # noqa: E402
from region_facts import region_facts, settings_table  # noqa: E402
from regions_page import page  # noqa: E402
from regions_picture import draw  # noqa: E402
from review_orders import by_regions  # noqa: E402

from SegWithUCore.models.bundle import read_bundle  # noqa: E402

RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "regions.json"


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "hippocampus" / "split.csv")
    parser.add_argument("--cache", type=Path, help="folder outside the repository where predictions are kept")
    parser.add_argument("--choose", action="store_true", help="measure other settings of the regions too")
    options = parser.parse_args()
    with TemporaryDirectory() as passing:
        select, calibration, test = _cases(options.data, options.cache or Path(passing))
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    result = _measured(select, calibration, test)
    result["settings_on_select"] = settings_table(select) if options.choose else before.get("settings_on_select", [])
    RESULTS.write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="utf-8")
    text = page(_rounded(result))
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(result, RESULTS.with_suffix(".png"))
    print(text)
    return 0


def _cases(table: Path, cache: Path) -> list[list[ScoredCase]]:
    bundle = read_bundle(SHIPPED_MODEL)
    return [remembered_cases(bundle, f"{table}:{role}", cache) for role in ("select", "calibration", "test")]


def _measured(
    select: Sequence[ScoredCase], calibration: Sequence[ScoredCase], test: Sequence[ScoredCase]
) -> dict[str, Any]:
    on_select, ours = our_regions(select, SHIPPED), our_regions(test, SHIPPED)
    them = baselines(entropy_table(calibration))
    questions = {}
    for question in _questions(select):
        rows = {}
        for baseline in them:
            parameters = chosen(baseline, select, on_select, question)
            seen = seen_by(baseline, parameters, test, ours, question)
            print(f"{question.name}; {baseline.name}: {dict(parameters)}, {seen.share.mean():.3f}", file=sys.stderr)
            rows[baseline.name] = {"parameters": dict(parameters), **_row(seen, ours, test)}
        limits = {"equal_looks": question.equal_looks, "view_mm": question.view_mm}
        questions[question.name] = {**limits, "baselines": rows}
    return {
        "model": read_bundle(SHIPPED_MODEL).name,
        "cases": {"select": len(select), "calibration": len(calibration), "test": len(test)},
        "settings": asdict(SHIPPED),
        "looks": LOOKS.tolist(),
        "ours": _row(ours, None, test),
        "ours_on_select": _row(on_select, None, select),
        "questions": questions,
        "regions": region_facts(test),
        "by_case": {case.name: row.tolist() for case, row in zip(test, ours.share, strict=True)},
    }


def _questions(select: Sequence[ScoredCase]) -> list[Question]:
    """As the issue asks, then with looks that are looks: as large as our regions are meant to be, and as they are."""
    found = [by_regions(case, case.error_probability, SHIPPED)[1] for case in select]
    longest = max(float(np.linalg.norm(region.size_mm)) for regions in found for region in regions.regions)
    return [
        Question("equal volume", False, float("inf")),
        Question("equal looks", True, SHIPPED.extent_mm),
        Question("equal looks, larger views", True, longest),
    ]


def _row(seen: Seen, ours: Seen | None, cases: Sequence[ScoredCase]) -> dict[str, Any]:
    mm3 = seen.voxels * np.array([[case.voxel_mm3] for case in cases])
    means = {"share": seen.share.mean(0).tolist(), "looks": seen.looks.mean(0).tolist(), "mm3": mm3.mean(0).tolist()}
    if ours is None:
        return {**means, "mean_share": float(seen.share.mean())}
    each = [compared(ours.share[:, place], seen.share[:, place]) for place in range(len(LOOKS))]
    overall = compared(ours.share.mean(1), seen.share.mean(1))
    whole = {"mean_share": float(seen.share.mean()), "ours_better_by": each, "ours_better_by_mean": overall}
    return {**means, **whole}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value


if __name__ == "__main__":
    sys.exit(main())
