"""Draw the curves of all finished trainings from their committed logs, one panel for each organ and part.

    python Testing/Benchmarks/hearts/training_curves.py

Reads `NAME_log.csv` in `Testing/Benchmarks/results/trainings`, writes `curves.png` beside them. nnU-Net's log has times
only; it draws its own curves (`progress.png` in the folder of its results).
"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

LOGS = Path(__file__).resolve().parents[1] / "results" / "trainings"
Log = dict[str, list[float]]
HEAD = "select_nll"


def main() -> int:
    """Draw what there are logs of."""
    logs = {path.name.removesuffix("_log.csv"): read(path) for path in sorted(LOGS.glob("*_log.csv"))}
    figure, panels = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for column, organ in enumerate(("hearts", "hippocampus")):
        own = {name: log for name, log in logs.items() if name.startswith("hippocampus") == (organ == "hippocampus")}
        draw(panels[0][column], own, "select_dice", f"{organ}: mean Dice on validation cases")
        draw(panels[1][column], own, HEAD, f"{organ}, heads: NLL on validation cases")
    figure.savefig(LOGS / "curves.png", dpi=80)
    return 0


def read(path: Path) -> Log:
    """Columns of a log; values that were not measured in an epoch are NaN."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}


def draw(panel: Axes, logs: dict[str, Log], figure: str, title: str) -> None:
    """One line for each training that measured the figure, in epochs in which it did."""
    for name, log in logs.items():
        if figure in log:
            points = [(epoch, value) for epoch, value in zip(log["epoch"], log[figure], strict=True) if value == value]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1)
    panel.set(title=title, xlabel="epoch")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
