// What lies under the crosshair: place, structure, image and map.

import { wholeVoxel } from "./case_data.js";
import { element } from "./dom.js";
import { pointText, rasOf } from "./geometry.js";
import { valueAt } from "./planes.js";
import { thresholdAt } from "./readout.js";

const VALUE_DELAY_MS = 120;

export class CursorLine {
    constructor(source, data) {
        this.source = source;
        this.data = data;
        this.root = element("p", { class: "readout" });
        this.timer = 0;
    }

    // Says at once what the page knows, and soon the exact values: the page holds maps in steps of their window.
    follow(voxel, labels, map) {
        this.voxel = voxel;
        this.show(labels, map, null);
        clearTimeout(this.timer);
        if (!this.source.isFile) {
            this.timer = setTimeout(() => this.askExact(voxel, labels, map), VALUE_DELAY_MS);
        }
    }

    async askExact(voxel, labels, map) {
        try {
            const exact = await this.source.value(this.data.id, wholeVoxel(voxel, this.data.frame));
            if (voxel === this.voxel) {
                this.show(labels, map, exact);
            }
        } catch {
            // What stands there, from the page's own bytes, stays.
        }
    }

    show(labels, map, exact) {
        const { data, voxel } = this;
        const label = labels ? valueAt(labels, voxel, 0) : 0;
        const name = data.structures.find(({ value }) => value === label)?.name ?? "background";
        const parts = [
            pointText(rasOf(data.grid, voxel)),
            name,
            this.imageText(exact),
            map ? mapText(map, voxel, exact) : "",
        ];
        this.root.textContent = parts.filter(Boolean).join(" · ");
    }

    imageText(exact) {
        const { image } = this.data;
        const raw = image ? valueAt(image, this.voxel, null) : null;
        if (raw === null) {
            return "";
        }
        const value = exact?.image ?? raw * image.scale + image.offset;
        return `image ${Number(value.toPrecision(5))}`;
    }

    close() {
        clearTimeout(this.timer);
    }
}

function mapText(map, voxel, exact) {
    const title = map.title.toLowerCase();
    const byte = valueAt(map, voxel, 0);
    if (byte === 0) {
        return `${title}: not assessed`;
    }
    const value = exact?.maps?.[map.name] ?? null;
    return value === null
        ? `${title} ≈ ${thresholdAt(map, Math.max(0, byte - 2)).toFixed(2)}`
        : `${title} ${value.toPrecision(3)}`;
}
