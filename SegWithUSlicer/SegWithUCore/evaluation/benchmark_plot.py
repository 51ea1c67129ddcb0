"""The rivals' table as one picture; matplotlib is part of the desktop extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PANELS = {
    "auprc whole": ("AUPRC, whole", 1.0, "more is better"),
    "aurc whole": ("AURC x 1000, whole", 1000.0, "less is better"),
    "aurc band": ("AURC x 1000, band", 1000.0, "less is better"),
    "nll": ("NLL", 1.0, "less is better"),
}
ONE_PASS, SEVERAL, OURS = "#0072b2", "#8a8a8a", "#d55e00"
WORDS = (
    "Means over cases with 95 % bootstrap intervals over patients. Orange: heads of SegWithU; blue: other rivals of "
    "one pass; grey: several passes. The dashed line is the row that the others are compared with."
)


def draw_rivals(result: Mapping[str, Any], path: Path) -> None:
    """A row for each row of the table, a panel for each headline.

    Args:
        result: from `benchmark_summary.benchmark_summary`.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    rows = result["rows"]
    size = (13.0, 0.9 + 0.3 * len(rows))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=size, layout="constrained", sharey=True)
    for axis, (title, (words, factor, better)) in zip(axes, PANELS.items(), strict=True):
        for place, row in enumerate(rows):
            entry = row["figures"].get(title, {})
            if entry.get("mean") is not None:
                _draw_interval(axis, place, entry, factor, _color(row))
                if row["row"] == result["reference"]:
                    axis.axvline(entry["mean"] * factor, color="black", lw=0.8, ls="--", zorder=0)
        axis.set_title(f"{words}\n{better}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#dddddd", lw=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        if title.startswith("aurc"):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
    axes[0].set_yticks(range(len(rows)), [row["row"] for row in rows], fontsize=8)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)


def _draw_interval(axis: Any, place: int, entry: Mapping[str, Any], factor: float, color: str) -> None:
    mean = entry["mean"] * factor
    low, high = (entry.get(key) for key in ("low", "high"))
    sides = None if low is None or high is None else [[mean - low * factor], [high * factor - mean]]
    axis.errorbar([mean], [place], xerr=sides, fmt="o", color=color, ms=4.5, elinewidth=1.4)


def _color(row: Mapping[str, Any]) -> str:
    if row["rival"].startswith("head-"):
        return OURS
    return ONE_PASS if row["passes"] == 1 else SEVERAL
