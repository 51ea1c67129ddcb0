"""Plots of an evaluation; matplotlib is part of the desktop extra."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .case_metrics import OUR_SCORE

if TYPE_CHECKING:
    from .evaluate import Evaluation

COLOR = "#d55e00"
FEWEST_VOXELS = 100
"""Of a bin whose observed frequency is drawn."""


def draw_plots(evaluation: "Evaluation", result: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Draw what there is data for; returns files by the words under them, in order."""
    folder.mkdir()
    plots: dict[str, tuple[str, Callable[[Any], None]]] = {}
    if result["reliability"]:
        words = "Reliability: of the voxels with an error probability, how many are wrong; below, how many there are."
        plots[words] = ("reliability.png", lambda figure: _reliability(figure, result))
    if any("predicted_dice" in row or "volume_interval" in row for row in result["structures"]):
        words = "Predicted against true Dice, and expected volume with its interval against the true volume."
        plots[words] = ("predicted_dice.png", lambda figure: _structures(figure, evaluation))
    return {words: _draw(draw, folder / name) for words, (name, draw) in plots.items()}


def _draw(draw: Callable[[Any], None], path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9.4, 4.1), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)
    return path


def _reliability(figure: Any, result: Mapping[str, Any]) -> None:
    axes = figure.subplots(2, 2, height_ratios=[3, 1], sharex=True)
    for column, region in enumerate(("whole", "band")):
        bars = result["reliability"].get(region, [])
        filled = [bar for bar in bars if bar["voxels"] >= FEWEST_VOXELS]
        curve, counts = axes[0][column], axes[1][column]
        curve.plot([0, 1], [0, 1], color="black", lw=0.8, label="ideal")
        points = [bar["predicted"] for bar in filled], [bar["observed"] for bar in filled]
        curve.plot(*points, "o-", color=COLOR, ms=4, label=OUR_SCORE)
        curve.set(title=region, xlim=(0, 1), ylim=(0, 1), ylabel="share that is wrong")
        centres = [(bar["low"] + bar["high"]) / 2 for bar in bars]
        counts.bar(centres, [bar["voxels"] for bar in bars], width=0.045, color=COLOR)
        counts.set(yscale="log", xlabel="error probability", ylabel="voxels")
        _finish(curve)


def _structures(figure: Any, evaluation: "Evaluation") -> None:
    dice, volume = figure.subplots(1, 2)
    for index, first in enumerate(evaluation.cases[0].structures):
        entries = [case.structures[index] for case in evaluation.cases]
        style = {"marker": "os^Dv"[index % 5], "ls": "", "ms": 4, "label": first.name}
        dice.plot([each.predicted_dice for each in entries], [each.dice for each in entries], **style)
        held = [each for each in entries if np.isfinite(each.expected_mm3)]
        sides = [[e.expected_mm3 - e.low_mm3 for e in held], [e.high_mm3 - e.expected_mm3 for e in held]]
        points = [e.true_mm3 for e in held], [e.expected_mm3 for e in held]
        volume.errorbar(*points, yerr=sides, elinewidth=0.8, **style)
    dice.set(title="Dice", xlabel="predicted Dice", ylabel="true Dice")
    volume.set(title="volume, mm³", xlabel="true volume, mm³", ylabel="expected volume with interval, mm³")
    for axis in (dice, volume):
        axis.axline((0, 0), slope=1, color="black", lw=0.8)
        _finish(axis)


def _finish(axis: Any) -> None:
    axis.grid(color="#dddddd", lw=0.6)
    axis.tick_params(labelsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)
