"""The picture of the proof: share of what is wrong against reviewed volume, and against looks."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

OURS = "our regions"
COLOURS = ("#d95f02", "#7570b3", "#b3aed9", "#66a61e", "#b8d08a", "#999999", "#333333", "#1b9e77")


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture.

    Args:
        result: what `regions_proof.py` measured.
        path: of the PNG.
    """
    figure, (by_volume, by_looks) = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    ours = result["ours"]
    _lines(by_volume, result["questions"]["equal volume"], ours["mm3"], ours)
    _lines(by_looks, result["questions"]["equal looks"], result["looks"], ours)
    by_volume.set(title="Equal volume, any number of looks", xlabel="reviewed volume, mm³ (mean over cases)")
    by_volume.set_ylabel("share of the wrong voxels seen")
    extent = result["settings"]["extent_mm"]
    by_looks.set(title=f"Equal looks of {extent:.0f} mm, no more volume", xlabel="looks")
    by_looks.set_ylim(0, None)
    figure.legend(*by_volume.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _lines(axes: Any, question: dict[str, Any], x: list[float], ours: dict[str, Any]) -> None:
    for colour, (name, row) in zip(COLOURS, question["baselines"].items(), strict=True):
        style = "--" if name.startswith("single voxels") else ":" if name.startswith("our") else "-"
        axes.plot(x, row["share"], style, color=colour, label=name)
    axes.plot(x, ours["share"], "o-", color="#1b9e77", linewidth=2.5, label=OURS)
    axes.grid(alpha=0.3)
