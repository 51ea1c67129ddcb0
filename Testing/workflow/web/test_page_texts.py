"""Figures, texts and colours of the review page against those of Slicer's panel."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from exchanged_cases import CASES

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.regions.region import ORDERS, in_order
from SegWithUSlicerLib.scene.map_display import COLOUR_MAPS
from SegWithUSlicerLib.scene.readout import volume_text


def test_colours_are_those_of_slicers_overlay(modules: Any) -> None:
    found = modules.evaluate(
        """async (names) => {
          const { COLOUR_MAPS, colourTable } = await import("./colours.js");
          return [COLOUR_MAPS, names.map((name) => [...colourTable(name)])];
        }""",
        list(COLOUR_MAPS),
    )
    assert found[0] == list(COLOUR_MAPS)
    for name, table in zip(COLOUR_MAPS, found[1], strict=True):
        expected = np.rint(matplotlib.colormaps[name.lower()](np.linspace(0, 1, 256))[:, :3] * 255)
        assert np.array_equal(np.reshape(table, (256, 3)), expected), name


def test_a_threshold_step_colours_the_bytes_from_it_on_and_no_others(modules: Any) -> None:
    shown = modules.evaluate(
        """async () => {
          const { colourTable, pixelTable } = await import("./colours.js");
          const table = colourTable("Inferno");
          return [0, 1, 125, 250].map((step) => [...pixelTable(table, 250, step, 0.6)].map((pixel) => pixel >>> 24));
        }"""
    )
    for step, alphas in zip((0, 1, 125, 250), shown, strict=True):
        assert alphas == [0] * (2 + step) + [153] * (254 - step)


def test_the_budget_line_and_the_orders_are_those_of_the_regions(modules: Any, segmented_cases: Path) -> None:
    folder = segmented_cases / CASES[2]
    regions, total = read_regions(folder), float(read_case(folder)["regions"]["expected_wrong_mm3"])
    for order in ORDERS:
        wrong = [0.0, *np.cumsum([region.expected_wrong_mm3 for region in in_order(regions, order)])]
        lines, ids = modules.evaluate(
            """async ({ regions, total, order }) => {
              const { budgetText, inOrder } = await import("./review_state.js");
              const { volumeText } = await import("./texts.js");
              const lines = [...regions, null].map((_, n) => budgetText(regions, total, order, n, volumeText));
              return [lines, inOrder(regions, order).map(({ id }) => id)];
            }""",
            {"regions": [asdict(region) for region in regions], "total": total, "order": order},
        )
        assert ids == [region.id for region in in_order(regions, order)]
        assert lines == [
            f"{n} regions cover {int(100 * min(wrong[n] / total, 1) + 1e-9)} % of the expected errors "
            f"({volume_text(wrong[n])} of {volume_text(total)}); "
            f"{volume_text(max(0.0, total - wrong[n]))} remain."
            for n in range(len(regions) + 1)
        ]


def test_volumes_are_written_as_in_the_panel(modules: Any) -> None:
    volumes = [0, 0.4, 0.5, 1.5, 2.5, 999.49, 9999.4, 9999.6, 10_000, 12_345.6, 250_050, None]
    found = modules.evaluate("async (volumes) => volumes.map((await import('./texts.js')).volumeText)", volumes)
    assert found == [volume_text(volume) for volume in volumes]
