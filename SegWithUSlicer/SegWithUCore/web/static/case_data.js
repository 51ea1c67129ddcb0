// A case with its voxels, as the views want it: positions count from the first voxel of what is shown.

import { makeGrid } from "./geometry.js";

const ARRAYS = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, float32: Float32Array };

// Loads a case. `onPart` is called with the share that has come so far, 0 to 1.
export async function loadCase(source, id, onPart = () => {}) {
    const description = await source.case(id);
    const whole = { index: [0, 0, 0], size: description.grid.size };
    const frame = description.crop ?? whole;
    const wanted = { image: description.image, labels: description.labels };
    if (description.first_map) {
        wanted.map = description.maps[description.first_map];
    }
    const parts = Object.entries(wanted).filter(([, part]) => part);
    const total = parts.reduce((sum, [, part]) => sum + bytesOf(part), 1);
    const volumes = {};
    let loaded = 0;
    // All at once: the server prepares them side by side.
    await Promise.all(
        parts.map(async ([name, part]) => {
            volumes[name] = await loadVolume(source, id, part, frame);
            loaded += bytesOf(part);
            onPart(loaded / total);
        }),
    );
    return makeCase(description, frame, volumes);
}

// Loads the voxels of a map when it is shown first: a case may have more maps than are looked at.
export async function loadMap(source, data, name) {
    const map = data.maps[name];
    if (!map.data) {
        map.data =
            (await loadVolume(source, data.id, data.description.maps[name], data.frame))?.data ?? new Uint8Array(0);
    }
    return map;
}

function makeCase(description, frame, { image, labels, map }) {
    const maps = {};
    for (const [name, map] of Object.entries(description.maps)) {
        maps[name] = { ...map, ...shiftedBox(map.box, frame), name, data: null };
    }
    if (map) {
        maps[description.first_map].data = map.data;
    }
    if (image) {
        const { scale, offset, window, range } = description.image;
        Object.assign(image, { scale, offset, window, range, outside: Math.round((range[0] - offset) / scale) });
    }
    return {
        id: description.id,
        description,
        frame,
        grid: makeGrid(frame.size, shiftedMatrix(description.grid.ijk_to_ras, frame.index)),
        voxelMm3: description.grid.voxel_mm3,
        structures: description.structures,
        boxes: (description.boxes ?? []).map((box) => shiftedBox(box, frame)),
        image: image ?? null,
        labels: labels ?? null,
        maps,
    };
}

// Loads a volume that a case or a review names; null for an empty one.
export async function loadVolume(source, id, part, frame) {
    const voxels = voxelsOf(part.box);
    if (!voxels) {
        return null;
    }
    const buffer = await source.volume(id, part, bytesOf(part));
    return { ...shiftedBox(part.box, frame), data: new ARRAYS[part.dtype](buffer, 0, voxels) };
}

// Loads the masks of regions, one after the other as bytes 0 and 1.
export async function loadMasks(source, id, masks, regions) {
    const bytes = regions.reduce((most, region) => Math.max(most, region.mask_start + voxelsOf(region.box)), 0);
    return bytes ? new Uint8Array(await source.volume(id, masks, bytes)) : new Uint8Array(0);
}

// The voxels of a region as a volume of 0 and 1.
export function maskOf(region, masks, frame) {
    const end = region.mask_start + voxelsOf(region.box);
    return { ...shiftedBox(region.box, frame), data: masks.subarray(region.mask_start, end) };
}

export function shiftedBox(box, frame) {
    return { index: box.index.map((first, axis) => first - frame.index[axis]), size: box.size };
}

export function localVoxel(voxel, frame) {
    return voxel.map((index, axis) => index - frame.index[axis]);
}

function shiftedMatrix(matrix, index) {
    return matrix
        .slice(0, 3)
        .map((row) => [...row.slice(0, 3), row[3] + row[0] * index[0] + row[1] * index[1] + row[2] * index[2]]);
}

function voxelsOf(box) {
    return box.size[0] * box.size[1] * box.size[2];
}

function bytesOf(part) {
    return voxelsOf(part.box) * ARRAYS[part.dtype].BYTES_PER_ELEMENT;
}
