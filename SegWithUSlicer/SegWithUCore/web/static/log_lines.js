// Events as the lines that a review log holds for them, for what leaves the page as a file.

const REST_FORMAT = 2;

export function stampedLine(event, reviewer) {
    return { when: `${new Date().toISOString().slice(0, 19)}Z`, reviewer, ...event };
}

// The lines of one event after `lines`. `regions` are those of the case.
export function linesOf(event, lines, reviewer, regions) {
    if (event.event === "verdict") {
        return [stampedLine({ comment: null, seconds: 0, ...event }, reviewer)];
    }
    return event.event === "rest" ? restLines(event, lines, reviewer, regions) : [stampedLine(event, reviewer)];
}

function restLines(event, lines, reviewer, regions) {
    const held = regions.filter(({ id }) => event.regions.includes(id));
    const wrong = held.reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
    const ids = [...event.regions].sort((a, b) => a - b);
    const rest = { event: "rest", regions: ids, expected_wrong_mm3: Math.round(1000 * wrong) / 1000 };
    // Programs that do not know this event are warned by a header of the format that it came with.
    const headers = lines.filter((line) => line.event === "opened");
    const isAnnounced = !headers.length || headers.some((line) => line.format >= REST_FORMAT);
    const header = isAnnounced ? [] : [{ ...headers.at(-1), ...stampedLine({}, reviewer), format: REST_FORMAT }];
    return [...header, stampedLine(rest, reviewer)];
}
