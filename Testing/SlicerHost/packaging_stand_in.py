"""slicer.util.pip_install and pip_uninstall: nothing is installed; every request is recorded and may fail."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Installation:
    """What pip would have been asked for."""

    requirements: list[str]


class Packaging:
    """The switchboard of a test: what was asked for, whether pip fails, what an installation changes."""

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        self.uninstalled: list[str] = []
        self.fail_with = 0
        self.after_install: Callable[[list[str]], None] | None = None

    def pip_install(self, requirements: str | list[str]) -> None:
        """Record the request; CalledProcessError when the test says that pip fails."""
        wanted = requirements.split() if isinstance(requirements, str) else list(requirements)
        self.installations.append(Installation(wanted))
        if self.fail_with:
            raise subprocess.CalledProcessError(self.fail_with, "pip install")
        if self.after_install is not None:
            self.after_install(wanted)

    def pip_uninstall(self, requirements: str | list[str]) -> None:
        """Record the request."""
        self.uninstalled += requirements.split() if isinstance(requirements, str) else list(requirements)
