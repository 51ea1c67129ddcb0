"""OpenVINO, imported without its telemetry: the only place where it is imported; no NumPy here.

Its telemetry reports home unasked from a process of its own, so a stub takes its place first.
"""

import importlib
import re
import sys
from types import ModuleType

from ...util.errors import InputError
from . import OPENVINO

LEAST_VERSION = (2025, 2)


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
    if release_numbers(version) < LEAST_VERSION:
        least = ".".join(str(number) for number in LEAST_VERSION)
        raise OpenVINOImportError(f"openvino {version.split('-')[0]} is too old: {least} or newer is needed")
    return openvino


def keep_openvino_quiet() -> None:
    """Switch the telemetry off before OpenVINO is imported: it then takes a stub of its own."""
    if OPENVINO not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def openvino_version(openvino: ModuleType) -> str:
    """Return the version as users know it, such as "2026.4.1", without the build."""
    return str(openvino.__version__).split("-")[0]


def release_numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version: "2.10.0rc1+cu126" gives (2, 10, 0).

    Not by `packaging`: what is too old must be named also where nothing is installed yet.
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()
