// Three slice views of one case that share position, zoom, image window and overlay.

import { PLANES, clamped, makeLayout, pointText, rasOf, voxelAt } from "./geometry.js";
import { element } from "./dom.js";
import { colourTable, pixelTable } from "./colours.js";
import { SliceView } from "./slice_view.js";
import { unionBox } from "./planes.js";

const DEFAULT_OPACITY = 0.6;
const MOST_PIXELS_PER_MM = 80;
// Part of a region's extent that is left free around it at each side.
const VIEW_MARGIN = 0.1;
// Smallest field of view around a region, in mm: a handful of voxels without surroundings is of no use.
const CLOSEST_MM = 30;

export class Viewer {
    // `data` is a case as `case_data.js` loads it. `onMoved` is called after the crosshair has moved.
    constructor(data, onMoved = () => {}) {
        this.data = data;
        this.grid = data.grid;
        this.onMoved = onMoved;
        this.views = PLANES.map((plane) => new SliceView(makeLayout(plane, data.grid)));
        this.root = element("div", { class: "views" }, ...this.views.map((view) => view.root));
        this.volumes = { image: data.image, labels: data.labels, map: null, mark: null, old: null };
        // What the wheel does instead of going through slices, and the tool that draws.
        this.onWheel = null;
        this.brush = null;
        this.map = null;
        this.step = 0;
        this.opacity = DEFAULT_OPACITY;
        this.colours = "Inferno";
        this.smooth = true;
        this.fill = false;
        this.bare = false;
        this.hiddenLabels = new Set();
        // Called after the window was changed by hand.
        this.onAdjusted = () => {};
        this.window = data.image ? [...data.image.window] : [0, 1];
        this.voxel = data.grid.size.map((size) => size >> 1);
        this.centre = [...this.voxel];
        this.fitScale = 1;
        this.zoom = 1;
        this.ratio = window.devicePixelRatio || 1;
        this.frame = 0;
        this.outlineCount = 0;
        this.observer = new ResizeObserver(() => this.refresh());
        for (const view of this.views) {
            this.observer.observe(view.canvas);
        }
        for (const view of this.views) {
            view.enlarge.addEventListener("click", () => this.enlarge(view));
            view.slider.addEventListener("input", () => this.goToSlice(view, Number(view.slider.value)));
        }
    }

    // -- what is shown --

    get scale() {
        return this.fitScale * this.zoom;
    }

    moveTo(voxel) {
        this.voxel = voxel.map((index, axis) => clamped(Math.round(index), 0, this.grid.size[axis] - 1));
        this.onMoved();
        this.refresh();
    }

    goToSlice(view, slice) {
        const voxel = [...this.voxel];
        voxel[view.layout.across] = slice;
        this.moveTo(voxel);
    }

    // `name` of a map of the case, or null for none.
    setMap(name) {
        this.map = name === null ? null : this.data.maps[name];
        this.volumes = { ...this.volumes, map: this.map };
        this.refresh();
    }

    setStep(step) {
        this.step = step;
        this.refresh();
    }

    setOpacity(opacity) {
        this.opacity = opacity;
        this.refresh();
    }

    setColours(name) {
        this.colours = name;
        this.refresh();
    }

    setLabels(labels) {
        this.volumes = { ...this.volumes, labels };
        this.outlineCount += 1;
        this.refresh();
    }

    setFill(fill) {
        this.fill = fill;
        this.refresh();
    }

    setSmooth(smooth) {
        this.smooth = smooth;
        this.refresh();
    }

    setBare(bare) {
        this.bare = bare;
        this.refresh();
    }

    // Hides the outlines of these values, and shows all others.
    hideLabels(values) {
        if (String([...this.hiddenLabels]) === String(values)) {
            return;
        }
        this.hiddenLabels = new Set(values);
        this.outlineCount += 1;
        this.refresh();
    }

    // Marks a region: a box of 0 and 1, or null.
    setMark(mark) {
        this.volumes = { ...this.volumes, mark };
        this.outlineCount += 1;
        this.refresh();
    }

    // Shows a contour as it was, dashed: a volume of 0 and 1, or null.
    setOld(old) {
        this.volumes = { ...this.volumes, old };
        this.outlineCount += 1;
        this.refresh();
    }

    setWindow(low, high) {
        this.window = [low, high];
        this.refresh();
    }

    // Widens the window by a factor and shifts its middle by a share of its width.
    adjustWindow(factor, shift) {
        const [low, high] = this.window;
        const width = Math.max((high - low) * factor, 1e-6 * (Math.abs(high) + Math.abs(low) + 1e-6));
        const middle = (low + high) / 2 + shift * (high - low);
        this.setWindow(middle - width / 2, middle + width / 2);
        this.onAdjusted();
    }

    // -- zoom and pan --

    fit() {
        this.zoom = 1;
        this.centre = this.grid.size.map((size) => (size - 1) / 2);
        this.refresh();
    }

    // Zooms; the point of `view` at canvas pixel (x, y) stays where it is.
    zoomBy(factor, view = null, x = 0, y = 0) {
        const most = MOST_PIXELS_PER_MM / this.fitScale;
        const zoom = clamped(this.zoom * factor, Math.min(0.25, most), Math.max(1, most));
        if (view !== null) {
            const share = 1 - this.zoom / zoom;
            this.panBy(view, (view.canvas.width / 2 - x) * share, (view.canvas.height / 2 - y) * share);
        }
        this.zoom = zoom;
        this.refresh();
    }

    // Shifts the picture by canvas pixels.
    panBy(view, x, y) {
        const { layout } = view;
        const [columns, rows] = [x / (this.scale * layout.stepRight), y / (this.scale * layout.stepDown)];
        this.centre[layout.right] -= layout.flipRight ? -columns : columns;
        this.centre[layout.down] -= layout.flipDown ? -rows : rows;
        for (const axis of [layout.right, layout.down]) {
            this.centre[axis] = clamped(this.centre[axis], -0.5, this.grid.size[axis] - 0.5);
        }
        this.refresh();
    }

    // Goes to a voxel and keeps a box around it visible. The zoom stays unless the box does not fit, or `frameIt` asks.
    showBox(voxel, box, frameIt = false) {
        this.measure();
        const extent = box.size.map((size, axis) => Math.max(size * this.grid.spacing[axis], 1e-6));
        const needed = Math.min(
            ...this.views.flatMap(({ layout, canvas }) => [
                canvas.width / ((1 + 2 * VIEW_MARGIN) * Math.max(extent[layout.right], frameIt ? CLOSEST_MM : 0)),
                canvas.height / ((1 + 2 * VIEW_MARGIN) * Math.max(extent[layout.down], frameIt ? CLOSEST_MM : 0)),
            ]),
        );
        if (frameIt || needed < this.scale) {
            this.zoom = Math.min(needed, MOST_PIXELS_PER_MM) / this.fitScale;
        }
        const middle = box.index.map((first, axis) => first + (box.size[axis] - 1) / 2);
        if (frameIt || !this.views.every((view) => this.isInSight(view, box))) {
            this.centre = middle;
        }
        this.moveTo(voxel);
    }

    isInSight(view, box) {
        const { layout, canvas } = view;
        const half = [
            canvas.width / (2 * this.scale * layout.stepRight),
            canvas.height / (2 * this.scale * layout.stepDown),
        ];
        return [layout.right, layout.down].every((axis, n) => {
            const room = half[n] * (1 - VIEW_MARGIN);
            return (
                box.index[axis] >= this.centre[axis] - room &&
                box.index[axis] + box.size[axis] - 1 <= this.centre[axis] + room
            );
        });
    }

    // Frames what was assessed and segmented, as a case is opened.
    showAll() {
        const boxes = [this.data.labels, ...Object.values(this.data.maps)].filter(Boolean);
        const whole = { index: [0, 0, 0], size: this.grid.size };
        const box = unionBox(boxes) ?? whole;
        this.showBox(
            box.index.map((first, axis) => first + (box.size[axis] >> 1)),
            box,
            true,
        );
    }

    enlarge(view) {
        const enlarged = view.enlarge.getAttribute("aria-pressed") === "true";
        this.root.classList.toggle("one", !enlarged);
        for (const other of this.views) {
            other.root.classList.toggle("enlarged", !enlarged && other === view);
            other.enlarge.setAttribute("aria-pressed", String(!enlarged && other === view));
        }
        this.refresh();
    }

    // Moves the crosshair to the voxel under a canvas pixel.
    pick(view, x, y) {
        const [column, row] = view.columnAndRowAt(x, y);
        this.moveTo(voxelAt(view.layout, this.voxel, Math.floor(column), Math.floor(row)));
    }

    // Moves the crosshair by voxels of the screen: right, down, and towards higher slices.
    stepBy(view, right, down, across = 0) {
        const voxel = [...this.voxel];
        voxel[view.layout.right] += view.layout.flipRight ? -right : right;
        voxel[view.layout.down] += view.layout.flipDown ? -down : down;
        voxel[view.layout.across] += across;
        this.moveTo(voxel);
        this.keepInSight(view);
    }

    keepInSight(view) {
        const box = { index: this.voxel, size: [1, 1, 1] };
        if (!this.isInSight(view, box)) {
            this.centre[view.layout.right] = this.voxel[view.layout.right];
            this.centre[view.layout.down] = this.voxel[view.layout.down];
            this.refresh();
        }
    }

    // -- drawing --

    // Draws soon, once for all changes until then.
    refresh() {
        this.frame ||= requestAnimationFrame(() => this.draw());
    }

    measure() {
        this.ratio = window.devicePixelRatio || 1;
        for (const view of this.views) {
            view.resize(this.ratio);
        }
        const visible = this.views.filter(({ canvas }) => canvas.width > 1 && canvas.height > 1);
        if (visible.length) {
            this.fitScale = Math.min(
                ...visible.map(({ layout, canvas }) =>
                    Math.min(
                        canvas.width / (layout.width * layout.stepRight),
                        canvas.height / (layout.height * layout.stepDown),
                    ),
                ),
            );
        }
    }

    draw() {
        cancelAnimationFrame(this.frame);
        this.frame = 0;
        const began = performance.now();
        this.measure();
        const look = this.look();
        const table = this.map ? pixelTable(colourTable(this.colours), this.map.steps, this.step, this.opacity) : null;
        const fills = this.fill ? this.fillColours() : null;
        for (const view of this.views) {
            if (view.canvas.clientWidth === 0) {
                continue;
            }
            const changed = view.cut(this.volumes, this.voxel[view.layout.across]);
            if (changed.image || view.paintedWindow !== this.window) {
                view.paintImage(...this.rawWindow());
                view.paintedWindow = this.window;
            }
            const mapKey = `${this.colours} ${this.step} ${this.opacity}`;
            if (table && (changed.map || view.paintedMap !== mapKey)) {
                view.paintMap(table);
                view.paintedMap = mapKey;
            }
            if (fills && (changed.labels || view.paintedFill !== this.outlineCount)) {
                view.paintFill(fills);
                view.paintedFill = this.outlineCount;
            }
            view.place(this.scale, this.centre);
            view.compose(look);
            view.describe(look.place);
        }
        performance.measure("segwithu-draw", { start: began, end: performance.now() });
    }

    look() {
        return {
            voxel: this.voxel,
            smooth: this.smooth,
            fill: this.fill,
            bare: this.bare,
            hasImage: this.volumes.image !== null,
            hasMap: this.map !== null,
            thickness: Math.max(1, Math.round(this.ratio)),
            outlineKey: this.outlineCount,
            outlineColours: this.outlineColours(),
            boxes: this.data.boxes ?? [],
            place: pointText(rasOf(this.grid, this.voxel)),
        };
    }

    outlineColours() {
        const shown = this.data.structures.filter((structure) => !this.hiddenLabels.has(structure.value));
        return new Map(shown.map((structure) => [structure.value, structure.color]));
    }

    fillColours() {
        const colours = new Uint32Array(65536);
        for (const [value, [red, green, blue]] of this.outlineColours()) {
            colours[value] = 0xff000000 | (blue << 16) | (green << 8) | red;
        }
        return colours;
    }

    rawWindow() {
        const { image } = this.data;
        return image ? this.window.map((value) => (value - image.offset) / image.scale) : [0, 1];
    }

    close() {
        this.observer.disconnect();
        cancelAnimationFrame(this.frame);
        this.frame = 0;
    }
}
