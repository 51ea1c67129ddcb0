// What a reviewer draws on the page: a contour that is scrolled, and a brush. Runs are [first voxel, how many, label
// before, label after], voxels of the grid counted with i fastest.

import { clamped, voxelAt } from "./geometry.js";
import { valueAt } from "./planes.js";

// Voxels with less error probability stay, where the brush is held to uncertain ones.
const LEAST_ERROR = 0.05;

// The labels on the whole grid: what may be drawn on.
export function onWholeGrid(labels, size, Kind = Uint16Array) {
    const data = new Kind(size[0] * size[1] * size[2]);
    if (labels) {
        const [ni, nj, nk] = labels.size;
        for (let k = 0; k < nk; k++) {
            for (let j = 0; j < nj; j++) {
                const from = ni * (j + nj * k);
                const to = labels.index[0] + size[0] * (labels.index[1] + j + size[1] * (labels.index[2] + k));
                data.set(labels.data.subarray(from, from + ni), to);
            }
        }
    }
    return { index: [0, 0, 0], size: [...size], data };
}

// Draws runs, or takes them back, on labels on the whole grid. Returns these as a new volume, so that views notice.
export function drawRuns(labels, runs, back = false) {
    for (const [first, count, before, after] of runs) {
        labels.data.fill(back ? before : after, first, first + count);
    }
    return { ...labels };
}

// The voxels of a label.
export function maskOfLabel(labels, value) {
    return { ...labels, data: Uint8Array.from(labels.data, (label) => Number(label === value)) };
}

// The positions of a contour, as the server has found them.
export class Contour {
    constructor({ start, positions }, labels, gridSize) {
        this.positions = positions;
        this.start = start;
        this.position = start;
        this.labels = onWholeGrid(labels, gridSize);
    }

    get runs() {
        return this.positions[this.position].runs;
    }

    // How many voxels the structure has won.
    get voxels() {
        return this.positions[this.position].voxels;
    }

    step(steps) {
        drawRuns(this.labels, this.runs, true);
        this.position = clamped(this.position + steps, 0, this.positions.length - 1);
        this.labels = drawRuns(this.labels, this.runs);
        return this.labels;
    }
}

// Draws one label with a disc or a ball.
export class Brush {
    // `page` has viewer, data, labels, draws() with { value, fixed }, and drawn(labels, runs).
    constructor(page) {
        this.page = page;
        this.millimetres = 4;
        this.isBall = true;
        this.isHeld = true;
        this.erases = false;
        this.stroke = null;
    }

    begin(view, x, y) {
        const what = this.page.draws();
        if (!what) {
            return;
        }
        this.stroke = { ...what, view, before: new Map(), labels: onWholeGrid(this.page.labels, this.page.data.grid.size) };
        this.move(x, y);
    }

    // Draws from the last point on, without gaps.
    move(x, y) {
        const { stroke } = this;
        if (!stroke) {
            return;
        }
        const [x0, y0] = stroke.last ?? [x, y];
        const { stepRight } = stroke.view.layout;
        const pixels = (this.millimetres * stroke.view.voxelPixels[0]) / stepRight / 2;
        const steps = Math.ceil(Math.hypot(x - x0, y - y0) / Math.max(1, pixels));
        for (let step = 1; step <= Math.max(1, steps); step++) {
            const share = steps ? step / steps : 1;
            this.paint(...stroke.view.columnAndRowAt(x0 + (x - x0) * share, y0 + (y - y0) * share));
        }
        stroke.last = [x, y];
        stroke.labels = { ...stroke.labels };
        this.page.viewer.setLabels(stroke.labels);
    }

    paint(column, row) {
        const { stroke, page } = this;
        const { spacing, size } = page.data.grid;
        const centre = voxelAt(stroke.view.layout, page.viewer.voxel, Math.floor(column), Math.floor(row));
        const across = this.isBall ? -1 : stroke.view.layout.across;
        const reach = spacing.map((step, axis) => (axis === across ? 0 : Math.floor(this.millimetres / step)));
        const [low, high] = [-1, 1].map((side) =>
            centre.map((at, axis) => clamped(at + side * reach[axis], 0, size[axis] - 1)),
        );
        for (let k = low[2]; k <= high[2]; k++) {
            for (let j = low[1]; j <= high[1]; j++) {
                for (let i = low[0]; i <= high[0]; i++) {
                    const offsets = [i, j, k].map((at, axis) => (at - centre[axis]) * spacing[axis]);
                    if (Math.hypot(...offsets) <= this.millimetres && this.mayDraw([i, j, k])) {
                        this.set(i + size[0] * (j + size[1] * k));
                    }
                }
            }
        }
    }

    // Whether the model is unsure of a voxel, as far as the brush is held to such ones.
    mayDraw(voxel) {
        const { error_probability: map } = this.page.data.maps;
        if (!this.isHeld || !map?.data) {
            return true;
        }
        const [low, high] = map.window;
        return valueAt(map, voxel, 0) >= 2 + Math.ceil(((LEAST_ERROR - low) * map.steps) / (high - low));
    }

    set(at) {
        const { before, fixed, labels, value } = this.stroke;
        const label = labels.data[at];
        if (label === value || fixed.has(label) || (this.erases && label !== this.stroke.own)) {
            return;
        }
        if (!before.has(at)) {
            before.set(at, label);
        }
        labels.data[at] = value;
    }

    end() {
        const { stroke } = this;
        this.stroke = null;
        if (!stroke) {
            return;
        }
        const runs = [];
        for (const at of [...stroke.before.keys()].sort((a, b) => a - b)) {
            const [before, last] = [stroke.before.get(at), runs.at(-1)];
            if (last && last[0] + last[1] === at && last[2] === before) {
                last[1] += 1;
            } else {
                runs.push([at, 1, before, stroke.value]);
            }
        }
        this.page.drawn(stroke.labels, runs, "brush");
    }

    cancel() {
        this.stroke = null;
        this.page.viewer.setLabels(this.page.labels);
    }
}
