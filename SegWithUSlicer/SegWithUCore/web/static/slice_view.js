// One slice view: image, map, outlines, mark of the current region and crosshair, drawn along the voxel axes.

import { element } from "./dom.js";
import { cssColour } from "./colours.js";
import { clamped, columnOf, rowOf } from "./geometry.js";
import { cutPlane, extentOf, greyPixels, tablePixels } from "./planes.js";
import { drawEdges, labelEdges, pixelEdges } from "./outlines.js";

export const MARK_COLOUR = "rgb(255 105 220)";
// Of the boxes that the model placed in a whole head.
const BOX_COLOUR = "rgb(240 228 66)";
const CROSSHAIR_COLOUR = "rgb(120 220 140)";
const CROSSHAIR_GAP = 9;
const FILL_OPACITY = 0.4;

// A plane's pixels on a canvas of one pixel a voxel.
class PlaneCanvas {
    constructor(width, height) {
        this.canvas = element("canvas", { width, height });
        this.context = this.canvas.getContext("2d");
        this.picture = this.context.createImageData(width, height);
        this.pixels = new Uint32Array(this.picture.data.buffer);
    }

    update() {
        this.context.putImageData(this.picture, 0, 0);
    }
}

export class SliceView {
    // `volumes` is { image, labels, map, mark }: boxes of the grid, or null. The viewer owns all other state.
    constructor(layout) {
        this.layout = layout;
        this.slice = -1;
        this.drawn = { image: undefined, labels: undefined, map: undefined, mark: undefined, old: undefined };
        this.origin = [0, 0];
        this.voxelPixels = [1, 1];
        const size = layout.width * layout.height;
        const made = ["map", "mark", "old"].map((name) => [name, new Uint8Array(size)]);
        this.planes = { image: null, labels: null, ...Object.fromEntries(made) };
        this.grey = new PlaneCanvas(layout.width, layout.height);
        this.coloured = new PlaneCanvas(layout.width, layout.height);
        this.filled = null;
        this.outlineLayer = element("canvas");
        this.outlineKey = "";
        this.makeElements();
    }

    makeElements() {
        const { name, letters, depth } = this.layout;
        this.canvas = element("canvas", { tabIndex: 0, role: "application", "aria-label": name, class: "slice" });
        this.context = this.canvas.getContext("2d", { alpha: false });
        this.caption = element("span", { class: "slice-caption" });
        this.slider = element("input", {
            type: "range",
            class: "slice-slider",
            min: 0,
            max: Math.max(0, depth - 1),
            step: 1,
            "aria-label": `${name} slice`,
        });
        this.enlarge = element(
            "button",
            { class: "enlarge", "aria-label": `Enlarge ${name.toLowerCase()} view`, "aria-pressed": "false" },
            "⤢",
        );
        const sides = Object.entries(letters).map(([side, text]) =>
            element("span", { class: `letters ${side}` }, text),
        );
        this.root = element(
            "section",
            { class: "view", "aria-label": `${name} view` },
            this.canvas,
            ...sides,
            this.caption,
            this.enlarge,
            this.slider,
        );
    }

    // Brings planes up to date that depend on slice and volumes. Returns which ones have changed.
    cut(volumes, slice) {
        const moved = slice !== this.slice;
        this.slice = slice;
        const changed = {};
        for (const name of ["image", "labels", "map", "mark", "old"]) {
            const volume = volumes[name];
            changed[name] = moved || this.drawn[name] !== volume;
            if (!changed[name]) {
                continue;
            }
            this.drawn[name] = volume;
            if (volume) {
                const plane = this.planeFor(name, volume);
                cutPlane(volume, this.layout, slice, plane, name === "image" ? volume.outside : 0);
            }
        }
        if (changed.labels) {
            this.labelEdges = this.edgesOf(volumes.labels, this.planes.labels);
        }
        if (changed.mark) {
            this.markEdges = this.edgesOf(volumes.mark, this.planes.mark);
        }
        if (changed.old) {
            this.oldEdges = this.edgesOf(volumes.old, this.planes.old);
        }
        return changed;
    }

    planeFor(name, volume) {
        const plane = this.planes[name];
        if (plane && plane.constructor === volume.data.constructor) {
            return plane;
        }
        this.planes[name] = new volume.data.constructor(this.layout.width * this.layout.height);
        return this.planes[name];
    }

    edgesOf(volume, plane) {
        if (!volume) {
            return new Map();
        }
        const { layout } = this;
        const columns = extentOf(volume, layout, layout.right, layout.flipRight, layout.width);
        const rows = extentOf(volume, layout, layout.down, layout.flipDown, layout.height);
        const [x, y] = [columns.first, rows.first];
        return labelEdges(plane, layout.width, layout.height, [x, y, x + columns.count, y + rows.count]);
    }

    paintImage(low, high) {
        if (this.planes.image) {
            greyPixels(this.planes.image, low, high, this.grey.pixels);
            this.grey.update();
        }
    }

    paintMap(table) {
        tablePixels(this.planes.map, table, this.coloured.pixels);
        this.coloured.update();
    }

    // `colours` is a table from label value to a 32-bit pixel.
    paintFill(colours) {
        if (!this.planes.labels) {
            return;
        }
        this.filled ??= new PlaneCanvas(this.layout.width, this.layout.height);
        const { pixels } = this.filled;
        const labels = this.planes.labels;
        for (let at = 0; at < labels.length; at++) {
            pixels[at] = colours[labels[at]];
        }
        this.filled.update();
    }

    // Fits the canvas to its place on the page. Returns whether its size has changed.
    resize(ratio) {
        const { clientWidth, clientHeight } = this.canvas;
        const [width, height] = [
            Math.max(1, Math.round(clientWidth * ratio)),
            Math.max(1, Math.round(clientHeight * ratio)),
        ];
        if (this.canvas.width === width && this.canvas.height === height) {
            return false;
        }
        this.canvas.width = width;
        this.canvas.height = height;
        return true;
    }

    // Where the planes lie on the canvas: `scale` is pixels per mm, `centre` the voxel in the middle, with fractions.
    place(scale, centre) {
        const { stepRight, stepDown } = this.layout;
        this.voxelPixels = [scale * stepRight, scale * stepDown];
        this.origin = [
            Math.round(this.canvas.width / 2 - (columnOf(this.layout, centre) + 0.5) * this.voxelPixels[0]),
            Math.round(this.canvas.height / 2 - (rowOf(this.layout, centre) + 0.5) * this.voxelPixels[1]),
        ];
    }

    // Column and row, with fractions, under a point of the canvas (in its pixels).
    columnAndRowAt(x, y) {
        return [(x - this.origin[0]) / this.voxelPixels[0], (y - this.origin[1]) / this.voxelPixels[1]];
    }

    // Draws everything; planes are painted before.
    compose(look) {
        const { context, canvas, layout } = this;
        const [x, y] = this.origin;
        const [width, height] = [layout.width * this.voxelPixels[0], layout.height * this.voxelPixels[1]];
        context.fillStyle = "black";
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.imageSmoothingEnabled = look.smooth;
        if (look.hasImage) {
            context.drawImage(this.grey.canvas, x, y, width, height);
        }
        context.imageSmoothingEnabled = false;
        if (!look.bare) {
            if (look.fill && this.filled) {
                context.globalAlpha = FILL_OPACITY;
                context.drawImage(this.filled.canvas, x, y, width, height);
                context.globalAlpha = 1;
            }
            if (look.hasMap) {
                context.drawImage(this.coloured.canvas, x, y, width, height);
            }
            this.drawOutlines(look);
        }
        this.drawCrosshair(look);
    }

    drawOutlines(look) {
        const key = [this.slice, ...this.origin, ...this.voxelPixels, look.outlineKey].join(" ");
        const { canvas, outlineLayer } = this;
        if (key !== this.outlineKey || outlineLayer.width !== canvas.width || outlineLayer.height !== canvas.height) {
            this.outlineKey = key;
            outlineLayer.width = canvas.width;
            outlineLayer.height = canvas.height;
            const context = outlineLayer.getContext("2d");
            const xs = pixelEdges(this.origin[0], this.voxelPixels[0], this.layout.width);
            const ys = pixelEdges(this.origin[1], this.voxelPixels[1], this.layout.height);
            for (const [label, edges] of this.labelEdges) {
                const colour = look.outlineColours.get(label);
                if (colour) {
                    context.fillStyle = cssColour(colour);
                    drawEdges(context, edges, xs, ys, look.thickness);
                }
            }
            context.strokeStyle = BOX_COLOUR;
            context.lineWidth = look.thickness;
            for (const [left, right, top, bottom] of this.boxesHere(look.boxes)) {
                context.strokeRect(xs[left], ys[top], xs[right] - xs[left], ys[bottom] - ys[top]);
            }
            context.fillStyle = dashes(context, 4 * look.thickness);
            for (const edges of this.oldEdges.values()) {
                drawEdges(context, edges, xs, ys, look.thickness);
            }
            context.fillStyle = MARK_COLOUR;
            for (const edges of this.markEdges.values()) {
                drawEdges(context, edges, xs, ys, 2 * look.thickness);
            }
        }
        this.context.drawImage(outlineLayer, 0, 0);
    }

    // Columns and rows at which the boxes begin, and behind which they end, that the slice runs through.
    boxesHere(boxes) {
        const { across, right, down, flipRight, flipDown, width, height } = this.layout;
        const ends = ({ index, size }, axis, flip, count) => {
            const first = flip ? count - index[axis] - size[axis] : index[axis];
            return [clamped(first, 0, count), clamped(first + size[axis], 0, count)];
        };
        return boxes
            .filter(({ index, size }) => this.slice >= index[across] && this.slice < index[across] + size[across])
            .map((box) => [...ends(box, right, flipRight, width), ...ends(box, down, flipDown, height)]);
    }

    drawCrosshair(look) {
        const { context, canvas } = this;
        const x = Math.round(this.origin[0] + (columnOf(this.layout, look.voxel) + 0.5) * this.voxelPixels[0]);
        const y = Math.round(this.origin[1] + (rowOf(this.layout, look.voxel) + 0.5) * this.voxelPixels[1]);
        const gap = Math.max(CROSSHAIR_GAP * look.thickness, Math.ceil(this.voxelPixels[0] / 2) + 2);
        context.fillStyle = CROSSHAIR_COLOUR;
        context.globalAlpha = 0.75;
        context.fillRect(x, 0, look.thickness, Math.max(0, y - gap));
        context.fillRect(x, y + gap, look.thickness, canvas.height);
        context.fillRect(0, y, Math.max(0, x - gap), look.thickness);
        context.fillRect(x + gap, y, canvas.width, look.thickness);
        context.globalAlpha = 1;
    }

    // Says where the view is, for eyes and for screen readers.
    describe(text) {
        const slice = `slice ${this.slice + 1} of ${this.layout.depth}`;
        this.caption.textContent = `${this.layout.name} ${this.slice + 1}/${this.layout.depth}`;
        this.canvas.setAttribute("aria-label", `${this.layout.name} view, ${slice}, ${text}`);
        this.slider.value = String(this.slice);
    }
}

// White and nothing in turn along both axes: lines that are filled with it look dashed.
function dashes(context, length) {
    const tile = element("canvas", { width: 2 * length, height: 2 * length });
    const pen = tile.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, length, length);
    pen.fillRect(length, length, length, length);
    return context.createPattern(tile, "repeat");
}
