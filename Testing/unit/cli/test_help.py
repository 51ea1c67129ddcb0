"""What every command has in common: examples that parse, required options apart, short forms."""

import argparse
import contextlib
import shlex
from pathlib import Path

import pytest

from SegWithUCore.cli.__main__ import main, parser

TOP = parser()
COMMANDS = {leaf.prog.removeprefix("segwithu "): leaf for leaf in TOP.leaves()}


def own_options(command: argparse.ArgumentParser) -> set[str]:
    return {string for action in command._actions for string in action.option_strings}


def test_every_command_has_examples_that_parse() -> None:
    for name, command in COMMANDS.items():
        help_text = command.format_help()
        text = help_text.partition("examples:\n")[2].replace("\\\n", " ")
        examples = [line.strip() for line in text.splitlines() if line.strip()]
        assert examples, f"{name} has no example"
        for example in examples:
            options = TOP.parse_args(shlex.split(example.removeprefix("segwithu "), comments=True))
            assert name.startswith(options.command), example


def test_short_forms_stand_beside_long_ones() -> None:
    options = TOP.parse_args(["segment", "a.nii.gz", "b.nii.gz", "-o", "out", "-m", "hippocampus"])
    assert (str(options.output), options.model, len(options.cases)) == ("out", "hippocampus", 2)
    for name, command in COMMANDS.items():
        own = own_options(command)
        assert ("--output" in own) == ("-o" in own), name
        assert ("--model" in own) == ("-m" in own), name


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        (["28", "22", "14", "36", "50", "36"], "22 14 36 50 36 (numbers of one option go together, with commas"),
        (["-28,-22,-14,36,50,36mm"], "'-28,-22,-14,36,50,36mm' is not a region of interest"),
    ],
)
def test_a_region_that_is_typed_otherwise_is_told_how(
    roi: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = tmp_path / "brain.nii.gz"
    image.touch()
    with pytest.raises(SystemExit) if len(roi) > 1 else contextlib.nullcontext():
        main(["segment", str(image), "--model", "hippocampus", "--output", str(tmp_path / "out"), "--roi", *roi])
    assert said in capsys.readouterr().err
