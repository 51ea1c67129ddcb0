"""`segwithu models compile`, and the deep check of graphs that `models verify --deep` adds."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..util.errors import UsageError
from .arguments import add_network_option, add_threads_option
from .console import Console

if TYPE_CHECKING:
    from ..models.bundle import Bundle


def add_action(actions: Any) -> None:
    """Add `models compile`."""
    command = actions.add_parser(
        "compile",
        examples=("models compile my_model",),
        help="compile graphs for the engine openvino into a model",
        description="Write what the default head needs to run without torch into the bundle, in place of graphs that "
        "are there, and compare with torch on a stored input. Needs torch and openvino; nothing is sent anywhere.",
    )
    command.add_argument("model", help="name, NAME@VERSION or folder")
    add_network_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Compile the graphs of a model."""
    from ..inference.engines.compiled_graphs import compile_model
    from ..inference.engines.openvino_import import OpenVINOImportError
    from ..models.installed import resolve_model

    try:
        bundle = compile_model(resolve_model(options.model))
    except OpenVINOImportError as error:
        raise UsageError(f"Graphs are compiled by OpenVINO, but {error}: pip install openvino.") from error
    assert bundle.graphs is not None
    words = differences_words(bundle.graphs.largest_difference)
    console.result(f"{bundle.name}: graphs of the head '{bundle.graphs.head}'; {words}", bundle.graphs.to_json())
    return 0


def repeated_differences(bundle: "Bundle") -> dict[str, float] | None:
    """Run the graphs of a bundle on their stored input; None if it has none.

    Raises:
        UsageError: openvino is not here.
        InputError: they do not give what they gave when they were compiled.
    """
    from ..models.graphs import graphs_lacking

    if graphs_lacking(bundle) is not None:
        return None
    from ..inference.engines.compiled_graphs import repeated_check
    from ..inference.engines.openvino_engine import OpenVINOEngine
    from ..inference.engines.openvino_import import OpenVINOImportError

    try:
        engine = OpenVINOEngine(bundle)
    except OpenVINOImportError as error:
        raise UsageError(f"--deep runs the graphs of '{bundle.name}', but {error}: leave out --deep.") from error
    return repeated_check(bundle, engine)


def differences_words(found: Mapping[str, float]) -> str:
    """Say how far two engines are apart, by output."""
    return "largest differences from torch: " + ", ".join(f"{name} {value:.2g}" for name, value in found.items())
