"""A headless browser that opens a page as a reader does, and tells what it drew, fetched and complained about."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_OWN_SERVICES = re.compile(r"https?://([\w-]+\.)*(google|googleapis|gvt1)\.com/")
"""What a full browser asks for on its own."""


def browser() -> str:
    """The browser's name; the test is skipped where there is none."""
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    if found is None:
        pytest.skip(f"no browser to open the report with: install one of {', '.join(BROWSERS)}")
    return found


@dataclass(frozen=True)
class Opened:
    """What opening a page gave.

    Attributes:
        out: what the browser printed on stdout, such as the page's content.
        fetched: addresses that were asked for, but the page itself.
        complaints: lines of the page's console.
    """

    out: str
    fetched: list[str]
    complaints: list[str]


def opened(page: Path, scratch: Path, *options: str) -> Opened:
    """Open a page from disk without a network.

    Args:
        scratch: an empty folder for the browser's own files.
        options: what to do with it, such as "--dump-dom".
    """
    net_log = scratch / "net.json"
    call = [browser(), *_QUIET, f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={net_log}", *options]
    surroundings = {**os.environ, "HOME": str(scratch)}
    done = subprocess.run(
        [*call, page.as_uri()], capture_output=True, text=True, env=surroundings, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    events = json.loads(net_log.read_text(encoding="utf-8"))["events"]
    asked = [str(event.get("params", {}).get("url", "")) for event in events]
    fetched = sorted({url for url in asked if re.match(r"(https?|wss?|ftp):", url) and not _OWN_SERVICES.match(url)})
    return Opened(done.stdout, fetched, [line for line in done.stderr.splitlines() if "CONSOLE" in line])
