"""The addresses of the server, each with the function that answers it. No file path is taken from a request."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..util.errors import UsageError
from .case_store import CaseStore
from .case_volumes import DisplayVolume
from .reviews import OpenReviews
from .static_files import VOXEL_TYPE, StaticFile

# Limit of a name or a session in a request.
LONGEST_TEXT = 1000
# Of files that the page takes as an edit.
MASK_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mgz", ".mgh")


Query = Mapping[str, str]
Body = Mapping[str, Any]
Table = dict[re.Pattern[str], Callable[..., Any]]


class Routes:
    """Answers of the server.

    Args:
        store: of the cases.
        reviews: that are open.
        reviewer: the name that the page proposes; "" for none.
    """

    def __init__(self, store: CaseStore, reviews: OpenReviews, reviewer: str = "") -> None:
        self.store, self.reviews, self.reviewer = store, reviews, reviewer
        case = "/api/cases/([0-9]{1,9})"
        self._get: Table = {
            re.compile("/api/worklist"): self._worklist,
            re.compile("/api/compare"): lambda query: store.compare(query.get("cases", "").split(",")),
            re.compile(case): lambda _query, id_: store.page(id_).to_json(id_),
            re.compile(f"{case}/volumes/([a-z_]{{1,40}})"): self._volume,
            re.compile(f"{case}/lines"): lambda query, id_: reviews.review(id_, query.get("session", "")).to_json(),
        }
        self._post: Table = {
            re.compile(f"{case}/open"): self._open,
            re.compile(f"{case}/alive"): lambda body, id_: reviews.alive(id_, _text(body, "session")),
            re.compile(f"{case}/events"): self._events,
            re.compile(f"{case}/scroll"): self._scroll,
            re.compile(f"{case}/mask"): self._mask,
            re.compile(f"{case}/close"): self._close,
        }

    def get(self, path: str, query: Query) -> dict[str, Any] | StaticFile:
        """Answer a request that changes nothing.

        Raises:
            KeyError: there is nothing at this address.
            UsageError, InputError, RefusalError: as the parts.
        """
        return _found(self._get, path)(query)

    def post(self, path: str, body: Body) -> dict[str, Any]:
        """Answer a request that changes something.

        Raises:
            KeyError, UsageError, InputError, RefusalError: as `get`.
        """
        return _found(self._post, path)(body)

    def _worklist(self, query: Query) -> dict[str, Any]:
        return {**self.store.worklist(query.get("reviewer", "")), "reviewer_default": self.reviewer}

    def _volume(self, query: Query, id_: str, name: str) -> StaticFile:
        case = self.store.page(id_)
        volumes, session = case.volumes, query.get("session")
        if name == "masks":
            return StaticFile(case.masks.data, VOXEL_TYPE)
        shown: DisplayVolume | None
        if name == "image":
            shown = None if volumes.image is None else volumes.image.volume
        elif name == "labels":
            shown = volumes.labels if session is None else self.reviews.review(id_, session).edited
        else:
            shown = volumes.map(name)
        if shown is None:
            raise KeyError(name)
        return StaticFile(shown.data, VOXEL_TYPE)

    def _open(self, body: Body, id_: str) -> dict[str, Any]:
        last, pending = body.get("last"), body.get("pending") or []
        if not (last is None or isinstance(last, str)):
            raise UsageError("The field 'last' must be a text.")
        reviewer, order = _text(body, "reviewer"), _text(body, "order")
        return self.reviews.open(id_, self.store.page(id_), reviewer, order, last, _events_of(pending))

    def _events(self, body: Body, id_: str) -> dict[str, Any]:
        events = _events_of(body.get("events"))
        session, last = (_text(body, name) for name in ("session", "last"))
        return self.reviews.add(id_, session, last, events)

    def _scroll(self, body: Body, id_: str) -> dict[str, Any]:
        region = body.get("region")
        if not (region is None or isinstance(region, int)):
            raise UsageError("The field 'region' must be a number.")
        return self.reviews.positions(id_, _text(body, "session"), _text(body, "structure"), region)

    def _mask(self, body: Body, id_: str) -> dict[str, Any]:
        name = _text(body, "name")
        ending = next((each for each in MASK_ENDINGS if name.lower().endswith(each)), "")
        content = body.get("content")
        if not ending or not isinstance(content, str):
            raise UsageError(f"'{name:.80}' is no mask: give a file that ends in {', '.join(MASK_ENDINGS)}.")
        try:
            mask = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise UsageError("The field 'content' must be base64.") from error
        return self.reviews.take_mask(id_, _text(body, "session"), mask, name, ending)

    def _close(self, body: Body, id_: str) -> dict[str, Any]:
        self.reviews.close(_text(body, "session"))
        return {}


def _found(table: Table, path: str) -> Callable[[Any], Any]:
    for pattern, answer in table.items():
        if match := pattern.fullmatch(path):
            return lambda given: answer(given, *match.groups())
    raise KeyError(path)


def _text(body: Body, name: str) -> str:
    value = body.get(name, "expected wrong volume" if name == "order" else None)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise UsageError(f"Missing or too long field '{name}'.")
    return value


def _events_of(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(event, dict) for event in value):
        raise UsageError("The field 'events' must be a list of objects.")
    return value
