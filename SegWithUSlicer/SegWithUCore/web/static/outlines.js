// Outlines of labels exactly along the edges of voxels: a line inside each label, as 3D Slicer draws them.

// Edges of the labels in a plane as flat lists of x, y, length by label; corners as x, y. Found once a slice.
// A "top" edge at (x, y) is the upper side of `length` voxels from column x on; a "left" one the left side of voxels
// from row y down. Corners are inner ones, where two edges would meet but for a voxel's corner.
export function labelEdges(plane, width, height, window) {
    const found = new Map();
    const [x0, y0, x1, y1] = window ?? [0, 0, width, height];
    for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1; x++) {
            const at = x + y * width;
            const label = plane[at];
            if (!label) {
                continue;
            }
            const up = y > 0 && plane[at - width] === label;
            const downward = y < height - 1 && plane[at + width] === label;
            const left = x > 0 && plane[at - 1] === label;
            const right = x < width - 1 && plane[at + 1] === label;
            if (up && downward && left && right) {
                if (
                    plane[at - width - 1] === label &&
                    plane[at - width + 1] === label &&
                    plane[at + width - 1] === label &&
                    plane[at + width + 1] === label
                ) {
                    continue;
                }
            }
            const edges = edgesOf(found, label);
            if (!up) {
                extendRow(edges.top, x, y);
            }
            if (!downward) {
                extendRow(edges.bottom, x, y);
            }
            if (!left) {
                edges.left.push(x, y);
            }
            if (!right) {
                edges.right.push(x, y);
            }
            if (up && left && plane[at - width - 1] !== label) {
                edges.corners.push(x, y, 0, 0);
            }
            if (up && right && plane[at - width + 1] !== label) {
                edges.corners.push(x, y, 1, 0);
            }
            if (downward && left && plane[at + width - 1] !== label) {
                edges.corners.push(x, y, 0, 1);
            }
            if (downward && right && plane[at + width + 1] !== label) {
                edges.corners.push(x, y, 1, 1);
            }
        }
    }
    return found;
}

function edgesOf(found, label) {
    let edges = found.get(label);
    if (!edges) {
        edges = { top: [], bottom: [], left: [], right: [], corners: [] };
        found.set(label, edges);
    }
    return edges;
}

function extendRow(list, x, y) {
    const last = list.length;
    if (last && list[last - 2] === y && list[last - 3] + list[last - 1] === x) {
        list[last - 1] += 1;
    } else {
        list.push(x, y, 1);
    }
}

// Fills the edges of one label. `xs` and `ys` hold the first screen pixel of each column and row, and one behind the last.
export function drawEdges(context, edges, xs, ys, thickness) {
    for (let n = 0; n < edges.top.length; n += 3) {
        const [x, y, length] = [edges.top[n], edges.top[n + 1], edges.top[n + 2]];
        context.fillRect(xs[x], ys[y], xs[x + length] - xs[x], thickness);
    }
    for (let n = 0; n < edges.bottom.length; n += 3) {
        const [x, y, length] = [edges.bottom[n], edges.bottom[n + 1], edges.bottom[n + 2]];
        context.fillRect(xs[x], ys[y + 1] - thickness, xs[x + length] - xs[x], thickness);
    }
    for (let n = 0; n < edges.left.length; n += 2) {
        const [x, y] = [edges.left[n], edges.left[n + 1]];
        context.fillRect(xs[x], ys[y], thickness, ys[y + 1] - ys[y]);
    }
    for (let n = 0; n < edges.right.length; n += 2) {
        const [x, y] = [edges.right[n], edges.right[n + 1]];
        context.fillRect(xs[x + 1] - thickness, ys[y], thickness, ys[y + 1] - ys[y]);
    }
    for (let n = 0; n < edges.corners.length; n += 4) {
        const [x, y, atRight, atBottom] = edges.corners.slice(n, n + 4);
        context.fillRect(
            atRight ? xs[x + 1] - thickness : xs[x],
            atBottom ? ys[y + 1] - thickness : ys[y],
            thickness,
            thickness,
        );
    }
}

// The first screen pixel of each of `count` voxels and one behind the last: a pixel belongs to the voxel under its centre.
export function pixelEdges(origin, scale, count) {
    const edges = new Int32Array(count + 1);
    for (let n = 0; n <= count; n++) {
        edges[n] = Math.ceil(origin + n * scale - 0.5);
    }
    return edges;
}
