"""Networks that a user brings in a Python file of their own.

A bundle or recipe only names the kind ("python:make_network"); which file that is, the user says: on the command
line, in a recipe of theirs, or once for all in their settings file. Nothing that comes with a model is ever run.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ...util.errors import InputError, UsageError
from ...util.input_files import is_there
from ...util.strict_json import read_json_object
from ..specs import USER_PREFIX, is_user_network

SETTINGS_EXAMPLE = 'give JSON such as {"make_network": "/home/me/net.py"}'
_FILES: dict[str, Path] = {}
"""The file of each factory that the user named in this process."""


def register_network(place: str) -> str:
    """Make a user's network known to this process; its file is run only when the network is built.

    Args:
        place: `FILE.py:factory`.

    Returns:
        The kind that bundles and recipes name it by.

    Raises:
        UsageError: `place` has another form, or there is no such file.
    """
    file, _, factory = place.rpartition(":")
    if not file.endswith(".py") or not factory.isidentifier():
        raise UsageError(f"'{place}' names no network: give FILE.py:FACTORY, for example my_network.py:make_network.")
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"{file} does not exist: give the Python file that defines {factory}.")
    _FILES[factory] = path
    return f"{USER_PREFIX}{factory}"


def register_networks_of(settings: Path) -> None:
    """Make the networks of a settings file known, unless this process knows another file for a factory already.

    Args:
        settings: JSON, the file of each factory ({"make_network": "/home/me/my_network.py"}); may be missing.

    Raises:
        InputError: the settings file is damaged.
        UsageError: it names a file that does not exist.
    """
    if not is_there(settings):
        return
    for factory, file in read_json_object(settings, SETTINGS_EXAMPLE, 1 << 20).items():
        if not isinstance(file, str):
            raise InputError(f"{settings} names no file for '{factory[:60]}': {SETTINGS_EXAMPLE}.")
        if factory not in _FILES:
            register_network(f"{settings.parent / file}:{factory}")


def network_file(kind: str) -> Path:
    """Return the file of a user's network.

    Raises:
        InputError: the user named none.
    """
    factory = kind.removeprefix(USER_PREFIX)
    if factory not in _FILES:
        what = f"The code of the backbone '{factory}' is not part of the model"
        raise InputError(f"{what}: give --network FILE.py:{factory}, or name it in networks.json.", "needs-network")
    return _FILES[factory]


def network_sha256(kind: str) -> str | None:
    """Hash of the file behind a kind; None for the kinds that this program brings along."""
    return hashlib.sha256(network_file(kind).read_bytes()).hexdigest() if is_user_network(kind) else None


def build_user_network(kind: str, **arguments: Any) -> nn.Module:
    """Run the user's file and call its factory.

    Raises:
        InputError: no file was named for it, the file fails, or the factory is missing or makes no torch module.
        TypeError, ValueError: the arguments do not fit.
    """
    path, factory = network_file(kind), kind.removeprefix(USER_PREFIX)
    make: Callable[..., Any] | None = getattr(_module(path), factory, None)
    if not callable(make):
        raise InputError(f"{path} defines no {factory}: check the name after the colon.")
    network = make(**arguments)
    if not isinstance(network, nn.Module):
        raise InputError(f"{factory} in {path} makes a {type(network).__name__}: it must make a torch.nn.Module.")
    return network


def _module(path: Path) -> Any:
    name = f"segwithu_own_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path  # always there for a .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's code does wrong
        del sys.modules[name]
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be run ({type(error).__name__}: {reason}): correct it.") from error
    return module
