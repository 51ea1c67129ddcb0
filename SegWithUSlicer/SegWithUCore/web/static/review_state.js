// State of a review, made by replaying the lines of its log: the rules of `review/state.py`.

// `regions` are those of the case, `verdicts` the rows of the table of verdicts.
export function reviewState(events, regions, totalMm3, verdicts) {
    const state = {
        kinds: new Map(verdicts.map((kind) => [kind.value, kind])),
        verdicts: {},
        comments: {},
        structures: {},
        lastRegion: null,
        nextUndo: null,
    };
    const steps = [];
    events.forEach((event, index) => replay(state, steps, event, index + 1));
    const step = steps.at(-1);
    state.nextUndo = step ? { line: step.line, what: step.event.event, region: step.event.region ?? null } : null;
    state.progress = progressOf(state, regions, totalMm3);
    return state;
}

function replay(state, steps, event, line) {
    const { region } = event;
    switch (event.event) {
        case "verdict":
            steps.push({ line, event, before: [state.verdicts[region], state.comments[region] ?? ""] });
            state.verdicts[region] = event.verdict;
            state.comments[region] = event.comment ?? state.comments[region] ?? "";
            state.lastRegion = region;
            break;
        case "rest":
            steps.push({ line, event });
            for (const id of event.regions) {
                state.verdicts[id] = kindWhere(state, ({ looked }) => !looked).value;
            }
            break;
        case "comment":
            steps.push({ line, event, before: [state.verdicts[region], state.comments[region] ?? ""] });
            state.comments[region] = event.comment;
            state.lastRegion = region;
            break;
        case "structure":
            steps.push({ line, event, before: state.structures[event.structure] ?? [null, ""] });
            state.structures[event.structure] = [event.verdict, event.comment ?? ""];
            break;
        case "looked":
            state.lastRegion = region;
            break;
        case "undo":
            takeBack(state, steps.pop());
            break;
        default:
    }
}

function takeBack(state, step) {
    if (!step) {
        return;
    }
    const { event, before } = step;
    if (event.event === "structure") {
        state.structures[event.structure] = before;
    } else if (event.event === "rest") {
        for (const id of event.regions) {
            delete state.verdicts[id];
        }
    } else {
        const [verdict, comment] = before;
        if (verdict === undefined) {
            delete state.verdicts[event.region];
        } else {
            state.verdicts[event.region] = verdict;
        }
        state.comments[event.region] = comment;
        state.lastRegion = event.region;
    }
}

function kindWhere(state, holds) {
    return [...state.kinds.values()].find(holds);
}

// The row of the verdict on each region that has one.
function kindsOf(state, regions) {
    return regions.map(({ id }) => state.kinds.get(state.verdicts[id])).filter(Boolean);
}

function progressOf(state, regions, totalMm3) {
    const given = kindsOf(state, regions);
    const seenMm3 = regions
        .filter(({ id }) => state.kinds.get(state.verdicts[id])?.seen)
        .reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
    return {
        decided: given.filter(({ looked }) => looked).length,
        regions: regions.length,
        unseen: given.filter(({ looked }) => !looked).length,
        seenShare: totalMm3 > 0 ? Math.min(1, seenMm3 / totalMm3) : 1,
    };
}

// "7 of 12 regions, 86 % of expected error seen"
export function progressText(progress) {
    const parts = [`${progress.decided} of ${progress.regions} regions`];
    if (progress.unseen) {
        parts.push(`${progress.unseen} not looked at`);
    }
    // Rounded down: 100 % is shown only when nothing is left.
    parts.push(`${Math.floor(progress.seenShare * 100 + 1e-9)} % of expected error seen`);
    return parts.join(", ");
}

// The first region without a verdict behind `after`, then from the start on; null if all have one.
export function nextUndecided(state, order, after) {
    const start = order.indexOf(after) + 1;
    for (let step = 0; step < order.length; step++) {
        const id = order[(start + step) % order.length];
        if (state.verdicts[id] === undefined) {
            return id;
        }
    }
    return null;
}

// Verdict of a structure: its own, else accepted, the first that counts as seen, when all its regions are accepted or corrected.
export function structureVerdict(state, regions, name) {
    const members = regions.filter((region) => region.structure === name);
    const given = kindsOf(state, members);
    const own = state.structures[name]?.[0] ?? null;
    const allSeen = members.length > 0 && given.filter(({ seen }) => seen).length === members.length;
    return {
        kind: own === null ? (allSeen ? kindWhere(state, ({ seen }) => seen) : null) : state.kinds.get(own),
        explicit: own !== null,
        decided: given.filter(({ looked }) => looked).length,
        regions: members.length,
        unseen: given.filter(({ looked }) => !looked).length,
    };
}

const ORDER_KEYS = {
    "expected wrong volume": (region) => [-region.expected_wrong_mm3, region.id],
    peak: (region) => [-region.peak, region.id],
    structure: (region) => [region.structure_value, -region.expected_wrong_mm3, region.id],
    position: (region) => [-region.peak_ras_mm[2], region.id],
};

// How many regions have each verdict that wants attention: "1 rejected, 0 for a second reader"
export function countText(state, regions) {
    const given = kindsOf(state, regions);
    return [...state.kinds.values()]
        .filter((kind) => kind.wants_attention)
        .map((kind) => `${given.filter((one) => one === kind).length} ${kind.counted}`)
        .join(", ");
}

// Regions in one of the orders of the review.
export function inOrder(regions, order) {
    const key = ORDER_KEYS[order] ?? ORDER_KEYS["expected wrong volume"];
    return regions
        .map((region) => [key(region), region])
        .sort(([first], [second]) => {
            const at = first.findIndex((part, index) => part !== second[index]);
            return at < 0 ? 0 : first[at] - second[at];
        })
        .map(([, region]) => region);
}
