"""OpenVINO, imported without its telemetry: the only place where it is imported; no NumPy here.

Its telemetry reports home unasked from a process of its own, so a stub takes its place first.
"""

import importlib
import sys
from types import ModuleType

from ...util.errors import InputError
from . import OPENVINO

LEAST_VERSION = (2025, 2)
TELEMETRY = "openvino_telemetry"


class OpenVINOImportError(Exception):
    """OpenVINO is not there or does not work; the message is a clause."""


class GraphRunError(InputError):
    """Graphs that are whole do not run with this OpenVINO on this computer."""


def import_openvino() -> ModuleType:
    """Import OpenVINO with its telemetry switched off.

    Raises:
        OpenVINOImportError: it is not installed, does not load, or is too old.
    """
    keep_openvino_quiet()
    try:
        openvino = importlib.import_module("openvino")
        version = str(openvino.__version__)
        openvino.Core  # noqa: B018 - half an installation lacks it
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise OpenVINOImportError("openvino is not installed") from error
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        raise OpenVINOImportError(f"openvino cannot be imported ({words})") from error
    if _numbers(version) < LEAST_VERSION:
        least = ".".join(str(number) for number in LEAST_VERSION)
        raise OpenVINOImportError(f"openvino {version.split('-')[0]} is too old: {least} or newer is needed")
    return openvino


def keep_openvino_quiet() -> None:
    """Switch the telemetry off before OpenVINO is imported: it then takes a stub of its own."""
    if OPENVINO not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]


def openvino_version(openvino: ModuleType) -> str:
    """Return the version as users know it, such as "2026.4.1", without the build."""
    return str(openvino.__version__).split("-")[0]


def _numbers(version: str) -> tuple[int, ...]:
    numbers = version.split("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdigit())[:2]
