"""The option `--engine` and the model that it opens, for all commands that run one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..inference.engines import AUTO, ENGINES
from ..util.errors import UsageError
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..models.bundle import Bundle


def add_engine_option(command: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    command.add_argument(
        "--engine",
        choices=ENGINES,
        default=AUTO,
        help="what runs the network: auto (default: torch where it has a graphics card, else openvino where model and "
        "computer have what it needs, else torch), torch or openvino",
    )


def say_engine(model: "Model", console: Console) -> None:
    """Say once which engine runs a model, and why."""
    facts = {"event": "engine", "model": model.bundle.name, "device": model.device, "engine": model.engine.identity()}
    text = f"{model.bundle.name}: 100% loaded, {model.engine_words}"
    console.step(terminal_line(text), {**facts, "reason": model.engine_reason})


def opened_model(
    bundle: "Bundle", options: argparse.Namespace, console: Console, device: str = AUTO, begun: Sequence[Path] = ()
) -> "Model":
    """Load a model into the engine that was asked for, or that suits best, and say which.

    Args:
        options: with `engine`, and `head` where the command has it.
        begun: case folders of a run that is gone on with: with "auto" their engine is taken.

    Raises:
        UsageError: the engine is not here.
    """
    from ..inference.engines.choice import engine_of_cases
    from ..inference.model import Model

    made_with = engine_of_cases(begun) if options.engine == AUTO else None
    try:
        model = Model(bundle, device, getattr(options, "head", None), made_with or options.engine)
    except UsageError as error:
        if made_with is None:
            raise
        reason = str(error)
        raise UsageError(
            f"The cases in {begun[0].parent} were made with the engine {made_with}, but: {reason}"
        ) from error
    if made_with is not None:
        model.engine_reason = f"as the cases in {begun[0].parent}"
    say_engine(model, console)
    return model
