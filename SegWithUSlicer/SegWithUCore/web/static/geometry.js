// How a voxel grid lies in the patient, and which way it is drawn. No drawing here.
//
// Patient axes: 0 = R, 1 = A, 2 = S, in mm, as in 3D Slicer. `matrix` maps voxel index (i, j, k) to RAS: three rows of
// four numbers. Views are drawn along the voxel axes: an oblique grid is shown as it was acquired, under the letters of
// the patient axes that are nearest.

const POSITIVE = ["R", "A", "S"];
const NEGATIVE = ["L", "P", "I"];
// A second letter is shown where an axis leans by more than 15 degrees.
const LEAN = Math.sin(Math.PI / 12);
// An axis that leans by less than this is called straight: NIfTI stores directions as 32-bit numbers.
const STRAIGHT = 1e-3;

// Name, patient axis across the view, patient axes that run along its columns (right) and rows (down). All run towards
// the negative side: the patient's right or anterior is at the left of the screen, superior or anterior at the top.
export const PLANES = [
    { name: "Axial", across: 2, right: 0, down: 1 },
    { name: "Coronal", across: 1, right: 0, down: 2 },
    { name: "Sagittal", across: 0, right: 1, down: 2 },
];

// Returns size, matrix, inverse, spacing (mm), the voxel axis of each patient axis, and whether the grid is oblique.
export function makeGrid(size, matrix) {
    const columns = [0, 1, 2].map((axis) => [0, 1, 2].map((row) => matrix[row][axis]));
    const spacing = columns.map((column) => Math.hypot(...column));
    const cosines = columns.map((column, axis) => column.map((part) => part / spacing[axis]));
    const voxelAxisOf = nearestAxes(cosines);
    const oblique = cosines.some((cosine) => Math.max(...cosine.map(Math.abs)) < 1 - STRAIGHT * STRAIGHT);
    return { size, matrix, inverse: inverted(matrix), spacing, cosines, voxelAxisOf, oblique };
}

// Which voxel axis follows patient axis R, A and S: each one once, the most parallel pair first.
function nearestAxes(cosines) {
    const pairs = [];
    for (let axis = 0; axis < 3; axis++) {
        for (let patient = 0; patient < 3; patient++) {
            pairs.push([Math.abs(cosines[axis][patient]), axis, patient]);
        }
    }
    pairs.sort((a, b) => b[0] - a[0]);
    const found = [-1, -1, -1];
    const used = new Set();
    for (const [, axis, patient] of pairs) {
        if (found[patient] < 0 && !used.has(axis)) {
            found[patient] = axis;
            used.add(axis);
        }
    }
    return found;
}

// The way a plane is drawn: voxel axes across, right and down, whether the latter two run against their index, sizes in
// voxels, mm per voxel, and the letters at the edges.
export function makeLayout(plane, grid) {
    const [across, right, down] = [plane.across, plane.right, plane.down].map((axis) => grid.voxelAxisOf[axis]);
    const [flipRight, flipDown] = [grid.cosines[right][plane.right] > 0, grid.cosines[down][plane.down] > 0];
    const toRight = grid.cosines[right].map((part) => (flipRight ? -part : part));
    const toDown = grid.cosines[down].map((part) => (flipDown ? -part : part));
    return {
        name: plane.name,
        across,
        right,
        down,
        flipRight,
        flipDown,
        width: grid.size[right],
        height: grid.size[down],
        depth: grid.size[across],
        stepRight: grid.spacing[right],
        stepDown: grid.spacing[down],
        letters: {
            right: directionLetters(toRight),
            left: directionLetters(toRight.map((part) => -part)),
            bottom: directionLetters(toDown),
            top: directionLetters(toDown.map((part) => -part)),
        },
    };
}

// Letters of a direction in the patient, the largest part first: "R", or "RA" where it leans.
export function directionLetters(direction) {
    return [0, 1, 2]
        .filter((axis) => Math.abs(direction[axis]) > LEAN)
        .sort((a, b) => Math.abs(direction[b]) - Math.abs(direction[a]))
        .map((axis) => (direction[axis] > 0 ? POSITIVE : NEGATIVE)[axis])
        .join("");
}

// Column and row of a voxel in a plane.
export function columnOf(layout, voxel) {
    return layout.flipRight ? layout.width - 1 - voxel[layout.right] : voxel[layout.right];
}

export function rowOf(layout, voxel) {
    return layout.flipDown ? layout.height - 1 - voxel[layout.down] : voxel[layout.down];
}

// The voxel at a column and row of the plane that holds `voxel`, kept inside the grid.
export function voxelAt(layout, voxel, column, row) {
    const found = [...voxel];
    found[layout.right] = clamped(layout.flipRight ? layout.width - 1 - column : column, 0, layout.width - 1);
    found[layout.down] = clamped(layout.flipDown ? layout.height - 1 - row : row, 0, layout.height - 1);
    return found;
}

export function rasOf(grid, voxel) {
    return grid.matrix.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
}

// The voxel nearest to a point, kept inside the grid.
export function voxelOf(grid, ras) {
    const offset = ras.map((part, axis) => part - grid.matrix[axis][3]);
    return grid.inverse.map((row, axis) => {
        const index = Math.round(row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]);
        return clamped(index, 0, grid.size[axis] - 1);
    });
}

// "R 28.0, A 22.0, I 14.0"
export function pointText(ras) {
    return ras
        .map((part, axis) => `${(part >= 0 ? POSITIVE : NEGATIVE)[axis]} ${Math.abs(part).toFixed(1)}`)
        .join(", ");
}

export function clamped(value, low, high) {
    return Math.min(Math.max(value, low), high);
}

function inverted(matrix) {
    const [[a, b, c], [d, e, f], [g, h, i]] = matrix;
    const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    return [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ].map((row) => row.map((part) => part / determinant));
}
