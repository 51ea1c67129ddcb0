"""One run from the click to the nodes: check the engine, write the input, wait, load, clean up.

No Qt and no MRML here: whatever touches them is passed in, so that tests drive every path with fakes. All callbacks
arrive on the main thread, because the worker hands out its events there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.inference.settings import DEFAULTS, RunSettings
from SegWithUCore.review.status import Level
from SegWithUCore.util.errors import InputError, SegWithUError

from ..guarded import details_of, reason_of, report, show_in_console
from ..i18n import _
from .install import InstallOutcome, InstallResult

if TYPE_CHECKING:
    from .private_folder import PrivateFolder
    from .worker import WorkerProcess


class Phase(Enum):
    """Phase of a run."""

    IDLE = "idle"
    CHECKING = "checking"
    RUNNING = "running"
    CANCELLING = "cancelling"


class Outcome(Enum):
    """How the last run ended."""

    NONE = "none"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    OUTDATED = "outdated"


@dataclass(frozen=True)
class RunStatus:
    """What the panel shows of a run.

    Attributes:
        message: names the next click; empty while running.
        stage, fraction, seconds_left: progress; `fraction` is None if it is not known.
        warnings: why the input does not fit the model.
        refusal: kinds of these warnings (`Deviation.kind`) if one refuses the input, also where the user insisted.
        details: for the log.
    """

    phase: Phase = Phase.IDLE
    outcome: Outcome = Outcome.NONE
    message: str = ""
    stage: str = ""
    fraction: float | None = None
    seconds_left: float | None = None
    warnings: tuple[str, ...] = ()
    refusal: frozenset[str] = frozenset()
    details: str = ""


@dataclass(frozen=True)
class RunRequest:
    """What to segment.

    Attributes:
        volumes: one per channel of the model.
        model: the bundle's folder.
        roi: a markups ROI; None for the whole volume.
        mask: a segmentation node that is judged; None segments.
        labels: the structures that its segments stand for, by the names of `segment_names`; None if the segments are
            named as the structures.
        settings: what the user chose; its region of interest is that of `roi`.
    """

    volumes: Sequence[Any]
    model: Path
    roi: Any = None
    mask: Any = None
    settings: RunSettings = DEFAULTS
    labels: Mapping[str, str] | None = None


def _warnings(event: Mapping[str, Any]) -> tuple[list[str], frozenset[str]]:
    """Return the warnings among what the engine reports about an input, and their `refusal`; notes need no banner."""
    found = [entry for entry in event.get("warnings") or [] if entry.get("severity") != "note"]
    is_refused = any(entry.get("severity") == "refused" for entry in found)
    kinds = frozenset(str(entry.get("kind")) for entry in found if is_refused)
    return [str(entry.get("message", "")) for entry in found], kinds


@dataclass(frozen=True)
class RunTools:
    """What a run needs from outside.

    Attributes:
        prepare: brings the engine that a request needs into a working state (asks before it installs anything) and
            reports once.
        new_folder: makes a private folder.
        export: writes a volume to a path, with the region of interest; gives an ExportedVolume.
        in_scene: whether an exported volume is still there.
        unchanged: whether it is still there as it was.
        load: puts a case folder into the scene as the request asks, and returns the nodes.
        export_mask: writes the segments of a node, on the grid of a volume, into a new folder in a folder; returns
            what these files hold, the folder first.
        engine_lost: called if a package is missing after all, so that the next `prepare` checks again.
        keep: gets the nodes and the folder that they were loaded from; False leaves its removal to the run.
    """

    prepare: Callable[[RunRequest, Callable[[InstallResult], None]], None]
    new_folder: Callable[[], "PrivateFolder"]
    export: Callable[[Any, Path, Any], Any]
    in_scene: Callable[[Any], bool]
    unchanged: Callable[[Any], bool]
    load: Callable[[Path, RunRequest], Any]
    engine_lost: Callable[[], None] = lambda: None
    export_mask: Callable[[Any, Any, Path], Mapping[Path, str]] = lambda mask, volume, parent: {parent: str(mask)}
    keep: Callable[[Any, "PrivateFolder"], bool] = lambda nodes, folder: False


CASE_FOLDER = "case"


@dataclass
class _Run:
    request: RunRequest
    folder: "PrivateFolder | None" = None
    exported: list[Any] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    id: int | None = None
    cancel_message: str = ""
    engine_remark: str = ""

    def named(self, text: str) -> str:
        """Name what the user knows in place of the files that it was written to."""
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        return text


class RunController:
    """Controls the one run that can be going on.

    Args:
        worker: does the runs.
        tools: everything else that a run needs.

    Attributes:
        on_status: called after each change of `status`.
        on_loaded: called with what `RunTools.load` gave, before the status is done.
    """

    def __init__(self, worker: "WorkerProcess", tools: RunTools) -> None:
        self._worker = worker
        self._tools = tools
        self.on_status: Callable[[RunStatus], None] = lambda status: None
        self.on_loaded: Callable[[Any], None] = lambda nodes: None
        self._run: _Run | None = None
        self.status = RunStatus()
        self.nodes: Any = None
        """What the last finished run was loaded as."""

    @property
    def is_busy(self) -> bool:
        """Whether a run is going on or being cancelled."""
        return self._run is not None

    def start(self, request: RunRequest) -> None:
        """Begin a run; everything else comes through `on_status`.

        Raises:
            RuntimeError: another run is going on.
        """
        if self._run is not None:
            raise RuntimeError("a run is going on")
        self.nodes = None
        run = self._run = _Run(request)
        with self._ends_on_error(run):
            self._set_status(RunStatus(Phase.CHECKING, stage=_("checking the engine")))
            self._tools.prepare(request, lambda result: self._prepared(run, result))

    def cancel(self, message: str = "") -> None:
        """Cancel the run; the status changes to cancelled when no process works on it any more.

        Args:
            message: why, with the next click; by default that the user cancelled.
        """
        run = self._run
        if run is None or self.status.phase is Phase.CANCELLING:
            return
        run.cancel_message = message or _("Cancelled: press Apply to start again.")
        with self._ends_on_error(run):
            if run.id is None:
                self._worker.cancel_all()
            else:
                self._worker.cancel(run.id)
            self._set_status(RunStatus(Phase.CANCELLING, stage=_("cancelling"), warnings=self.status.warnings))
            if run is self._run and not self._worker.will_answer(run.id):
                self._end(Outcome.CANCELLED, run.cancel_message)  # no process is left that would send "cancelled"

    def check_inputs(self) -> None:
        """Cancel if an input is not in the scene any more: to be called when nodes were removed."""
        run = self._run
        if run is not None and run.exported and not all(self._tools.in_scene(one) for one in run.exported):
            self.cancel(_("Cancelled because its image was removed: choose another image, or press Try it."))

    def drop_run(self) -> None:
        """Drop the run without any callback, and remove its folder: for quitting, after the worker ended."""
        run, self._run = self._run, None
        if run is not None and run.folder is not None:
            run.folder.remove()

    def _prepared(self, run: _Run, result: InstallResult) -> None:
        if run is not self._run:
            return
        with self._ends_on_error(run):
            if run.cancel_message:
                self._end(Outcome.CANCELLED, run.cancel_message)
            elif result.outcome is not InstallOutcome.READY:
                declined = result.outcome is InstallOutcome.DECLINED
                self._end(Outcome.DECLINED if declined else Outcome.FAILED, result.message, result.details)
            else:
                run.engine_remark = result.remark
                self._send(run)

    def _send(self, run: _Run) -> None:
        self._set_status(RunStatus(Phase.RUNNING, stage=_("writing the image")))
        try:
            run.folder = self._tools.new_folder()
            request = self._request(run, run.folder.path)
        except (SegWithUError, OSError) as error:
            self._end(Outcome.FAILED, run.named(_message(error)))
            return
        run.id = self._worker.submit(request, lambda event: self._event(run, event))

    def _request(self, run: _Run, folder: Path) -> dict[str, Any]:
        asked = run.request
        run.names[str(folder / CASE_FOLDER)] = _("The result")
        for index, volume in enumerate(asked.volumes):
            roi = asked.roi if index == 0 else None
            run.exported.append(self._tools.export(volume, folder / f"channel_{index}.nrrd", roi))
            run.names[str(run.exported[-1].path)] = run.exported[-1].name
        first = run.exported[0]
        request: dict[str, Any] = {
            "request": "segment",
            "name": "case",  # no name of a patient reaches a file
            "files": [str(one.path) for one in run.exported],
            "target": str(folder / CASE_FOLDER),
            "model": str(asked.model),
            "settings": asdict(replace(asked.settings, roi=first.roi_ras)),
            # Gives the network the upright orientation; nothing is resampled.
            "own_to_world_ras": [number for row in first.own_to_world_ras for number in row],
        }
        if asked.mask is not None:
            names = self._tools.export_mask(asked.mask, asked.volumes[0], folder / "mask")
            run.names |= {str(path): name for path, name in names.items()}
            request["mask"] = str(next(iter(names)))
            if asked.labels is not None:
                written = {path.stem for path in names}
                request["labels"] = {key: text for key, text in asked.labels.items() if key in written}
                if not request["labels"]:
                    text = _("{mask}: choose a structure for a segment that is not empty.")
                    raise InputError(text.format(mask=next(iter(names.values()))), code="empty-mask")
        return request

    def _event(self, run: _Run, event: Mapping[str, Any]) -> None:
        if run is not self._run:
            return
        kind = event.get("event")
        with self._ends_on_error(run):
            if kind == "cancelled":
                self._end(Outcome.CANCELLED, run.cancel_message)
            elif self.status.phase is Phase.CANCELLING:
                return  # late events, until "cancelled": no process works on it any more
            elif kind == "progress":
                self._progress(event)
            elif kind == "result":
                self._result(run, event)
            elif kind == "error":
                self._error(run, event)

    def _progress(self, event: Mapping[str, Any]) -> None:
        fraction, left = event.get("fraction"), event.get("seconds_left")
        self._set_status(
            replace(
                self.status,
                stage=str(event.get("stage") or ""),
                fraction=None if fraction is None else float(fraction),
                seconds_left=None if left is None else float(left),
            )
        )

    def _result(self, run: _Run, event: Mapping[str, Any]) -> None:
        # Before anything is loaded: a warning is visible before any colour.
        found, refusal = _warnings(event)
        warnings, stage = tuple(map(run.named, found)), _("loading the result")
        self._set_status(replace(self.status, stage=stage, fraction=1.0, warnings=warnings, refusal=refusal))
        if not all(self._tools.unchanged(one) for one in run.exported):
            text = _("The image changed while it was segmented, so the result is not shown: press Apply again.")
            self._end(Outcome.OUTDATED, text)
            return
        try:
            nodes = self._tools.load(Path(str(event["case"])), run.request)
        except SegWithUError as error:
            self._end(Outcome.FAILED, _message(error))
            return
        if run is not self._run:  # ended between the steps of loading: the scene was closed
            return
        self.nodes = nodes
        if run.folder is not None and self._tools.keep(nodes, run.folder):
            run.folder = None
        self.on_loaded(nodes)
        text = _("Done in {seconds:.0f} s on {device}: drag the threshold, or click a structure in the table.")
        engine = (event.get("engine") or {}).get("name")
        device = str(event.get("device") or "cpu").upper() + (f" ({engine})" if engine else "")
        done = text.format(seconds=event.get("seconds") or 0, device=device)
        light = nodes.case.raw["light"]
        # Rules have looked at each structure, nobody at the image.
        is_green, reason = light["level"] == Level.NOT_FLAGGED.value, run.named(light["reason"])
        level = _("No structure is flagged") if is_green else light["level"].capitalize()
        told = f"{level}." if reason in warnings else f"{level}: {reason}"  # the banner has the warnings
        self._end(Outcome.DONE, " ".join(filter(None, [done, told, run.engine_remark])))

    def _error(self, run: _Run, event: Mapping[str, Any]) -> None:
        text, details = run.named(str(event.get("text") or _("The run failed."))), str(event.get("details") or "")
        if event.get("kind") == "missing":
            self._tools.engine_lost()
        if event.get("refused"):
            found, refusal = _warnings(event)
            warnings = tuple(dict.fromkeys([text, *map(run.named, found)]))
            self._set_status(replace(self.status, warnings=warnings, refusal=refusal))
            text = _("Not assessed: do what the warning asks for, or choose another image or model, then Apply.")
            self._end(Outcome.REFUSED, text, details)
        else:
            self._end(Outcome.FAILED, text, details)

    @contextmanager
    def _ends_on_error(self, run: _Run) -> Iterator[None]:
        """End the run as failed where anything is raised in this block: nothing else would end it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - MRML, VTK and NumPy raise whatever they like
            show_in_console(error)
            if run is not self._run:
                return
            text = _("The run ended unexpectedly ({reason}): press Copy diagnostics to report it, or Apply again.")
            try:
                if run.id is not None and self._worker.will_answer(run.id):
                    self._worker.cancel(run.id)
            finally:
                self._end(Outcome.FAILED, text.format(reason=reason_of(error)), details_of(error))

    def _end(self, outcome: Outcome, message: str, details: str = "") -> None:
        run, self._run = self._run, None
        if run is not None and run.folder is not None and not _removed(run.folder):
            details = f"{details}\n{run.folder.path} is held by another program; the next start removes it.".strip()
        warnings, refusal = self.status.warnings, self.status.refusal
        self._set_status(RunStatus(Phase.IDLE, outcome, message, warnings=warnings, refusal=refusal, details=details))

    def _set_status(self, status: RunStatus) -> None:
        self.status = status
        try:
            self.on_status(status)
        except Exception as error:  # noqa: BLE001 - a panel that cannot be drawn does not end a run
            report(error)


def _removed(folder: "PrivateFolder") -> bool:
    try:
        return folder.remove()
    except OSError as error:
        show_in_console(error)
        return False


def _message(error: Exception) -> str:
    text = _("The private folder cannot be written ({reason}): free some space, then press Apply again.")
    return text.format(reason=error.strerror or error) if isinstance(error, OSError) else str(error)
