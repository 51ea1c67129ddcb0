// State of a review, made by replaying the lines of its log: the rules of `review/state.py`.

const BLIND = "blind sample";
// As `TAKES_PART` of `regions/region.py`.
const TAKES_PART = 0.2;
// Assumed until a reviewer has given so many verdicts.
const ASSUMED_SECONDS = 20;
const PACE_FROM = 5;

// `regions` are those of the case, `asked` names the structures to be measured until a line asks for others, `verdicts` are
// the rows of the table of verdicts.
export function reviewState(events, regions, asked, verdicts) {
    const state = {
        kinds: new Map(verdicts.map((kind) => [kind.value, kind])),
        regions: [...regions],
        asked,
        verdicts: {},
        comments: {},
        structures: {},
        edits: [],
        seconds: [],
        lastRegion: null,
        nextUndo: null,
    };
    const steps = [];
    events.forEach((event, index) => replay(state, steps, event, index + 1));
    state.edited = new Set(state.edits.flatMap(({ structure }) => structure.split(", ")));
    state.removed = state.edits.at(-1)?.removed ?? [];
    const step = steps.at(-1);
    if (step) {
        const { event, region } = step.event;
        state.nextUndo = { line: step.line, what: event, region: event === "added" ? null : (region ?? null) };
    }
    state.finished = new Set(
        Object.keys(state.structures).filter((name) => state.kinds.get(state.structures[name][0])?.seen),
    );
    state.allFinished = state.asked.length > 0 && state.asked.every((name) => state.finished.has(name));
    state.progress = progressOf(state);
    return state;
}

function replay(state, steps, event, line) {
    const { region } = event;
    switch (event.event) {
        case "verdict":
            steps.push({ line, event, before: [state.verdicts[region], state.comments[region] ?? ""] });
            state.verdicts[region] = event.verdict;
            state.comments[region] = event.comment ?? state.comments[region] ?? "";
            state.seconds.push(event.seconds ?? 0);
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
        case "added":
            steps.push({ line, event });
            state.regions.push(placeOf(event, state.regions));
            state.lastRegion = region;
            break;
        case "asked":
            state.asked = event.structures;
            break;
        case "edited":
            if (event.runs?.length) {
                steps.push({ line, event });
            } else {
                // It may have changed the voxels of any gesture before.
                steps.splice(0, steps.length, ...steps.filter((step) => step.event.event !== "edited"));
            }
            state.edits.push(event);
            state.lastRegion = region ?? state.lastRegion;
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
    } else if (event.event === "edited") {
        state.edits.pop();
    } else if (event.event === "added") {
        state.regions = state.regions.filter(({ id }) => id !== event.region);
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

// The region of a place that the reviewer has added; it has no voxels.
function placeOf({ region, structure, ras_mm: ras }, regions) {
    return {
        id: region,
        rank: region,
        structure,
        structure_value: regions.find((one) => one.structure === structure)?.structure_value ?? 0,
        kind: "added place",
        expected_wrong_mm3: 0,
        peak: 0,
        peak_ras_mm: ras,
        competing: [],
        why: `A place of ${structure} that you have added.`,
    };
}

export function nextPlace(state) {
    return Math.max(0, ...state.regions.map(({ id }) => id)) + 1;
}

// What finishes a structure: accepted, or corrected if it was edited.
export function finishingVerdict(state, structure) {
    return kindWhere(state, ({ seen, needs_edit: edit }) => seen && edit === state.edited.has(structure)).value;
}

function kindWhere(state, holds) {
    return [...state.kinds.values()].find(holds);
}

// The row of the verdict on each region that has one.
function kindsOf(state, regions) {
    return regions.map(({ id }) => state.kinds.get(state.verdicts[id])).filter(Boolean);
}

// -- the question --

export function isAbout({ structure, competing }, names) {
    const parts = competing.filter(({ share }) => share >= TAKES_PART);
    return [structure, ...parts.flatMap((pair) => [pair.truth, pair.read_as])].some((name) => names.includes(name));
}

// Regions of the asked structures.
export function inQuestion(state) {
    // Of what an edit removed, that stays which was judged, or is at hand: the reviewer would miss it.
    const isGone = ({ id }) =>
        state.removed.includes(id) && state.verdicts[id] === undefined && id !== state.lastRegion;
    return state.regions.filter((region) => region.kind !== BLIND && isAbout(region, state.asked) && !isGone(region));
}

// Those, and, once the asked structures are finished, the blind sample.
export function listed(state) {
    return [...inQuestion(state), ...(state.allFinished ? blindSample(state) : [])];
}

// The places that close the review: as many as the case has of one structure.
export function blindSample(state) {
    const places = state.regions.filter(isBlind);
    const counts = places.map((one) => places.filter(({ structure }) => structure === one.structure).length);
    const own = places.filter(({ structure }) => state.asked.includes(structure)).sort((a, b) => a.rank - b.rank);
    return own.slice(0, Math.max(0, ...counts));
}

export function isBlind({ kind }) {
    return kind === BLIND;
}

// Whether a region has no verdict, and an asked structure that takes part in it, or its own where none does, is not finished.
export function isOpen(state, region) {
    const isLeft = isAbout(region, state.asked)
        ? isAbout(region, unfinished(state))
        : !state.finished.has(region.structure);
    return state.verdicts[region.id] === undefined && (isBlind(region) || isLeft);
}

function unfinished(state) {
    return state.asked.filter((name) => !state.finished.has(name));
}

// Whether all asked structures are finished, and the blind sample is judged.
export function isDone(state) {
    return state.allFinished && blindSample(state).every(({ id }) => state.verdicts[id] !== undefined);
}

// The open regions that "accept the rest" takes.
export function openRest(state) {
    return inQuestion(state).filter((region) => isOpen(state, region));
}

// -- progress --

function progressOf(state) {
    const regions = inQuestion(state);
    const given = kindsOf(state, regions);
    const sample = state.allFinished ? blindSample(state) : [];
    const wrong = (some) => some.reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
    const left = unfinished(state);
    const isSeen = (region) => !isAbout(region, left) || state.kinds.get(state.verdicts[region.id])?.seen;
    const total = wrong(regions);
    const isKnown = regions.every((region) => region.expected_wrong_mm3 !== null);
    return {
        decided: given.filter(({ looked }) => looked).length,
        regions: regions.length,
        unseen: given.filter(({ looked }) => !looked).length,
        seenShare: total > 0 ? wrong(regions.filter(isSeen)) / total : isKnown ? 1 : null,
        finished: state.asked.filter((name) => state.finished.has(name)).length,
        structures: state.asked.length,
        sampled: kindsOf(state, sample).length,
        sample: sample.length,
    };
}

// "1 of 4 structures finished; 7 of 12 regions, 86 % of their expected error decided"
export function progressText(progress) {
    const unseen = progress.unseen ? `, ${progress.unseen} not looked at` : "";
    // Rounded down: 100 % is shown only when nothing is left.
    const share = Math.floor(progress.seenShare * 100 + 1e-9);
    const known = progress.seenShare === null ? "" : `, ${share} % of their expected error`;
    const sample = progress.sample ? `; blind sample: ${progress.sampled} of ${progress.sample}` : "";
    return `${progress.finished} of ${progress.structures} structures finished; ${progress.decided} of ${progress.regions} regions${unseen}${known} decided${sample}`;
}

// Minutes that the open regions of the question take at this reviewer's own pace.
export function minutesLeft(state) {
    const sorted = [...state.seconds].sort((a, b) => a - b);
    const middle = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
    const pace = sorted.length < PACE_FROM ? ASSUMED_SECONDS : middle;
    return (pace * listed(state).filter((region) => isOpen(state, region)).length) / 60;
}

// The first open region of `regions` behind that with the number `after`, then from the start on; null if there is none.
export function nextUndecided(state, regions, after) {
    const start = regions.findIndex(({ id }) => id === after) + 1;
    const ring = [...regions.slice(start), ...regions.slice(0, start)];
    return ring.find((region) => isOpen(state, region))?.id ?? null;
}

// Verdict of a structure: its own, else accepted, the first that counts as seen, when all its regions are accepted or corrected.
export function structureVerdict(state, name) {
    const members = state.regions.filter((region) => region.structure === name && !isBlind(region));
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

// Regions in one of the orders of the review; the blind sample comes last.
export function inOrder(regions, order) {
    const key = ORDER_KEYS[order] ?? ORDER_KEYS.structure;
    return regions
        .map((region) => [[Number(isBlind(region)), ...key(region)], region])
        .sort(([first], [second]) => {
            const at = first.findIndex((part, index) => part !== second[index]);
            return at < 0 ? 0 : first[at] - second[at];
        })
        .map(([, region]) => region);
}
