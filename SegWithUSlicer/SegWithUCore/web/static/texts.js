// Numbers in words, as 3D Slicer's panel writes them.

const MM3_IN_ML = 1000;

export const NOT_ASSESSED = "not assessed";

// mm³ below 10 mL, else mL; "not assessed" for null.
export function volumeText(mm3) {
    if (mm3 === null || mm3 === undefined) {
        return NOT_ASSESSED;
    }
    return mm3 < 10 * MM3_IN_ML ? `${roundedText(mm3, 0)} mm³` : `${roundedText(mm3 / MM3_IN_ML, 1)} mL`;
}

const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

// "12384 mm³, +25 mm³ (+0.2 %)": mm³ at any size, so that small changes of a large volume show.
export function changedVolumeText(before, change) {
    const percent = before > 0 ? ` (${signed((100 * change) / before, 1)} %)` : "";
    return `${roundedText(before + change, 0)} mm³, ${signed(change, 0)} mm³${percent}`;
}

// What other structures than the one of value `own` gain or lose by runs of voxels; "" for nothing.
export function neighboursText(runs, own, structures, voxelMm3) {
    const changes = new Map();
    for (const [, count, before, after] of runs) {
        changes.set(before, (changes.get(before) ?? 0) - count);
        changes.set(after, (changes.get(after) ?? 0) + count);
    }
    const others = structures.filter(({ value }) => value && value !== own && changes.get(value));
    return others.map(({ name, value }) => `${shortName(name)} ${signed(changes.get(value) * voxelMm3, 0)} mm³`).join(", ");
}

// As Python rounds: a number half-way between two goes to the even one.
export function roundedText(value, digits) {
    const scale = 10 ** digits;
    const low = Math.floor(value * scale);
    // Only such numbers lie half-way exactly; of others, the binary number decides.
    if (value * scale - low === 0.5 && Number.isInteger(value * 2 ** (digits + 1))) {
        return ((low % 2 ? low + 1 : low) / scale).toFixed(digits);
    }
    return value.toFixed(digits);
}

// "2180 mm³ (2010 to 2350 mm³)"
export function expectedText(structure) {
    const volume = volumeText(structure.expected_volume_mm3);
    const interval = structure.expected_interval_mm3;
    if (structure.expected_volume_mm3 === null || !interval) {
        return volume;
    }
    const [low, high] = interval;
    if (high >= 10 * MM3_IN_ML) {
        return `${volume} (${roundedText(low / MM3_IN_ML, 1)} to ${roundedText(high / MM3_IN_ML, 1)} mL)`;
    }
    return `${volume} (${roundedText(low, 0)} to ${roundedText(high, 0)} mm³)`;
}

// " (0.24 %)" of the model's denominator, such as the brain; "" without one.
export function percentText({ percent }) {
    return percent === null || percent === undefined ? "" : ` (${Number(percent.toPrecision(3))} %)`;
}

export function diceText(structure) {
    if (structure.predicted_dice !== null && structure.predicted_dice !== undefined) {
        return structure.predicted_dice.toFixed(2);
    }
    return structure.predicted_dice_informative === false ? "not informative" : NOT_ASSESSED;
}

export const KIND_TEXTS = {
    "boundary patch": "boundary",
    "missed part": "missed part",
    "extra part": "extra part",
    confusion: "confusion",
    "part that lies apart": "apart",
    hole: "hole",
    "jump between slices": "jump",
    "wrong side": "wrong side",
};

export const ORDER_TEXTS = {
    "expected wrong volume": "Largest expected error first",
    peak: "Highest error probability first",
    structure: "Structure by structure",
    position: "From head to foot",
};

// "L hippocampus", "R cerebral WM": names that a narrow column holds; the full name is their tool tip.
export function shortName(name) {
    return name
        .replace(/^left /, "L ")
        .replace(/^right /, "R ")
        .replace(/ white matter$/, " WM");
}

// A text with the short names of some structures.
export function shortened(text, names) {
    const longest = [...names].sort((a, b) => b.length - a.length);
    const capital = (name) => name.slice(0, 1).toUpperCase() + name.slice(1);
    return longest.reduce((found, name) => {
        const short = shortName(name);
        return found.replaceAll(name, short).replaceAll(capital(name), capital(short));
    }, text);
}

// Names of structures, those of both sides once: "L+R hippocampus, brainstem".
export function namesText(names) {
    const sides = new Map();
    for (const name of names.map(shortName)) {
        const [, side, rest] = /^([LR]) (.*)$/.exec(name) ?? [null, "", name];
        sides.set(rest, [...(sides.get(rest) ?? []), side]);
    }
    return [...sides].map(([rest, which]) => [which.sort().join("+"), rest].filter(Boolean).join(" ")).join(", ");
}
