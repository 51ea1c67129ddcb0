// What lies under the crosshair: place, structure, image and map.

import { element } from "./dom.js";
import { pointText, rasOf } from "./geometry.js";
import { valueAt } from "./planes.js";
import { thresholdAt } from "./readout.js";

export class CursorLine {
    constructor(data) {
        this.data = data;
        this.root = element("p", { class: "readout" });
    }

    show(voxel, labels, map) {
        const { data } = this;
        const label = labels ? valueAt(labels, voxel, 0) : 0;
        const name = data.structures.find(({ value }) => value === label)?.name ?? "background";
        const parts = [pointText(rasOf(data.grid, voxel)), name, imageText(data.image, voxel), mapText(map, voxel)];
        this.root.textContent = parts.filter(Boolean).join(" · ");
    }
}

function imageText(image, voxel) {
    const raw = image ? valueAt(image, voxel, null) : null;
    return raw === null ? "" : `image ${Number((raw * image.scale + image.offset).toPrecision(5))}`;
}

// Maps have steps of their window.
function mapText(map, voxel) {
    if (!map) {
        return "";
    }
    const title = map.title.toLowerCase();
    const byte = valueAt(map, voxel, 0);
    return byte === 0 ? `${title}: not assessed` : `${title} ≈ ${thresholdAt(map, Math.max(0, byte - 2)).toFixed(2)}`;
}
