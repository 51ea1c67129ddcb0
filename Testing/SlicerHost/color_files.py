"""The colour table files of Slicer's share folder, which the wheel lacks; made from matplotlib at run time."""

from __future__ import annotations

from pathlib import Path

TABLES = ("Inferno", "Viridis", "Magma", "Plasma", "Cividis")
_GENERIC = ((128, 174, 128), (241, 214, 145), (177, 122, 101), (111, 184, 210))


def _write(path: Path, rows: list[tuple[str, tuple[int, int, int]]]) -> None:
    lines = [f"{index} {name} {r} {g} {b} 255" for index, (name, (r, g, b)) in enumerate(rows)]
    path.write_text("# written for tests\n" + "\n".join(lines) + "\n", encoding="ascii")


def write_color_files(home: Path) -> None:
    """Fill <home>/share/Slicer/ColorFiles, from which nodes get the application's ids."""
    import matplotlib

    folder = home / "share" / "Slicer" / "ColorFiles"
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        colors = [matplotlib.colormaps[table.lower()](step / 255.0)[:3] for step in range(256)]
        rows = [(str(step), tuple(round(255 * part) for part in color)) for step, color in enumerate(colors)]
        _write(folder / f"{table}.txt", rows)  # type: ignore[arg-type]
    for name in ("GenericColors", "DarkBrightChartColors"):
        _write(folder / f"{name}.txt", [("background", (0, 0, 0)), *[(f"c{i}", c) for i, c in enumerate(_GENERIC)]])
