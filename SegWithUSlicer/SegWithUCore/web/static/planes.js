// Cuts through volumes as they are drawn. A volume is a box of the grid: `{ index, size, data }`, i fastest, then j, k.

// Copies the plane of a layout through `slice` (an index of the axis across) into `target`, rows from the top. Where the
// box does not reach, the plane keeps `outside`.
export function cutPlane(volume, layout, slice, target, outside) {
    target.fill(outside);
    const { across, right, down } = layout;
    const depth = slice - volume.index[across];
    if (depth < 0 || depth >= volume.size[across]) {
        return target;
    }
    const strides = [1, volume.size[0], volume.size[0] * volume.size[1]];
    const columns = extentOf(volume, layout, right, layout.flipRight, layout.width);
    const rows = extentOf(volume, layout, down, layout.flipDown, layout.height);
    const stepColumn = columns.step * strides[right];
    const stepRow = rows.step * strides[down];
    const start = depth * strides[across] + columns.voxel * strides[right] + rows.voxel * strides[down];
    const data = volume.data;
    for (let row = 0; row < rows.count; row++) {
        let from = start + row * stepRow;
        let to = (rows.first + row) * layout.width + columns.first;
        for (const end = to + columns.count; to < end; to++) {
            target[to] = data[from];
            from += stepColumn;
        }
    }
    return target;
}

// Which columns (or rows) of a plane a volume fills along an axis: the first one, how many, the volume's voxel there, and
// whether it runs on or back.
export function extentOf(volume, layout, axis, flipped, length) {
    const size = volume.size[axis];
    const begin = flipped ? length - volume.index[axis] - size : volume.index[axis];
    const first = Math.max(0, begin);
    const count = Math.max(0, Math.min(length, begin + size) - first);
    const skipped = first - begin;
    return { first, count, voxel: flipped ? size - 1 - skipped : skipped, step: flipped ? -1 : 1 };
}

// The value of one voxel; `outside` where the box does not reach.
export function valueAt(volume, voxel, outside) {
    const [i, j, k] = voxel.map((index, axis) => index - volume.index[axis]);
    const [ni, nj, nk] = volume.size;
    const inside = i >= 0 && j >= 0 && k >= 0 && i < ni && j < nj && k < nk;
    return inside ? volume.data[i + ni * (j + nj * k)] : outside;
}

// Grey pixels of raw values between `low` (black) and `high` (white).
export function greyPixels(raw, low, high, pixels) {
    const factor = high > low ? 255 / (high - low) : 0;
    for (let at = 0; at < raw.length; at++) {
        let grey = (raw[at] - low) * factor;
        grey = grey <= 0 ? 0 : grey >= 255 ? 255 : grey | 0;
        pixels[at] = 0xff000000 | (grey * 0x010101);
    }
}

// Pixels of bytes by a table of 256 colours.
export function tablePixels(raw, table, pixels) {
    for (let at = 0; at < raw.length; at++) {
        pixels[at] = table[raw[at]];
    }
}

// The smallest box that holds all of several boxes.
export function unionBox(boxes) {
    const filled = boxes.filter((box) => box.size.every((size) => size > 0));
    if (!filled.length) {
        return null;
    }
    const index = [0, 1, 2].map((axis) => Math.min(...filled.map((box) => box.index[axis])));
    const end = [0, 1, 2].map((axis) => Math.max(...filled.map((box) => box.index[axis] + box.size[axis])));
    return { index, size: end.map((last, axis) => last - index[axis]) };
}

// Of the voxels that have a label: one in the middle, and the smallest box around them; null for none.
export function extentOfLabel({ index, size, data }, label) {
    const voxelAt = (at) => [at % size[0], Math.floor(at / size[0]) % size[1], Math.floor(at / (size[0] * size[1]))];
    const middle = data.indexOf(label, (data.indexOf(label) + data.lastIndexOf(label)) >> 1);
    if (middle < 0) {
        return null;
    }
    const [low, high] = [[...size], [0, 0, 0]];
    for (let at = data.indexOf(label); at >= 0; at = data.indexOf(label, at + 1)) {
        voxelAt(at).forEach((position, axis) => {
            low[axis] = Math.min(low[axis], position);
            high[axis] = Math.max(high[axis], position);
        });
    }
    const onGrid = (voxel) => voxel.map((position, axis) => position + index[axis]);
    return { voxel: onGrid(voxelAt(middle)), index: onGrid(low), size: high.map((last, axis) => last + 1 - low[axis]) };
}
