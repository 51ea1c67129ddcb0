"""Where the voxels of a NIfTI file lie: its two forms, which of them counts, and whether they agree.

The rule is that of ITK 5.4 (NiftiImageIO), through which Slicer reads too: without a form the place is unknown; of two
forms the sform counts if its code is 1 (scanner) or if it nearly equals the qform, else the qform.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from .grid import ORTHONORMAL, check_geometry, skew, times
from .nifti_header import NiftiHeader, contradiction

QFORM, SFORM = "qform", "sform"
FORMS = (QFORM, SFORM)
_SAME_SIZE = 1e-3
"""Relative difference of voxel sizes that rounding to four digits explains."""
_NEARLY_EQUAL = 1e-4
"""Within which ITK takes two forms for one: elements of the rotation, and mm of the offset."""
_SCANNER = 1
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_CORRECTION = "(fslorient and nibabel can make them alike)"


@dataclass(frozen=True)
class Form:
    """One of a header's two forms.

    Attributes:
        name: "qform" or "sform".
        code: what space it leads to.
        direction: (3, 3), one axis a column, orthonormal, RAS.
        offset: of the first voxel, mm, RAS.
        spacing: mm.
    """

    name: str
    code: int
    direction: np.ndarray
    offset: np.ndarray
    spacing: tuple[float, float, float]

    def point(self, index: np.ndarray) -> np.ndarray:
        """Where an index (i, j, k) lies, mm, RAS."""
        return self.direction @ (index * np.asarray(self.spacing)) + self.offset

    @property
    def letters(self) -> str:
        """The three letters towards which the axes run (nearest, for oblique grids)."""
        axes = [int(np.abs(axis).argmax()) for axis in self.direction.T]
        return "".join("RAS"[axis] if self.direction[axis, n] > 0 else "LPI"[axis] for n, axis in enumerate(axes))


@dataclass(frozen=True)
class NiftiGrid:
    """Both forms of a file, as far as it has them; they have one voxel size and one handedness.

    Attributes:
        size: voxels along i, j, k.
        spacing: mm.
        forms: by name; empty if the place is unknown.
        rule: name of the form that counts unless the user says otherwise; empty if there is none.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    forms: dict[str, Form]
    rule: str

    def geometry(self, name: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Spacing, origin and direction (row by row), mm, LPS, as SimpleITK takes them.

        Args:
            name: the form to go by; where the file lacks it, or without one, that of the rule.
        """
        form = self.forms.get(name or self.rule) or self.forms.get(self.rule)
        if form is None:  # unknown: as ITK has it
            return self.spacing, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())
        origin, direction = _TO_LPS @ form.offset, _TO_LPS @ form.direction
        return self.spacing, tuple(origin.tolist()), tuple(direction.ravel().tolist())

    def positions(self) -> str:
        """Where each of two forms puts the image, in words; empty if there is one place (or none)."""
        if len(self.forms) < 2:
            return ""
        qform, sform = self.forms[QFORM], self.forms[SFORM]
        ends = [np.array(end) for end in product(*((0, n - 1) for n in self.size))]
        apart = max(float(np.linalg.norm(qform.point(end) - sform.point(end))) for end in ends)
        longest = float(np.linalg.norm(np.asarray(self.size) * self.spacing))
        # A qform in single precision is off by up to 6e-4 rad near half turns, where the root of a difference counts.
        if apart <= max(0.5 * min(self.spacing), 1e-3 * longest):
            return ""
        middle = (np.asarray(self.size) - 1) / 2
        each = " and ".join(
            f"at RAS {_point(form.point(middle))} mm with axes towards {form.letters} by its {form.name} "
            f"(code {form.code})"
            for form in (qform, sform)
        )
        return f"its middle lies {each}, up to {apart:.3g} mm apart"


def nifti_grid(header: NiftiHeader) -> NiftiGrid:
    """Read the grid of a volume, by both forms of its header.

    Raises:
        InputError: a form or voxel size cannot be, the axes are sheared, or the forms differ in voxel size or
            handedness.
    """
    spacing = _spacing(header)
    forms = {}
    if header.codes[0]:
        forms[QFORM] = _qform(header, spacing)
    if header.codes[1]:
        forms[SFORM] = _sform(header, spacing)
    rule = next(iter(forms), "")
    if len(forms) == 2:
        _check_handedness(header.path, forms)
        rule = SFORM if header.codes[1] == _SCANNER or _nearly_equal(*forms.values()) else QFORM
    grid = NiftiGrid((header.size[0], header.size[1], header.size[2]), spacing, forms, rule)
    for name in forms or [""]:
        _, origin, direction = grid.geometry(name)
        check_geometry(header.path, header.size, spacing, origin, np.reshape(direction, (3, 3)))
    return grid


def _spacing(header: NiftiHeader) -> tuple[float, float, float]:
    i, j, k = header.pixdim[1:4]
    if not np.isfinite(header.pixdim).all() or min(i, j, k) <= 0:
        raise contradiction(header.path, f"gives voxels of {times((i, j, k))} (pixdim), of which each must be positive")
    return i * header.mm_per_unit, j * header.mm_per_unit, k * header.mm_per_unit


def _qform(header: NiftiHeader, spacing: tuple[float, float, float]) -> Form:
    """Compute the rotation of a quaternion, whose first number the header leaves out (nifti1.h, method 2)."""
    b, c, d = header.quaternion
    norm = b * b + c * c + d * d
    if not np.isfinite([b, c, d, *header.qoffset]).all() or norm > 1 + ORTHONORMAL:
        numbers = ", ".join(f"{value:g}" for value in (b, c, d, *header.qoffset))
        raise contradiction(header.path, f"gives a qform that is no rotation and place ({numbers})")
    a = np.sqrt(max(0.0, 1 - norm))
    if 1 - norm < 1e-7:  # as the NIfTI library: half a turn
        a = 0.0
        b, c, d = np.array([b, c, d]) / np.sqrt(norm)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    rotation[:, 2] *= -1 if header.pixdim[0] < 0 else 1
    matrix = _stored(rotation * np.asarray(header.pixdim[1:4]), header.version)
    offset = np.asarray(header.qoffset) * header.mm_per_unit
    return Form(QFORM, header.codes[0], matrix / np.linalg.norm(matrix, axis=0), offset, spacing)


def _stored(matrix: np.ndarray, version: int) -> np.ndarray:
    """Return the matrix as ITK keeps it: in single precision, of files that it can read."""
    return matrix.astype(np.float32).astype(float) if version == 1 else matrix


def _sform(header: NiftiHeader, spacing: tuple[float, float, float]) -> Form:
    matrix, offset = header.srow[:, :3], header.srow[:, 3] * header.mm_per_unit
    if not np.isfinite(header.srow).all():
        raise contradiction(header.path, "gives an sform with NaN or infinite numbers")
    lengths = np.linalg.norm(matrix, axis=0)
    if np.abs(lengths / header.pixdim[1:4] - 1).max() > _SAME_SIZE:
        sizes = f"{times(spacing)} mm by pixdim{' (qform)' if header.codes[0] else ''}"
        sform = times((lengths * header.mm_per_unit).tolist())
        # ITK, and so Slicer, takes pixdim; nibabel and FSL take the sform: volumes and places would be two.
        sentence = f"gives voxels of {sizes} and of {sform} mm by the sform {_CORRECTION}"
        raise contradiction(header.path, sentence, code="two-voxel-sizes")
    direction = matrix / lengths
    if problem := skew(direction):
        raise contradiction(header.path, f"{problem} by its sform")
    if np.abs(direction @ direction.T - np.eye(3)).max() > _NEARLY_EQUAL:  # ITK refuses these, or turns them like this
        left, _, right = np.linalg.svd(direction)
        direction = left @ right
    return Form(SFORM, header.codes[1], direction, offset, spacing)


def _check_handedness(path: Path, forms: dict[str, Form]) -> None:
    qform, sform = forms[QFORM], forms[SFORM]
    if np.linalg.det(qform.direction) * np.linalg.det(sform.direction) < 0:
        raise contradiction(
            path,
            f"lets the axes run towards {qform.letters} by the qform (code {qform.code}) and {sform.letters} by the "
            f"sform (code {sform.code}), mirror images of each other {_CORRECTION}",
        )


def _nearly_equal(a: Form, b: Form) -> bool:
    rotation = np.abs(a.direction - b.direction).max()
    return bool(rotation <= _NEARLY_EQUAL and np.abs(a.offset - b.offset).max() <= _NEARLY_EQUAL)


def _point(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value + 0.0:.1f}" for value in values) + ")"
