"""`segment` and `judge` without `--model`: nothing is run, and one of the installed models is proposed."""

from pathlib import Path

import pytest
import SimpleITK as sitk
from segwithu_command import ROOT, SAMPLE, Command

CROP = ROOT / "Testing" / "data" / "hippocampus" / "images" / "hippocampus_319.nii.gz"


@pytest.mark.parametrize(("image", "proposed"), [(SAMPLE, "brain"), (CROP, "hippocampus")], ids=["head", "crop"])
@pytest.mark.parametrize("command", ["segment", "judge"])
def test_the_model_that_suits_the_size_of_the_image_is_proposed(
    segwithu: Command, command: str, image: Path, proposed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [command, str(image), *([str(image)] if command == "judge" else [])]
    outcome = segwithu(*words)
    assert outcome.code == 2
    assert f"segwithu {' '.join(words)} --model {proposed} --output results" in outcome.err
    assert "[no-model]" in outcome.err
    assert {line.partition(":")[0] for line in outcome.err.splitlines()} == {"brain", "hippocampus", "segwithu"}
    assert not list(tmp_path.iterdir())


def test_no_model_is_proposed_for_another_size_and_the_options_are_kept(segwithu: Command, tmp_path: Path) -> None:
    image = tmp_path / "small.nii.gz"
    sitk.WriteImage(sitk.GaussianSource(sitk.sitkFloat32, [70, 70, 70]), str(image))
    outcome = segwithu("segment", image, "--output", tmp_path / "out", "--quiet")
    assert outcome.code == 2
    assert f"--output {tmp_path / 'out'} --quiet --model NAME" in outcome.err
    outcome = segwithu("segment", image, "--model", "hippocampus")
    assert outcome.code == 2 and "--output" in outcome.err


def test_a_region_counts_as_the_image(segwithu: Command) -> None:
    outcome = segwithu("segment", SAMPLE, "--roi", "-28,-22,-14,36,50,36")
    assert "--roi=-28,-22,-14,36,50,36 --model hippocampus" in outcome.err


def test_the_series_of_another_channel_is_not_looked_for_in_the_first(segwithu: Command) -> None:
    assert "--model brain" in segwithu("segment", SAMPLE, "--series", "T2=1.2.3").err
