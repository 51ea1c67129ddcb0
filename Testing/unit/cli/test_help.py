"""What every `--help` has in common: examples that parse, required options apart, options only where they matter."""

import argparse
import shlex

import pytest

from SegWithUCore.cli.__main__ import parser
from SegWithUCore.cli.help import EXAMPLES, NETWORK, leaves

TOP = parser()
COMMANDS = {leaf.prog.removeprefix("segwithu "): leaf for leaf in leaves(TOP)}


def own_options(command: argparse.ArgumentParser) -> set[str]:
    return {string for action in command._actions for string in action.option_strings}


def test_every_command_has_examples_that_parse() -> None:
    assert set(EXAMPLES) | set(NETWORK) <= set(COMMANDS)
    for name, command in COMMANDS.items():
        help_text = command.format_help()
        text = help_text.partition("examples:\n")[2].replace("\\\n", " ")
        examples = [line.strip() for line in text.splitlines() if line.strip()]
        assert examples, f"{name} has no example"
        for example in examples:
            options = TOP.parse_args(shlex.split(example.removeprefix("segwithu "), comments=True))
            assert name.startswith(options.command), example


@pytest.mark.parametrize("name", COMMANDS)
def test_required_options_stand_apart(name: str) -> None:
    for group in COMMANDS[name]._action_groups:
        for action in group._group_actions:
            if action.required and action.option_strings:
                assert (group.title or "").startswith("required"), f"{action.option_strings} of {name}"


def test_options_stand_only_where_they_mean_something() -> None:
    assert {name for name, command in COMMANDS.items() if "--network" in own_options(command)} == set(NETWORK)
    for name in ("worklist", "export", "merge-reviews", "models list"):
        assert "--debug" not in COMMANDS[name].format_help()
        assert "--debug" in own_options(COMMANDS[name]), "it is taken all the same"


def test_short_forms_stand_beside_long_ones() -> None:
    options = TOP.parse_args(["segment", "-i", "a.nii.gz", "b.nii.gz", "-o", "out", "-m", "hippocampus"])
    assert (str(options.output), options.model, len(options.input)) == ("out", "hippocampus", 2)
    for name, command in COMMANDS.items():
        own = own_options(command)
        assert ("--output" in own) == ("-o" in own), name
        assert ("--model" in own) == ("-m" in own), name
