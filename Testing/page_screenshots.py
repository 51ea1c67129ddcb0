"""Pictures of the review page for README and docs: python Testing/page_screenshots.py [FOLDER].

The demo's case is served by `segwithu web` and opened in headless Chromium on a screen of 1366 x 768. Two structures
of both sides are measured.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("SegWithUSlicer", "Testing", "Testing/helpers")]

from page_browser import Visit, launched  # noqa: E402
from PIL import Image  # noqa: E402
from web_client import served  # noqa: E402

ACCEPT, REJECT, SECOND = "Control+Alt+Digit1", "Control+Alt+Digit3", "Control+Alt+Digit4"


def main() -> None:
    """Make browser.png and browser_list.png."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots"
    with TemporaryDirectory() as home:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer")}
        command = [sys.executable, "-m", "SegWithUCore.cli", "demo", "--output", str(Path(home) / "results")]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        with launched() as chromium, served(Path(home) / "results") as server:
            window = Visit(chromium, server.gate.link, bypass_csp=True)
            window.wait("worklist")
            window.page.get_by_label("Your name").fill("Ana")
            window.page.keyboard.press("Tab")
            window.page.get_by_text("open for Ana").wait_for()
            window.open_case("brain")
            page = window.page
            page.get_by_label("Measure only left hippocampus").click()
            for name in ("right hippocampus", "left lateral ventricle", "right lateral ventricle"):
                page.get_by_label(f"Measure {name}", exact=True).check()
            page.locator(".structures").get_by_role("button", name="L hippocampus", exact=True).click()
            page.locator(".regions").focus()
            window.press(ACCEPT, ACCEPT, REJECT, SECOND)
            page.get_by_text("error probability ≈").wait_for()
            page.screenshot(path=folder / "browser.png")
            page.get_by_role("button", name="← Cases").click()
            window.wait("worklist")
            page.locator("tbody button").first.focus()
            page.screenshot(path=folder / "browser_list.png", clip={"x": 0, "y": 0, "width": 1366, "height": 430})
            window.close()
    for name in ("browser.png", "browser_list.png"):
        Image.open(folder / name).convert("RGB").save(folder / name, optimize=True)
        print(folder / name, (folder / name).stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
