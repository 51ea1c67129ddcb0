"""The review page in the system's Chromium by Playwright, and its modules without a server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSERS
from repository import PACKAGES

STATIC = PACKAGES / "SegWithUCore" / "web" / "static"
ORIGIN = "http://page.test"
CSP = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""As strict as the server's: nothing inline."""
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
TIMEOUT_MS = 20_000


@contextmanager
def launched() -> Iterator[Any]:
    """Playwright's `Browser`; the test is skipped where there is no Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to open the page with: install one of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=[*_QUIET])
        yield chromium
        chromium.close()


def static_file(name: str) -> tuple[bytes, str]:
    """Content and type of one of the page's own files."""
    path = STATIC / Path(name).name
    return path.read_bytes(), _TYPES[path.suffix]


@contextmanager
def opened_modules(chromium: Any, **options: Any) -> Iterator[Any]:
    """A page on which tests import the page's modules, with its style and its content policy, but nothing begun."""
    context = chromium.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/")
        if name == "":
            html = '<!doctype html><link rel="stylesheet" href="style.css"><div id="page"></div>'
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": CSP})
        else:
            body, kind = static_file(name)
            route.fulfill(body=body, content_type=kind)

    context.route("**/*", answer)
    page = context.new_page()
    page.goto(f"{ORIGIN}/")
    yield page
    context.close()


class Visit:
    """A window of the browser that has been opened by somebody, and what happened in it.

    Attributes:
        page: Playwright's.
        requests: addresses that were asked for.
        troubles: errors of scripts, and what the console complained of.
    """

    def __init__(self, chromium: Any, link: str, **options: Any) -> None:
        self.context = chromium.new_context(viewport={"width": 1366, "height": 768}, **options)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", self._dialog)
        self.page.goto(link)

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.type)
        dialog.accept()

    def wait(self, state: str) -> None:
        """Wait until the page shows the "worklist", a "case" or an "error"."""
        self.page.wait_for_selector(f'html[data-state="{state}"]')

    def read_as(self, reviewer: str) -> None:
        """Give the worklist a name, and wait for that reviewer's list."""
        self.wait("worklist")
        self.page.get_by_label("Your name").fill(reviewer)
        self.page.keyboard.press("Tab")
        self.page.get_by_text(f"open for {reviewer}").wait_for()

    def open_case(self, name: str) -> None:
        """Open a case of the worklist by its name."""
        self.wait("worklist")
        self.page.get_by_role("button", name=name, exact=True).click()
        self.wait("case")

    def press(self, *keys: str) -> None:
        """Press keys, each when what the one before has said is stored."""
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_function("() => !/Storing/.test(document.querySelector('.stored')?.textContent ?? '')")

    def text(self, selector: str) -> str:
        """The text of the first element that a selector finds."""
        return str(self.page.locator(selector).first.inner_text())

    def close(self) -> None:
        """Close the window."""
        self.context.close()
