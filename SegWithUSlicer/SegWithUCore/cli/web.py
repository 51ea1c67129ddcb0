"""`segwithu web`: review cases in a browser, on this computer or for colleagues."""

import argparse
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.case_folders import deeper_cases
from ..review.worklist_files import WORKLIST_JSON
from ..util.errors import UsageError
from .arguments import add_flag_options, check_rules, flag_rules, whole_number
from .console import Console

if TYPE_CHECKING:
    from ..web.server import PageServer

PORT = 8091


def add_commands(commands: Any) -> None:
    """Add `web`."""
    command = commands.add_parser(
        "web",
        examples=("web results --open",),
        help="review cases in a browser",
        description="Show segmented cases in a browser and take down verdicts, in the same logs as 3D Slicer. The page "
        "is served to this computer alone unless --host says otherwise, and to nobody who has not the link that is "
        "printed. Ends with Ctrl-C.",
    )
    command.add_argument("place", type=Path, metavar="CASES", help="folder of cases, a case folder, or worklist.json")
    command.add_argument("--port", type=whole_number(0, 65535), default=PORT, help=f"({PORT}); 0 takes a free one")
    command.add_argument("--open", action="store_true", help="open the page in the browser of this desktop")
    command.add_argument("--reviewer", default="", metavar="NAME", help="whom the page proposes as reviewer")
    command.add_argument("--images", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders that hold "
                         "images which are neither in their case folders nor where you segmented them")  # fmt: skip
    command.add_argument("--host", default="127.0.0.1", help="address to listen at, for a proxy on another "
                         "computer; with --behind-proxy")  # fmt: skip
    command.add_argument("--behind-proxy", metavar="ADDRESS", help="where a proxy of yours shows the page, such as "
                         "https://review.example.org/; the proxy encrypts")  # fmt: skip
    command.add_argument("--title", help=argparse.SUPPRESS)
    command.add_argument("--end-with-input", action="store_true", help=argparse.SUPPRESS)
    add_flag_options(command)
    command.set_defaults(run=run_web)


def run_web(options: argparse.Namespace, console: Console) -> int:
    """Serve the page until Ctrl-C; 1 if a verdict could not be brought to disk."""
    from ..web.case_store import CaseStore
    from ..web.reviews import OpenReviews
    from ..web.routes import Routes
    from ..web.server import PageServer

    _check_address(options)
    for folder in options.images:
        if not folder.is_dir():
            raise UsageError(f"--images {folder} is no folder: give one that holds images of cases.")
    console.started()
    store = CaseStore(_place(options.place), flag_rules(options), options.images)
    for sentence in deeper_cases([store.place]):
        console.note(sentence)
    check_rules(store.folders, store.rules, console)
    store.title = options.title or store.title
    routes = Routes(store, OpenReviews(), options.reviewer)

    server = PageServer((options.host, options.port), options.behind_proxy, routes, console.error)
    _say_where(server, options, console)
    if options.end_with_input:
        threading.Thread(target=_end_with_input, args=(server, console), daemon=True).start()
    left = server.run()
    for sentence in left:
        console.error(sentence)
    console.result("The page is closed; every verdict is in its case folder." if not left else
                   "The page is closed.", {"closed": True, "not_stored": len(left)})  # fmt: skip
    return 1 if left else 0


def _place(place: Path) -> Path:
    """Take a worklist by its file; a folder that holds one beside cases is a folder of cases."""
    if place.suffix == ".csv":
        raise UsageError(f"{place} is a table: give {WORKLIST_JSON}, which is written beside it.")
    return place


def _check_address(options: argparse.Namespace) -> None:
    """Refuse a server that others could reach unencrypted.

    Raises:
        UsageError: an option is missing, or is no address.
    """
    from ..web.server import is_local, public_address

    if options.behind_proxy:
        public_address(options.behind_proxy)
    if not is_local(options.host) and not options.behind_proxy:
        raise UsageError(
            f"--host {options.host} lets other computers in, and what they see would cross the network readable by "
            "all: give --behind-proxy with the address of your proxy that encrypts; for one colleague use ssh -L."
        )


def _say_where(server: "PageServer", options: argparse.Namespace, console: Console) -> None:
    """Say where the page is, and open it if asked."""
    cases, gate = len(server.routes.store.folders), server.gate
    count = "1 case" if cases == 1 else f"{cases} cases"
    lines = [
        f"{count} of {options.place} in the browser:",
        f"  {gate.link}",
        "Who has this link sees and reviews them. Ctrl-C ends it.",
    ]
    data: dict[str, Any] = {"event": "ready", "url": gate.link, "cases": cases, "port": server.server_port}
    if options.end_with_input:
        data |= {"url_once": gate.link_for_once(), "ids": server.routes.store.ids}
    console.step("\n".join(lines), data)
    if options.open and not webbrowser.open(gate.link_for_once()):
        console.note("No browser could be started: open the link yourself.")


def _end_with_input(server: "PageServer", console: Console) -> None:
    """Give a link that works once for each line; end with the program that started this one, also when it dies."""
    for _line in sys.stdin:
        console.step("", {"event": "link", "url_once": server.gate.link_for_once()})
    server.stop()
