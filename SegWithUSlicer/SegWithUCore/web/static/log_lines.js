// Events as the lines that a review log holds for them, for what leaves the page as a file.

export function stampedLine(event, reviewer) {
    return { when: `${new Date().toISOString().slice(0, 19)}Z`, reviewer, ...event };
}

// The line of one event. `regions` are those of the case.
export function lineOf(event, reviewer, regions) {
    if (event.event === "verdict") {
        return stampedLine({ comment: null, seconds: 0, ...event }, reviewer);
    }
    return stampedLine(event.event === "rest" ? restOf(event, regions) : event, reviewer);
}

function restOf(event, regions) {
    const held = regions.filter(({ id }) => event.regions.includes(id));
    const wrong = held.reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
    const ids = [...event.regions].sort((a, b) => a - b);
    return { event: "rest", regions: ids, expected_wrong_mm3: Math.round(1000 * wrong) / 1000 };
}
