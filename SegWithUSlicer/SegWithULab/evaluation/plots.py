"""Plots of an evaluation; matplotlib is part of the desktop extra."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.metrics.error_detection import ScoreGroups

from .case_metrics import OUR_SCORE
from .evaluate import Evaluation

COLORS = {OUR_SCORE: "#d55e00", "ranking": "#0072b2", "softmax": "#009e73", "distance": "#8a8a8a"}
DASHES = {OUR_SCORE: "-", "ranking": "--", "softmax": "-.", "distance": ":"}
MOST_POINTS = 2000
FEWEST_VOXELS = 100
"""Of a bin whose observed frequency is drawn."""


def draw_plots(evaluation: Evaluation, result: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Draw what there is data for.

    Returns:
        Files by the words under them, in order.
    """
    folder.mkdir()
    plots: dict[str, tuple[str, Callable[[Any], None]]] = {
        "risk_coverage.png": (
            "Risk-coverage: error rate among the safest voxels, all cases pooled. Lower is better.",
            lambda figure: _risk_coverage(figure, evaluation, result),
        ),
        "review_budget.png": (
            "Review budget: share of all wrong voxels found by looking at the riskiest ones, all cases pooled.",
            lambda figure: _review_budget(figure, evaluation),
        ),
    }
    if evaluation.pools.reliability:
        plots["reliability.png"] = (
            "Reliability: of the voxels that read an error probability, how many are wrong (bins of at least "
            f"{FEWEST_VOXELS}); below, how many there are.",
            lambda figure: _reliability(figure, result),
        )
    if any("predicted_dice" in row or "volume_interval" in row for row in result["structures"]):
        plots["predicted_dice.png"] = (
            "Whole cases: predicted against true Dice, and expected volume with its interval against the true volume.",
            lambda figure: _structures(figure, evaluation),
        )
    return {words: _draw(draw, folder / name) for name, (words, draw) in plots.items()}


def _draw(draw: Callable[[Any], None], path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9.4, 4.1), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)
    return path


def _curve(groups: ScoreGroups) -> tuple[np.ndarray, np.ndarray]:
    """Cumulated voxels and errors from the safest on, thinned."""
    voxels, errors = np.cumsum(groups.voxels), np.cumsum(groups.wrong)
    ends = np.linspace(0, voxels[-1], MOST_POINTS)
    kept = np.unique(np.concatenate([np.searchsorted(voxels, ends), [voxels.size - 1]]))
    return voxels[kept].astype(float), errors[kept].astype(float)


def _aurc_words(result: Mapping[str, Any], region: str, score: str) -> str:
    for row in result["detection"]:
        if (row["figure"], row["region"], row["score"]) == ("aurc", region, score):
            return f"{score}: AURC {row['mean'] * 1000:.3g} x 10⁻³"
    return score


def _risk_coverage(figure: Any, evaluation: Evaluation, result: Mapping[str, Any]) -> None:
    axes = figure.subplots(1, 2)
    for axis, region, first in zip(axes, ("whole", "band"), (0.8, 0.0), strict=True):
        for name in _scores(evaluation):
            groups = evaluation.pools.scores[name, region].groups()
            if not groups.total:
                continue
            voxels, errors = _curve(groups)
            axis.plot(
                voxels / voxels[-1],
                errors / voxels * 100,
                color=COLORS[name],
                ls=DASHES[name],
                label=_aurc_words(result, region, name),
            )
        axis.set(title=region, xlabel="coverage: share of voxels, safest first", xlim=(first, 1))
        axis.set_ylabel("wrong among them, %")
        axis.set_ylim(bottom=0)
        _finish(axis, "upper left")


def _review_budget(figure: Any, evaluation: Evaluation) -> None:
    axes = figure.subplots(1, 2)
    for axis, region, most in zip(axes, ("whole", "band"), (8.0, 40.0), strict=True):
        for name in _scores(evaluation):
            groups = evaluation.pools.scores[name, region].groups()
            if not groups.errors:
                continue
            riskiest = ScoreGroups(groups.voxels[::-1], groups.wrong[::-1])
            voxels, found = (np.concatenate([[0.0], part]) for part in _steep_curve(riskiest))
            axis.plot(voxels * 100, found * 100, color=COLORS[name], ls=DASHES[name], label=name)
            rate = groups.errors / groups.total * 100
            best = [0, rate, 100]
        if groups.errors:
            axis.plot(best, [0, 100, 100], color="black", lw=0.8, label="best possible")
        axis.set(title=region, xlabel="looked at, % of voxels, riskiest first", xlim=(0, most), ylim=(0, 102))
        axis.set_ylabel("wrong voxels found, %")
        _finish(axis, "lower right")


def _steep_curve(riskiest: ScoreGroups) -> tuple[np.ndarray, np.ndarray]:
    """Shares of voxels and of errors, thinned evenly in errors."""
    voxels, errors = np.cumsum(riskiest.voxels), np.cumsum(riskiest.wrong)
    kept = np.unique(np.searchsorted(errors, np.linspace(0, errors[-1], MOST_POINTS)))
    return voxels[kept] / voxels[-1], errors[kept] / errors[-1]


def _reliability(figure: Any, result: Mapping[str, Any]) -> None:
    axes = figure.subplots(2, 2, height_ratios=[3, 1], sharex=True)
    for column, region in enumerate(("whole", "band")):
        bars = result["reliability"].get(region, [])
        curve, counts = axes[0][column], axes[1][column]
        curve.plot([0, 1], [0, 1], color="black", lw=0.8, label="ideal")
        filled = [bar for bar in bars if bar["voxels"] >= FEWEST_VOXELS]
        curve.plot(
            [bar["predicted"] for bar in filled],
            [bar["observed"] for bar in filled],
            "o-",
            color=COLORS[OUR_SCORE],
            ms=4,
            label="error probability",
        )
        curve.set(title=region, xlim=(0, 1), ylim=(0, 1))
        curve.set_ylabel("share that is wrong")
        centres = [(bar["low"] + bar["high"]) / 2 for bar in bars]
        counts.bar(centres, [bar["voxels"] for bar in bars], width=0.045, color=COLORS[OUR_SCORE])
        counts.set(yscale="log", xlabel="error probability", ylabel="voxels")
        _finish(curve, "upper left")


def _structures(figure: Any, evaluation: Evaluation) -> None:
    dice_axis, volume_axis = figure.subplots(1, 2)
    structures = [entry.name for entry in evaluation.cases[0].structures]
    palette = list(COLORS.values())
    for index, name in enumerate(structures):
        entries = [case.structures[index] for case in evaluation.cases]
        color, marker = palette[index % len(palette)], "os^Dv"[index % 5]
        dice_axis.plot(
            [e.predicted_dice for e in entries], [e.dice for e in entries], marker, color=color, ms=4, label=name
        )
        held = [e for e in entries if np.isfinite(e.expected_mm3)]
        sides = [[e.expected_mm3 - e.low_mm3 for e in held], [e.high_mm3 - e.expected_mm3 for e in held]]
        volume_axis.errorbar(
            [e.true_mm3 for e in held],
            [e.expected_mm3 for e in held],
            yerr=sides,
            fmt=marker,
            color=color,
            ms=3.5,
            elinewidth=0.8,
            label=name,
        )
    for axis, what in ((dice_axis, "Dice"), (volume_axis, "volume, mm³")):
        values = [value for line in axis.lines for value in (*line.get_xdata(), *line.get_ydata())]
        finite = [value for value in np.asarray(values, float).tolist() if np.isfinite(value)]
        if finite:
            axis.plot([min(finite), max(finite)], [min(finite), max(finite)], color="black", lw=0.8)
        axis.set_title(what)
        _finish(axis, "upper left")
    dice_axis.set(xlabel="predicted Dice", ylabel="true Dice")
    volume_axis.set(xlabel="true volume, mm³", ylabel="expected volume with interval, mm³")


def _scores(evaluation: Evaluation) -> list[str]:
    present = {name for name, _ in evaluation.pools.scores}
    return [name for name in COLORS if name in present]


def _finish(axis: Any, place: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc=place, frameon=False)
