// What lies above a threshold, from the histograms of the case, as 3D Slicer's panel computes it.

import { roundedText, volumeText } from "./texts.js";

// Threshold of a step of the map's window.
export function thresholdAt(map, step) {
    const [low, high] = map.window;
    return low + (step / map.steps) * (high - low);
}

// With as many decimals as tell the steps apart, but none that are 0 beyond the second.
export function thresholdText(map, step) {
    const [low, high] = map.window;
    const decimals = high > low ? Math.min(9, Math.max(2, 3 - Math.floor(Math.log10((high - low) * 4)))) : 2;
    return thresholdAt(map, step)
        .toFixed(decimals)
        .replace(/(\.\d\d\d*?)0+$/, "$1");
}

// The step at which a map is shown first: what the model suggests, else the highest with a tenth of the structures above.
export function firstStep(map, structures) {
    const [low, high] = map.window;
    const suggested = map.lower_threshold ?? low;
    const step = high > low ? Math.round(((suggested - low) / (high - low)) * map.steps) : 0;
    if (step > map.steps / 100 || !map.histograms) {
        return Math.min(Math.max(step, 0), map.steps);
    }
    const above = (at) =>
        structures.reduce((sum, structure) => sum + voxelsAbove(map.histograms, structure.value, at), 0);
    const least = 0.1 * above(low);
    for (let percent = 100; percent > 0; percent--) {
        const at = Math.round((percent / 100) * map.steps);
        const found = above(thresholdAt(map, at));
        if (found > 0 && found >= least) {
            return at;
        }
    }
    return 0;
}

// Voxels of a structure at or above a threshold. Inside the bin that it cuts, voxels are taken as evenly spread.
export function voxelsAbove(histograms, value, threshold) {
    const counts = histograms.counts[value] ?? [];
    const { low, high } = histograms;
    if (high <= low) {
        return threshold <= low ? total(counts) : 0;
    }
    const position = ((threshold - low) / (high - low)) * counts.length;
    if (position <= 0) {
        return total(counts);
    }
    if (position >= counts.length) {
        return 0;
    }
    const cut = Math.floor(position);
    return total(counts.slice(cut + 1)) + counts[cut] * (1 - (position - cut));
}

// "3.1 %, 42 mm³" of a structure; "empty" for one without voxels.
export function aboveText(map, structure, step, voxelMm3) {
    if (!map.histograms) {
        return "not assessed";
    }
    const all = total(map.histograms.counts[structure.value] ?? []);
    if (!all) {
        return "empty";
    }
    const above = voxelsAbove(map.histograms, structure.value, thresholdAt(map, step));
    const percent = `${roundedText((100 * above) / all, 1)} %`;
    return voxelMm3 ? `${percent}, ${volumeText(above * voxelMm3)}` : percent;
}

function total(counts) {
    return counts.reduce((sum, count) => sum + count, 0);
}
