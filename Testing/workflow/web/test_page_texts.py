"""Figures, texts and colours of the review page against those of Slicer's panel."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from exchanged_cases import CASES

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


def test_the_orders_are_those_of_the_panel(modules: Any, segmented_cases: Path) -> None:
    regions = read_regions(segmented_cases / CASES[2])
    for order in ORDERS:
        ids = modules.evaluate(
            """async ({ regions, order }) => {
              const { inOrder } = await import("./review_state.js");
              return inOrder(regions, order).map(({ id }) => id);
            }""",
            {"regions": [asdict(region) for region in regions], "order": order},
        )
        assert ids == [region.id for region in in_order(regions, order)]


def test_volumes_are_written_as_in_the_panel(modules: Any) -> None:
    volumes = [0, 0.4, 0.5, 1.5, 2.5, 999.49, 9999.4, 9999.6, 10_000, 12_345.6, 250_050, None]
    found = modules.evaluate("async (volumes) => volumes.map((await import('./texts.js')).volumeText)", volumes)
    assert found == [volume_text(volume) for volume in volumes]
