"""Every command of the page *Bring your network* runs as written, on files of the names that it uses."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from documented_commands import commands
from nnunet_results import write_result_folder
from onnx_files import network
from repository import ROOT
from segwithu_command import Command

PAGE = ROOT / "docs" / "models" / "bring_your_network.md"


def write_cases(folder: Path) -> None:
    """Noisy balls with references, and the table that the page names."""
    lines, random = ["case,role"], np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(12):
        z, y, x = np.mgrid[:16, :20, :24]
        ball = (z - 8) ** 2 + (y - random.uniform(8, 12)) ** 2 + (x - random.uniform(9, 15)) ** 2 < 36
        values = 0.25 + 0.5 * ball + random.normal(0, 0.12, ball.shape)
        for part, array in (("images", values.astype(np.float32)), ("labels", ball.astype(np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / part / f"case_{number}.nii.gz"))
        lines.append(f"case_{number},{'calibration' if number < 10 else 'test'}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(folder / "images" / "case_0.nii.gz", folder / "image.nii.gz")


def test_its_commands_run_with_its_specification(
    segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path)
    write_cases(tmp_path)
    (spec,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "network.json").write_text(spec, encoding="utf-8")
    (tmp_path / "network.onnx").write_bytes(network())
    write_result_folder(tmp_path).rename(tmp_path / "SOURCE")
    ran = []
    for words in commands(PAGE):
        outcome = segwithu(*words)
        assert outcome.code == 0, f"{words}: {outcome.err}"
        ran.append(words[0])
    assert ran == ["models", "models", "segment", "calibrate", "evaluate", "models", "models"]
    assert (tmp_path / "results" / "image" / "ranking.nii.gz").is_file()
    assert "error probability fitted on 10 calibration cases" in segwithu("models", "show", "bright").out
