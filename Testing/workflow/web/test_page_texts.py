"""Figures, texts and colours of the review page against those of Slicer's panel."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from exchanged_cases import CASES

from SegWithUCore.case.region_files import read_regions
from SegWithUCore.regions.region import ORDERS, Region, in_order
from SegWithUCore.review.log_format import Commented, Event, RegionViewed, StructureJudged, VerdictGiven, to_line
from SegWithUCore.review.state import ReviewState
from SegWithUCore.review.verdicts import GIVEN, Verdict, count_text
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


def random_review(dice: random.Random, regions: list[Region]) -> list[Event]:
    """Lines of a review that somebody often takes back."""
    state, events = ReviewState(regions, 1e4), list[Event]()
    while len(events) < 60:
        region, verdict = dice.choice(regions), dice.choice(GIVEN)
        action = dice.choice(
            [
                VerdictGiven(region.id, verdict, dice.choice([None, "", "wörd"]), 1.0),
                VerdictGiven(region.id, Verdict.ACCEPTED),
                Commented(region.id, dice.choice(["", "a"])),
                StructureJudged(region.structure, dice.choice([None, verdict])),
                RegionViewed(region.id, 1.0),
                state.rest() if dice.random() < 0.1 else None,
                state.next_undo(),
            ]
        )
        if action is not None:
            events.append(Event("2026-11-27T08:00:00Z", "Ana", action))
            state.apply(events[-1])
    return events


@pytest.mark.parametrize("seed", range(12))
def test_a_review_has_the_state_that_it_has_in_slicer(modules: Any, segmented_cases: Path, seed: int) -> None:
    regions = list(read_regions(segmented_cases / CASES[0]))[: 3 + seed]
    events = random_review(random.Random(seed), regions)
    names = sorted({region.structure for region in regions})
    for count in range(0, len(events) + 1, 5):
        state = ReviewState.replayed(events[:count], regions, 1e4)
        found = modules.evaluate(
            """async ({ lines, regions, verdicts, names }) => {
              const { countText, nextUndecided, progressText, reviewState, structureVerdict } =
                await import("./review_state.js");
              const state = reviewState(lines, regions, 1e4, verdicts);
              const structures = names.map((name) => structureVerdict(state, regions, name));
              return {
                regions: regions.map(({ id }) => [state.verdicts[id] ?? null, state.comments[id] ?? ""]),
                texts: [progressText(state.progress), countText(state, regions)],
                structures: structures.map((one) => [one.kind?.value ?? null, one.explicit, one.decided, one.unseen]),
                next: [nextUndecided(state, regions.map(({ id }) => id), null), state.lastRegion],
                undo: state.nextUndo,
              };
            }""",
            {
                "lines": [json.loads(to_line(event)) for event in events[:count]],
                "regions": [asdict(region) for region in regions],
                "verdicts": [verdict.to_json() for verdict in Verdict],
                "names": names,
            },
        )
        ids, standing, undo = [region.id for region in regions], map(state.structure, names), state.next_undo()
        assert found == {
            "regions": [[state.verdict_of(id_), state.comment_of(id_)] for id_ in ids],
            "texts": [state.progress().text, count_text([state.verdict_of(id_) for id_ in ids])],
            "structures": [[each.verdict, each.explicit, each.decided, each.unseen] for each in standing],
            "next": [state.next_undecided(ids), state.last_region],
            "undo": None if undo is None else asdict(undo),
        }


def test_volumes_are_written_as_in_the_panel(modules: Any) -> None:
    volumes = [0, 0.4, 0.5, 1.5, 2.5, 999.49, 9999.4, 9999.6, 10_000, 12_345.6, 250_050, None]
    found = modules.evaluate("async (volumes) => volumes.map((await import('./texts.js')).volumeText)", volumes)
    assert found == [volume_text(volume) for volume in volumes]
