"""Options that set the rules of flags, for the commands that flag cases."""

import argparse
from dataclasses import replace
from pathlib import Path

from ..review.flags import FlagRules, read_rules, with_changes
from .arguments import finite_number


def add_flag_options(command: argparse.ArgumentParser) -> None:
    """Add a file of rules and an option a rule."""
    group = command.add_argument_group("flags", "a case is flagged beyond these limits (default: those of its model)")
    group.add_argument("--rules", type=Path, help='JSON file of limits, such as {"wrong_share": 0.2, "dice": 0.8}')
    group.add_argument("--flag-wrong-mm3", type=finite_number, help="expected wrong volume of a structure above, mm3")
    group.add_argument("--flag-wrong-share", type=finite_number, help="the same as a share of its volume, such as 0.2")
    group.add_argument(
        "--flag-interval", type=finite_number, help="volume interval wider than this share of the volume"
    )
    group.add_argument("--flag-dice", type=finite_number, help="predicted Dice below (only where it is informative)")
    group.add_argument("--no-flag-fingerprint", action="store_true", help="not for differences from training cases")
    group.add_argument("--no-flag-reviewer", action="store_true", help="not for what reviewers rejected or wished")


def flag_rules(options: argparse.Namespace) -> FlagRules | None:
    """The rules that the options set; None where they set none, and each case's own hold.

    Raises:
        UsageError: a limit is no limit.
    """
    given = {
        "wrong_mm3": options.flag_wrong_mm3,
        "wrong_share": options.flag_wrong_share,
        "interval_share": options.flag_interval,
        "dice": options.flag_dice,
    }
    switched_off = options.no_flag_fingerprint or options.no_flag_reviewer
    if options.rules is None and not switched_off and all(value is None for value in given.values()):
        return None
    rules = with_changes(read_rules(options.rules) if options.rules else FlagRules(), given)
    return replace(
        rules,
        fingerprint=rules.fingerprint and not options.no_flag_fingerprint,
        reviewer=rules.reviewer and not options.no_flag_reviewer,
    )
