"""What every `--help` has in common: examples, required options as a group of their own, options where they matter."""

import argparse
from collections.abc import Iterator, Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "segment": (
        "segment brain.nii.gz --model hippocampus --output results --roi -28,-22,-14,36,50,36",
        "segment -i DATA --each -m hippocampus -o results --resume",
        "segment DATA/split.csv:test -m my_model -o results",
    ),
    "check": ("check DATA",),
    "regions": ("regions results/case_1", "regions results/case_1 --threshold 0.4"),
    "worklist": (
        "worklist results --output results",
        "worklist results --output results --sort share",
        "worklist results --output results --sort predicted-dice --flag-soft-dice 0.88",
    ),
    "web": ("web results --open",),
    "report": ("report results/case_1", "report results/case_1 --anonymous --output case.html"),
    "export": (
        "export results --output for_colleague",
        "export results --output for_colleague --flagged --anonymous",
        "export results --output pages --page",
    ),
    "merge-reviews": ("merge-reviews back_from_colleague --into results --table agreement.csv",),
    "export-dicom": ("export-dicom results/case_1 --output dicom --source STUDY",),
    "models list": ("models list", "models list --available"),
    "models show": ("models show hippocampus",),
    "models verify": ("models verify", "models verify hippocampus --deep"),
    "models compile": ("models compile my_model",),
    "models input-check": ("models input-check my_model --cases split.csv:train --select split.csv:select",),
    "models download": ("models download liver",),
    "models import": ("models import my_model.zip",),
    "models delete": ("models delete my_model",),
    "import-checkpoint": (
        "import-checkpoint weights.safetensors --kind segwithu --recipe recipe.json --output my_model",
    ),
    "import-nnunet": ("import-nnunet nnUNet_results/Dataset004_Hippocampus --output hippocampus_nnunet",),
    "train-backbone": (
        "train-backbone --run runs/atrium --recipe recipe.json --cases split.csv:train --select split.csv:select",
        "train-backbone --run runs/atrium --cases split.csv:train --select split.csv:select --resume",
    ),
    "train-head": ("train-head --run runs/atrium --cases split.csv:train --select split.csv:select",),
    "calibrate": (
        "calibrate --run runs/atrium --cases split.csv:calibration --output models/atrium",
        "calibrate -m hippocampus --cases mine.csv:calibration -o hippocampus_here",
    ),
    "evaluate": (
        "evaluate -m hippocampus --cases split.csv:test --report evaluation",
        "evaluate -m models/atrium --cases split.csv:test --record",
    ),
    "check-calibration": ("check-calibration -m hippocampus --cases mine.csv:labelled",),
    "benchmark": ("benchmark -m hippocampus --cases split.csv:test --calibration split.csv:calibration -o benchmark",),
    "demo": ("demo", "demo --output demo"),
}
"""Of each command, without the program's name; a test parses them."""
NETWORK = (
    *("segment", "train", "train-backbone", "train-head", "calibrate", "check-calibration", "evaluate", "benchmark"),
    *("import-checkpoint", "models verify", "models compile"),
)
"""Commands that may build a user's own network."""
WITHOUT_DEBUG = ("worklist", "merge-reviews", "export", "web", "models")
"""Commands whose help leaves `--debug` out; they take it all the same."""
_SHORT = {"--output": "-o", "--model": "-m"}


class HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield every parser without sub-commands."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for child in dict.fromkeys(action.choices.values()):
            yield from leaves(child)


def finish(top: argparse.ArgumentParser) -> None:
    """Give all commands what they share: network, short forms, the group of required options, examples."""
    for parser in leaves(top):
        name = parser.prog.removeprefix(top.prog).strip()
        if name in NETWORK:
            parser.add_argument(
                "--network", metavar="FILE.py:FACTORY", help="your own network, for models whose backbone it is"
            )
        if name.split(" ")[0] in WITHOUT_DEBUG:
            _option(parser, "--debug").help = argparse.SUPPRESS
        for long, short in _SHORT.items():
            _shorten(parser, long, short)
        _group_required(parser)
        if name in EXAMPLES and parser.epilog is None:
            parser.epilog = "examples:\n" + "\n".join(f"  {top.prog} {example}" for example in EXAMPLES[name])
            parser.formatter_class = HelpFormatter


def _option(parser: argparse.ArgumentParser, long: str) -> argparse.Action:
    return parser._option_string_actions[long]


def _shorten(parser: argparse.ArgumentParser, long: str, short: str) -> None:
    action = parser._option_string_actions.get(long)
    if action is not None and short not in parser._option_string_actions:
        action.option_strings = [short, *action.option_strings]
        parser._option_string_actions[short] = action


def _group_required(parser: argparse.ArgumentParser) -> None:
    """Show what must be given in a group of its own, before what may be."""
    needed = [action for action in parser._actions if action.required and action.option_strings]
    grouped = [group for group in parser._action_groups if group.title in ("required", "required options")]
    for action in needed:
        for group in parser._action_groups:
            if action in group._group_actions and group not in grouped:
                group._group_actions.remove(action)
                if not grouped:
                    grouped.append(parser.add_argument_group("required options"))
                grouped[0]._group_actions.append(action)
    for group in grouped:  # after the positional arguments
        parser._action_groups.remove(group)
        parser._action_groups.insert(1, group)
