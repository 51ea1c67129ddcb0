"""Every command of the page *Bring your network* runs as written, on files of the names that it uses."""

import re
from pathlib import Path

import pytest
from documented_commands import commands
from nnunet_results import write_result_folder
from onnx_files import network, write_cases
from repository import ROOT
from segwithu_command import Command

PAGE = ROOT / "docs" / "models" / "bring_your_network.md"


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
