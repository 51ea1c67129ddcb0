"""Figures, texts and colours of the review page against those of Slicer's panel."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from exchanged_cases import CASES

from SegWithUCore.case.region_files import read_regions
from SegWithUCore.regions.region import ORDERS, Competition, Kind, Region, in_order
from SegWithUCore.review.log_format import (
    Asked,
    Commented,
    Edited,
    Event,
    PlaceAdded,
    RegionViewed,
    StructureJudged,
    VerdictGiven,
    to_line,
)
from SegWithUCore.review.state import ReviewState
from SegWithUCore.review.verdicts import GIVEN, Verdict
from SegWithUSlicerLib.scene.map_display import COLOUR_MAPS
from SegWithUSlicerLib.scene.readout import volume_text


def count_text(given: list[Verdict | None]) -> str:
    """The verdicts that want attention, as the page counts them: "1 rejected, 0 for a second reader"."""
    return ", ".join(f"{given.count(verdict)} {verdict.counted}" for verdict in GIVEN if verdict.wants_attention)


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


def random_review(dice: random.Random, regions: list[Region], names: list[str]) -> list[Event]:
    """Lines of a review that somebody often takes back."""
    state, events = ReviewState(regions, names), list[Event]()
    while len(events) < 80:
        region, verdict, name = dice.choice(state.listed() or regions), dice.choice(GIVEN), dice.choice(names)
        action = dice.choice(
            [
                VerdictGiven(region.id, verdict, dice.choice([None, "", "wörd"]), dice.choice([0.4, 3.0, 31.5])),
                VerdictGiven(region.id, Verdict.ACCEPTED),
                Commented(region.id, dice.choice(["", "a"])),
                StructureJudged(name, dice.choice([None, verdict])),
                StructureJudged(name, Verdict.ACCEPTED),
                RegionViewed(region.id, 1.0),
                Asked(tuple(dice.sample(names, dice.randint(1, len(names))))),
                PlaceAdded(state.next_place(), name, (1.0, -2.5, 3.0)),
                Edited(dice.choice([None, region.id]), ", ".join(dice.sample(names, dice.randint(1, 2))), 1, 2, 3.0),
                state.rest() if dice.random() < 0.1 else None,
                state.next_undo(),
            ]
        )
        if action is not None:
            events.append(Event("2026-11-27T08:00:00Z", "Ana", action))
            state.apply(events[-1])
    return events


def reviewed_regions(folder: Path, count: int) -> list[Region]:
    """The first regions of a case, in two of which the other structure hardly does or does not take part, and a blind
    sample of five, as every fifth case has it."""
    regions = read_regions(folder)
    names = [region.structure for region in regions]
    found = [region for region in regions if region.kind is not Kind.BLIND][:count]
    for at, share in enumerate((0.2, 0.19)):
        (other, *_) = (name for name in names if name != found[at].structure)
        found[at] = replace(found[at], competing=(Competition("background", other, share),))
    blind = [region for region in regions if region.kind is Kind.BLIND]
    more = [replace(place, id=place.id + 10 * n, rank=place.rank + 10 * n) for place in blind for n in range(5)]
    return [*found, *more]


@pytest.mark.parametrize("seed", range(16))
def test_a_review_has_the_state_that_it_has_in_slicer(modules: Any, segmented_cases: Path, seed: int) -> None:
    regions = reviewed_regions(segmented_cases / CASES[0], 3 + seed % 6)
    names = sorted({region.structure for region in regions})
    events = random_review(random.Random(seed), regions, names)
    seen = {"finished": 0, "done": 0, "blind": 0, "added": 0}
    for count in range(0, len(events) + 1, 4):
        state = ReviewState.replayed(events[:count], regions, names)
        found = modules.evaluate(
            """async ({ lines, regions, verdicts, names }) => {
              const rules = await import("./review_state.js");
              const state = rules.reviewState(lines, regions, names, verdicts);
              const structures = names.map((name) => rules.structureVerdict(state, name));
              const all = rules.inOrder(state.regions, "position");
              return {
                regions: all.map(({ id }) => [id, state.verdicts[id] ?? null, state.comments[id] ?? ""]),
                open: all.filter((region) => rules.isOpen(state, region)).map(({ id }) => id),
                question: [state.asked, [...state.finished].sort(), [...state.edited].sort(), rules.isDone(state)],
                listed: rules.inOrder(rules.listed(state), "structure").map(({ id }) => id),
                blind: rules.blindSample(state).map(({ id }) => id),
                rest: rules.openRest(state).map(({ id }) => id).sort((a, b) => a - b),
                texts: [rules.progressText(state.progress), rules.countText(state, state.regions)],
                structures: structures.map((one) => [one.kind?.value ?? null, one.explicit, one.decided, one.unseen]),
                next: [rules.nextUndecided(state, all, null), state.lastRegion, rules.nextPlace(state)],
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
        every = in_order(list(state._regions.values()), "position")
        ids, standing, undo = [region.id for region in every], map(state.structure, names), state.next_undo()
        listed = in_order(state.listed(), "structure")
        assert found == {
            "regions": [[id_, state.verdict_of(id_), state.comment_of(id_)] for id_ in ids],
            "open": [region.id for region in every if state.is_open(region)],
            "question": [list(state.asked), sorted(state.finished), sorted(state.edited), state.is_done],
            "listed": [region.id for region in listed],
            "blind": [region.id for region in state.blind_sample()],
            "rest": list(state.rest().regions),
            "texts": [state.progress().text, count_text([state.verdict_of(id_) for id_ in ids])],
            "structures": [[each.verdict, each.explicit, each.decided, each.unseen] for each in standing],
            "next": [state.next_undecided(ids), state.last_region, state.next_place()],
            "undo": None if undo is None else asdict(undo),
        }
        kinds = {region.kind for region in listed}
        for what, holds in (
            ("finished", state.finished), ("done", state.is_done),
            ("blind", Kind.BLIND in kinds), ("added", Kind.ADDED in kinds),
        ):  # fmt: skip
            seen[what] += bool(holds)
    assert seen["finished"] and seen["blind"] and seen["added"], seen


def test_minutes_are_those_of_this_reviewer(modules: Any, segmented_cases: Path) -> None:
    regions = [asdict(region) for region in read_regions(segmented_cases / CASES[0])]
    names = sorted({region["structure"] for region in regions})
    open_ = [region["id"] for region in regions if region["kind"] != Kind.BLIND]

    def minutes(*seconds: float) -> float:
        return modules.evaluate(
            """async ({ lines, regions, verdicts, names }) => {
              const { minutesLeft, reviewState } = await import("./review_state.js");
              return minutesLeft(reviewState(lines, regions, names, verdicts));
            }""",
            {
                "lines": [
                    {"event": "verdict", "region": open_[0], "verdict": "rejected", "seconds": each} for each in seconds
                ],
                "regions": regions,
                "verdicts": [verdict.to_json() for verdict in Verdict],
                "names": names,
            },
        )

    assert minutes() == pytest.approx(len(open_) * 20 / 60)
    left = len(open_) - 1
    assert minutes(1, 2, 3, 4) == pytest.approx(left * 20 / 60)
    assert minutes(1, 2, 100, 4, 3) == pytest.approx(left * 3 / 60)


def test_short_names_say_what_the_full_ones_say(modules: Any) -> None:
    full = ["left hippocampus", "right hippocampus", "right cerebral white matter", "brainstem", "bright left part"]
    found = modules.evaluate(
        """async (names) => {
          const { namesText, shortName, shortened } = await import("./texts.js");
          const text = shortened("Left hippocampus may be right hippocampus", names);
          return [names.map(shortName), namesText(names), text];
        }""",
        full,
    )
    assert found[0] == ["L hippocampus", "R hippocampus", "R cerebral WM", "brainstem", "bright left part"]
    assert found[1] == "L+R hippocampus, R cerebral WM, brainstem, bright left part"
    assert found[2] == "L hippocampus may be R hippocampus"


def test_volumes_are_written_as_in_the_panel(modules: Any) -> None:
    volumes = [0, 0.4, 0.5, 1.5, 2.5, 999.49, 9999.4, 9999.6, 10_000, 12_345.6, 250_050, None]
    found = modules.evaluate("async (volumes) => volumes.map((await import('./texts.js')).volumeText)", volumes)
    assert found == [volume_text(volume) for volume in volumes]


def test_neighbours_gain_and_lose_what_a_contour_says(modules: Any) -> None:
    found = modules.evaluate(
        """async ([runs, structures]) => {
          const { neighboursText } = await import("./texts.js");
          return [1, 2].map((own) => neighboursText(runs, own, structures, 2));
        }""",
        [
            [[10, 5, 2, 1], [20, 3, 1, 3], [40, 1, 3, 1], [50, 4, 0, 1], [70, 5, 1, 2]],
            [{"value": n, "name": name} for n, name in enumerate(("background", "left a", "left b", "right c"))],
        ],
    )
    assert found == ["R c +4 mm³", "L a +4 mm³, R c +4 mm³"], (
        "what comes and goes is nothing, and background no structure"
    )


def test_small_changes_of_a_large_volume_show(modules: Any) -> None:
    found = modules.evaluate(
        """async (pairs) => {
          const { changedVolumeText } = await import("./texts.js");
          return pairs.map((pair) => changedVolumeText(...pair));
        }""",
        [[9_990, 20], [12_384, 25], [12_384, -25], [250_050, 0], [0, 3]],
    )
    assert found == [
        "10010 mm³, +20 mm³ (+0.2 %)",
        "12409 mm³, +25 mm³ (+0.2 %)",
        "12359 mm³, −25 mm³ (−0.2 %)",
        "250050 mm³, +0 mm³ (+0.0 %)",
        "3 mm³, +3 mm³",
    ]
