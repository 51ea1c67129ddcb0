"""Cases that are parts of one scan: recognised by the step of their grey values, and asked about by `plan`."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.cli.__main__ import main
from SegWithUCore.util.errors import InputError
from SegWithULab.training.dataset import Case
from SegWithULab.training.run_record import hashes_of
from SegWithULab.training.survey import check_patients, grey_value_step, pairs_of_one_scan

STEPS = {"a_1": 0.37, "a_2": 0.37 * (1 + 1e-7), "a_3": 0.41, "a_4": 0.41, "a_5": 1.0, "a_6": 1.0, "a_7": 1.0,
         "a_8": 0.73, "b_9": 0.73, "a_9": None, "a_10": 0.52, "a_12": 0.52}  # fmt: skip


def scaled(step: float, seed: int, size: int = 24) -> np.ndarray:
    """Grey values of a scan as scaling leaves them, float32."""
    return (np.random.default_rng(seed).integers(0, 3000, (size,) * 3) * step - 5).astype(np.float32)


@pytest.mark.parametrize("step", [1.0, 0.0317, 411.3])
def test_the_step_of_grey_values_is_exact_enough_to_tell_scans_apart(step: float) -> None:
    steps = [grey_value_step(scaled(step, seed)) for seed in (1, 2)]
    assert steps == [pytest.approx(step, rel=1e-6)] * 2


def test_values_on_no_lattice_have_no_step() -> None:
    assert grey_value_step(np.random.default_rng(0).normal(0, 1, (24,) * 3)) is None
    assert grey_value_step(np.ones((24,) * 3)) is None


def test_only_neighbours_with_a_step_of_their_own_are_pairs() -> None:
    assert pairs_of_one_scan(STEPS) == [("a_1", "a_2"), ("a_3", "a_4")]


def test_pairs_of_one_patient_are_no_question() -> None:
    each = {name: name for name in STEPS}
    with pytest.raises(InputError) as error:
        check_patients(STEPS, each)
    assert error.value.code == "cases-of-one-scan"
    assert "a_1 and a_2" in str(error.value)
    check_patients(STEPS, {**each, "a_2": "a_1", "a_4": "a_3"})


def test_plan_asks_for_the_patients_of_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    rows = []
    for number in range(4):
        for part, values in (("images", scaled((0.37, 0.41)[number // 2], number)), ("labels", np.zeros((24,) * 3))):
            values[8:12, 8:12, 8:12] = values[8:12, 8:12, 8:12] if part == "images" else 1
            (tmp_path / part).mkdir(exist_ok=True)
            image = sitk.GetImageFromArray(values.astype(np.float32 if part == "images" else np.uint8))
            sitk.WriteImage(image, str(tmp_path / part / f"side_{number + 1}.nii.gz"))
        rows.append(f"side_{number + 1},{('train', 'select')[number % 2]}")
    table = tmp_path / "split.csv"
    table.write_text("\n".join(["case,role", *rows]) + "\n", encoding="utf-8")
    assert main(["plan", str(table), "--output", str(tmp_path / "plan")]) == 1
    assert "side_1 and side_2" in capsys.readouterr().err
    assert not (tmp_path / "plan" / "recipe.json").exists()
    assert main(["plan", str(table), "--output", str(tmp_path / "plan"), "--different-patients"]) == 0
    patients = [f"{row},scan_{number // 2}" for number, row in enumerate(rows)]
    table.write_text("\n".join(["case,role,patient", *patients]) + "\n", encoding="utf-8")
    assert main(["plan", str(table), "--output", str(tmp_path / "again")]) == 0


SIZE = (29, 30, 31)
SCAN = np.random.default_rng(5).normal(100, 30, SIZE[::-1])


def one_voxel_changed() -> np.ndarray:
    values = SCAN.copy()
    values[0, 0, 0] = 30_000
    return values


def cases_of(folder: Path, *images: np.ndarray, patients: Sequence[str | None] = ()) -> list[Case]:
    found = []
    for number, (values, patient) in enumerate(zip_longest(images, patients)):
        path = folder / f"image_{number}.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.float32)), str(path))
        found.append(Case(f"case_{number}", (path,), path, patient))
    return found


@pytest.mark.parametrize("copy", [SCAN, one_voxel_changed(), 3 * SCAN - 7], ids=["equal", "one voxel", "rescaled"])
@pytest.mark.parametrize("patients", [(), ("p", "q")], ids=["by name", "by table"])
def test_one_image_of_two_patients_is_refused(tmp_path: Path, copy: np.ndarray, patients: Sequence[str]) -> None:
    other = np.random.default_rng(6).normal(100, 30, SIZE[::-1])
    with pytest.raises(InputError) as error:
        hashes_of(cases_of(tmp_path, SCAN, copy, other, patients=patients), print)
    assert error.value.code == "cases-of-one-scan"
    assert str(tmp_path / "image_0.nrrd") in str(error.value) and str(tmp_path / "image_1.nrrd") in str(error.value)


def test_a_copy_stored_along_other_axes_is_the_same_image(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, SCAN, SCAN)
    copy = sitk.DICOMOrient(sitk.ReadImage(str(cases[0].channels[0])), "PSR")
    sitk.WriteImage(copy, str(cases[1].channels[0]))
    with pytest.raises(InputError) as error:
        hashes_of(cases, print)
    assert error.value.code == "cases-of-one-scan"


def test_images_that_are_much_alike_are_noted_and_those_of_one_patient_are_not(tmp_path: Path) -> None:
    noisy = SCAN + np.random.default_rng(7).normal(0, 3, SIZE[::-1])
    notes: list[str] = []
    assert len(hashes_of(cases_of(tmp_path, SCAN, noisy), notes.append)) == 2
    (note,) = notes
    assert "image_0.nrrd" in note and "image_1.nrrd" in note
    assert len(hashes_of(cases_of(tmp_path, SCAN, SCAN, noisy, patients="ppp"), notes.append)) == 2
    other = np.random.default_rng(8).normal(100, 30, (31, 30, 30))
    assert len(hashes_of(cases_of(tmp_path, SCAN, other, SCAN[::-1]), notes.append)) == 3
    assert notes == [note]


PLACES = np.stack(np.meshgrid(*[np.linspace(-1, 1, 128)] * 3, indexing="ij"))
"""Every 128th voxel of it, as many as are compared, is in one column."""


def head(seed: int) -> np.ndarray:
    """A head of its own texture in noisy air."""
    rng = np.random.default_rng(seed)
    tissue = 100 + 30 * np.sin(rng.uniform(4, 9, 3) @ PLACES.reshape(3, -1)).reshape(PLACES.shape[1:])
    return np.where((PLACES**2).sum(0) < 0.6, tissue, rng.uniform(0, 4, tissue.shape)) * (np.abs(PLACES[2]) < 0.9)


@pytest.mark.parametrize("change", [lambda values: values, lambda values: 3 * values - 7, np.rint])
def test_a_large_image_with_air_around_is_found_again(
    change: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        hashes_of(cases_of(tmp_path, head(1), change(head(1))), print)
    assert error.value.code == "cases-of-one-scan"


def test_equal_images_of_almost_nothing_are_one(tmp_path: Path) -> None:
    values = np.zeros((9, 9, 9))
    values[4, 4, 3:6] = 5
    with pytest.raises(InputError) as error:
        hashes_of(cases_of(tmp_path, values, values), print)
    assert error.value.code == "cases-of-one-scan"


def test_padding_around_what_a_scanner_sees_makes_no_two_images_alike(tmp_path: Path) -> None:
    """Outside of its circle a CT has one value far below all others, in every patient."""
    y, x = np.mgrid[-1:1:60j, -1:1:60j]
    cts = [np.where(y**2 + x**2 < 1, np.random.default_rng(n).normal(0, 15, (50, 60, 60)), -3024) for n in range(2)]
    notes: list[str] = []
    assert len(hashes_of(cases_of(tmp_path, *cts), notes.append)) == 2
    assert notes == []
