// A small picture of a region in the plane in which it extends most, through its peak, as in the report.

import { PLANES, columnOf, makeLayout, rowOf } from "./geometry.js";
import { cssColour } from "./colours.js";
import { cutPlane, greyPixels } from "./planes.js";
import { labelEdges, drawEdges, pixelEdges } from "./outlines.js";

// Edge of what is shown as a multiple of the region's larger extent in the plane, and its smallest in mm.
const AROUND = 1.8;
const LEAST_MM = 24;
const TINT = 0xff008cff;
const TINT_SHARE = 0.4;

// Draws a region on a canvas. `peak` is a voxel; `mask` a volume of 0 and 1.
export function drawThumbnail(canvas, data, labels, rawWindow, peak, mask) {
    const { grid } = data;
    const extents = mask.size.map((size, axis) => size * grid.spacing[axis]);
    const layout = shortestAcross(grid, extents);
    const edge = Math.max(LEAST_MM, AROUND * Math.max(extents[layout.right], extents[layout.down]));
    const scale = canvas.width / edge;
    const part = partAround(layout, peak, edge);
    const context = canvas.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const [sx, sy] = [scale * layout.stepRight, scale * layout.stepDown];
    const x = Math.round(canvas.width / 2 - (columnOf(layout, peak) - part.column + 0.5) * sx);
    const y = Math.round(canvas.height / 2 - (rowOf(layout, peak) - part.row + 0.5) * sy);
    const slice = peak[layout.across];
    const cut = (volume, outside) => {
        const local = { ...volume, index: volume.index.map((first, axis) => first - part.index[axis]) };
        return cutPlane(
            local,
            part.layout,
            slice - part.index[layout.across],
            new volume.data.constructor(part.columns * part.rows),
            outside,
        );
    };
    context.imageSmoothingEnabled = true;
    if (data.image) {
        const pixels = new Uint32Array(part.columns * part.rows);
        greyPixels(cut(data.image, data.image.outside), ...rawWindow, pixels);
        paste(context, pixels, part, x, y, sx, sy);
    }
    context.imageSmoothingEnabled = false;
    context.globalAlpha = TINT_SHARE;
    const inside = cut(mask, 0);
    paste(
        context,
        Uint32Array.from(inside, (one) => (one ? TINT : 0)),
        part,
        x,
        y,
        sx,
        sy,
    );
    context.globalAlpha = 1;
    if (labels) {
        const [xs, ys] = [pixelEdges(x, sx, part.columns), pixelEdges(y, sy, part.rows)];
        const colours = new Map(data.structures.map((structure) => [structure.value, structure.color]));
        for (const [label, edges] of labelEdges(cut(labels, 0), part.columns, part.rows)) {
            context.fillStyle = cssColour(colours.get(label) ?? [255, 255, 255]);
            drawEdges(context, edges, xs, ys, 1);
        }
    }
}

// The plane across the shortest edge; of equal ones the axial, then the coronal.
function shortestAcross(grid, extents) {
    const layouts = PLANES.map((plane) => makeLayout(plane, grid));
    return layouts.reduce((best, layout) => (extents[layout.across] < extents[best.across] - 1e-9 ? layout : best));
}

// The voxels around a peak that a picture of `edge` mm needs: a layout of its own, and where it begins.
function partAround(layout, peak, edge) {
    const half = [Math.ceil(edge / 2 / layout.stepRight) + 1, Math.ceil(edge / 2 / layout.stepDown) + 1];
    const column = Math.max(0, columnOf(layout, peak) - half[0]);
    const row = Math.max(0, rowOf(layout, peak) - half[1]);
    const columns = Math.min(layout.width, columnOf(layout, peak) + half[0] + 1) - column;
    const rows = Math.min(layout.height, rowOf(layout, peak) + half[1] + 1) - row;
    const index = [0, 0, 0];
    index[layout.right] = layout.flipRight ? layout.width - column - columns : column;
    index[layout.down] = layout.flipDown ? layout.height - row - rows : row;
    return { column, row, columns, rows, index, layout: { ...layout, width: columns, height: rows } };
}

function paste(context, pixels, part, x, y, sx, sy) {
    const source = document.createElement("canvas");
    source.width = part.columns;
    source.height = part.rows;
    const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), part.columns, part.rows);
    source.getContext("2d").putImageData(picture, 0, 0);
    context.drawImage(source, x, y, part.columns * sx, part.rows * sy);
}
