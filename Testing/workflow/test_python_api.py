"""The functions for notebooks: what they give, what they refuse, that they write nothing, and the pages that use them.

What is compared with is the command's own case folder of the shipped sample.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import MODEL, ROOT, SAMPLE, SAMPLE_ROI, entries, tiny_bundle

import segwithu
from segwithu import SegmentationResult, load_model, segment_image
from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_image import case_image
from SegWithUCore.cli.__main__ import main
from SegWithUCore.util.errors import InputError, OutputError, UsageError

pytestmark = pytest.mark.slow

ROI = (-28, -22, -14, 36, 50, 36)
VOLUMES = ("segmentation", "error_probability", "ranking", "calibration")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model("hippocampus", device="cpu")


@pytest.fixture(scope="module")
def case_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case folder that the command writes."""
    output = tmp_path_factory.mktemp("command")
    options = ["--model", str(MODEL), "--device", "cpu", "--output", str(output), "--name", "sample"]
    assert main(["segment", str(SAMPLE), SAMPLE_ROI, *options]) == 0
    return output / "sample"


@pytest.fixture(scope="module")
def result(model: Any) -> SegmentationResult:
    return segment_image(sitk.ReadImage(str(SAMPLE)), model, ROI)


def python_blocks(page: Path) -> str:
    """The code of a page; its blocks run one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))


def in_a_child(code: str, cwd: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a Python of its own whose home and temporary folder are empty ones."""
    (home / "tmp").mkdir(parents=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "SEGWITHU_"))}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "LOCALAPPDATA": str(home)}
    environment["MPLCONFIGDIR"] = str(home.parent / "fonts")  # monai imports matplotlib, which keeps a list of fonts
    environment |= {"PYTHONPATH": str(ROOT / "SegWithUSlicer"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_those_of_the_commands_files(name: str, result: SegmentationResult, case_folder: Path) -> None:
    written = sitk.ReadImage(str(case_folder / f"{name}.nii.gz"))
    image = getattr(result, name)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(written))
    np.testing.assert_array_equal(result.array(name), sitk.GetArrayFromImage(written))
    assert image.GetPixelID() == written.GetPixelID()
    given = sitk.ReadImage(str(SAMPLE))
    for values in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, values)() == getattr(given, values)()


def test_structures_regions_and_warnings_are_those_of_case_json(result: SegmentationResult, case_folder: Path) -> None:
    case = read_case(case_folder)
    assert [structure.to_json() for structure in result.structures] == case["structures"]
    assert [warning.to_json() for warning in result.warnings] == case["ood"]["warnings"]
    assert len(result.regions) == case["regions"]["count"] > 0
    assert result.labels == {0: "background", 1: "anterior hippocampus", 2: "posterior hippocampus"}
    assert "regions" in repr(result)


def test_a_path_gives_the_same_as_an_image(result: SegmentationResult, model: Any) -> None:
    from_path = segment_image(SAMPLE, model, ROI)
    for name in VOLUMES:
        np.testing.assert_array_equal(from_path.array(name), result.array(name))


def image_of(array: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image


def test_saved_images_from_memory_make_a_case_folder_of_their_own(
    result: SegmentationResult, case_folder: Path, tmp_path: Path
) -> None:
    folder = result.save(tmp_path / "saved")
    assert entries(folder) == sorted([*entries(case_folder), "image.nii.gz"])
    case, before = read_case(folder), read_case(case_folder)
    assert case["name"] == "saved"
    assert [case[key] for key in ("structures", "maps", "model")] == [
        before[key] for key in ("structures", "maps", "model")
    ]
    found = case_image(folder, case)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLE))))
    with pytest.raises(OutputError, match="exists already"):
        result.save(folder)
    result.save(folder, overwrite=True)


def test_a_saved_path_is_led_back_to(model: Any, tmp_path: Path) -> None:
    image = tmp_path / "brain.nii.gz"
    shutil.copy(SAMPLE, image)
    folder = segment_image(str(image), model, ROI).save(tmp_path / "case")
    assert not (folder / "image.nii.gz").exists()
    assert (folder / read_case(folder)["input"]["channels"][0]["file"]).resolve() == image.resolve()


def test_several_channels_in_memory_are_all_kept(tmp_path: Path) -> None:
    model = load_model(tiny_bundle(tmp_path / "two", ("T1", "FLAIR"), calibrated=False))
    t1 = np.random.default_rng(0).normal(size=(36, 52, 36))
    found = segment_image([image_of(t1, (1, 1, 1.5)), image_of(t1[::-1], (1, 1, 1.5))], model)
    assert found.error_probability is None
    assert found.regions == []
    with pytest.raises(UsageError, match="not calibrated"):
        found.array("error_probability")
    folder = found.save(tmp_path / "case")
    case = read_case(folder)
    second = case_image(folder, case, channel=1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(second), t1[::-1].astype(np.float32))
    assert second.GetSpacing() == (1, 1, 1.5)
    assert refusal_of(image_of(t1), model) == "other-channels"
    with pytest.raises(InputError, match="FLAIR image is not on the grid of T1 image"):
        segment_image([image_of(t1), image_of(t1[1:])], model)


def refusal_of(image: Any, model: Any, *roi: Sequence[float], **options: Any) -> str:
    """The code with which `segment_image` refuses a call."""
    with pytest.raises((InputError, UsageError)) as caught:
        segment_image(image, model, *roi, **options)
    return caught.value.code


def test_what_the_command_refuses_is_refused(model: Any) -> None:
    whole, small = sitk.ReadImage(str(SAMPLE)), (*ROI[:3], 5, 5, 5)
    with pytest.raises(InputError, match=r"T1 image: .* or insist with unlike_training=True"):
        segment_image(whole, model, small)
    insisted = segment_image(whole, model, small, unlike_training=True)
    assert "refused" in {warning.severity for warning in insisted.warnings}
    assert refusal_of(whole, model, (900, 0, 0, 10, 10, 10)) == "outside-image"
    assert refusal_of(whole[:90, :90, :90], model) == "not-placed"


ARRAY = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("image", "options", "code"),
    [
        (ARRAY, {}, "wrong-usage"),
        (image_of(ARRAY[0], (1, 1)), {}, "unusable-input"),
        (image_of(ARRAY * np.nan), {}, "voxels-not-finite"),
        (image_of(ARRAY * 0), {}, "unusable-input"),
        (SAMPLE, {"roi": (1, 2, 3)}, "wrong-usage"),
        (SAMPLE, {"roi": "brain!"}, "wrong-usage"),
        (SAMPLE, {"series": "1.2"}, "wrong-usage"),
        ("not_there.nii.gz", {}, "missing-file"),
        ({"T1": SAMPLE}, {}, "wrong-usage"),
        ([], {}, "other-channels"),
        ([SAMPLE, SAMPLE], {}, "other-channels"),
        ([SAMPLE, SAMPLE], {"series": "1.2"}, "wrong-usage"),
    ],
)
def test_wrong_calls_are_refused(image: Any, options: dict[str, Any], code: str, model: Any) -> None:
    assert refusal_of(image, model, **options) == code


def test_files_and_images_do_not_mix(tmp_path: Path) -> None:
    model = load_model(tiny_bundle(tmp_path / "two", ("T1", "FLAIR"), calibrated=False))
    with pytest.raises(UsageError, match="give paths"):
        segment_image([sitk.ReadImage(str(SAMPLE)), SAMPLE], model)


def test_no_such_model_or_device() -> None:
    with pytest.raises(UsageError, match="hippocampus"):
        load_model("liver")
    with pytest.raises(UsageError, match="device"):
        load_model("hippocampus", device="tpu")
    with pytest.raises(InputError, match="no head"):
        load_model(MODEL, head="third")


def test_importing_the_package_loads_nothing_third_party(tmp_path: Path) -> None:
    code = "import sys, segwithu; assert 'segment_image' in dir(segwithu); print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in in_a_child(code, tmp_path, tmp_path / "home").stdout.split()}
    assert "segwithu" in loaded
    assert loaded.isdisjoint({"torch", "SimpleITK", "numpy", "monai", "scipy", "matplotlib"})
    with pytest.raises(AttributeError, match="segment_images"):
        segwithu.segment_images  # type: ignore[attr-defined]  # noqa: B018
    assert (Path(segwithu.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_the_pages_code_runs_as_written_and_writes_nothing(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    shutil.copy(SAMPLE, work / "brain.nii.gz")
    (work / "Resources").symlink_to(ROOT / "Resources")
    before: Sequence[str] = entries(work)
    done = in_a_child(python_blocks(ROOT / "docs" / "user" / "python.md"), work, home)
    assert done.returncode == 0, done.stderr
    assert "hippocampus" in done.stdout
    assert entries(work) == before
    assert entries(home) == ["tmp"]


def test_the_stable_api_runs_as_the_page_has_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("Resources", "Testing"):
        (work / name).symlink_to(ROOT / name)
    done = in_a_child(python_blocks(ROOT / "docs" / "reference" / "stable_api.md"), work, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "not-a-case" in done.stdout
    assert entries(work / "results") != []
