"""All cases of a cohort, one after the other in this process or on workers of a cluster."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..case.case_file import CASE_FILE
from ..inference.engines import AUTO, TORCH
from ..inference.engines.choice import engine_of_cases, graphics_card, is_installed
from ..inference.model import Model, user_network_sha256
from ..inference.segment import Job
from ..io.input_reader import IN_THIS_PROCESS, InputReader
from ..io.reader_process import ReaderProcess
from ..models.bundle import Bundle, read_bundle, with_head
from ..util.atomic_files import exists_error, sweep_leftovers
from ..util.errors import SegWithUError
from ..util.memory import available_bytes, limit_process
from ..util.process_lock import ProcessLock
from ..util.progress import Progress
from . import on_worker
from .on_worker import RunFacts, UnfitError
from .one_case import FAILED, FINISHED, SKIPPED, Rules, Settled, failed, settle
from .workers import Answer, ClusterError, Say, Workers, WorkersRequest, connected

SHARED_MEMORY = 0.9
"""Share of the free memory that the workers of this computer divide among them."""
SEEN_AFTER_S = 60.0
"""For a folder that another computer made to be seen here: network file systems keep what they know for so long."""


@dataclass
class CohortCounts:
    """Counts of finished, skipped and failed cases so far.

    Attributes:
        total: cases of the cohort.
        finished, skipped, failed: made by this run, there already, failed.
        seconds: that this run spent on those done, those of all its workers added up.
        elapsed_s: since its workers stand; None if it has none.
    """

    total: int
    finished: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    elapsed_s: float | None = None

    @property
    def seconds_per_case(self) -> float | None:
        """Mean of the cases done, None before there is one."""
        return self.seconds / self.finished if self.finished else None

    @property
    def cases_per_hour(self) -> float | None:
        """Throughput of this run, None before a case is done."""
        spent = self.seconds if self.elapsed_s is None else self.elapsed_s
        return 3600 * self.finished / spent if self.finished and spent > 0 else None

    @property
    def complete(self) -> int:
        """Cases whose folder is there."""
        return self.finished + self.skipped

    def add(self, settled: Settled) -> None:
        """Count what became of a case."""
        if settled["state"] == FINISHED:
            self.finished += 1
            self.seconds += settled["seconds"]
        elif settled["state"] == SKIPPED:
            self.skipped += 1
        else:
            self.failed += 1


@dataclass(frozen=True)
class CaseProgress:
    """The position of a case in the cohort.

    Attributes:
        number: of the case, from 1, in the order in which cases are settled.
        seconds_left: for all cases that are still to be made, at the pace so far.
    """

    number: int
    total: int
    seconds_left: float | None


class CohortListener(Protocol):
    """Hears of every case, in the thread that works or waits for workers."""

    def progress(self, job: Job, place: CaseProgress) -> AbstractContextManager[Progress]:
        """Handle the begin of a case in this process; return the listener of its progress."""

    def settled(self, job: Job, settled: Settled) -> None:
        """Handle what became of a case, as `settle` returns it."""

    def running(self, counts: CohortCounts, workers: Workers) -> None:
        """Handle, about every second, how far the workers are."""


@dataclass(frozen=True)
class Cohort:
    """What is to be done, and who hears of it.

    Attributes:
        output: the folder that all targets lie in.
        jobs: one a case; their own `overwrite` is not looked at.
        rules: what to do with cases that are there.
        listener: hears of every case.
        counts: what became of them so far.
    """

    output: Path
    jobs: Sequence[Job]
    rules: Rules
    listener: CohortListener
    counts: CohortCounts

    def settled(self, job: Job, settled: Settled) -> None:
        """Count and tell what became of a case."""
        self.counts.add(settled)
        self.listener.settled(job, settled)


def run_here(cohort: Cohort, model: Model, reader: InputReader = IN_THIS_PROCESS) -> None:
    """Make all cases, one after the other in this process; whatever happens to one, the others go on.

    Raises:
        KeyboardInterrupt: the case that was being made is gone.
    """
    counts, output = cohort.counts, cohort.output
    listed = {path.name for path in output.iterdir()} if cohort.rules.resume and output.is_dir() else set()
    missing = {job.target.name for job in cohort.jobs} - listed
    sweep_leftovers(output)
    for job in cohort.jobs:
        pace = counts.seconds_per_case
        left = None if pace is None else pace * max(1, len(missing))
        place = CaseProgress(counts.complete + counts.failed + 1, counts.total, left)
        settled = settle(job, model, cohort.rules, lambda: cohort.listener.progress(job, place), reader)  # noqa: B023
        missing.discard(job.target.name)
        cohort.settled(job, settled)
    sweep_leftovers(output)


@dataclass(frozen=True)
class ModelSource:
    """Where a worker finds the model, and what it must be; the network itself does not travel.

    Attributes:
        folder: of the bundle, the same on all computers.
        head: other than the default.
        engine, device: as the user asks for them.
        identity: hashes of the model's files.
        network: file and factory of the user's own network.
        runtime: what the engine must be, as `runtime_here` says it; empty as long as no worker was asked.
    """

    folder: str
    head: str | None
    engine: str
    device: str
    identity: tuple[tuple[str, str], ...]
    network: str | None = None
    runtime: str = ""

    @classmethod
    def of(
        cls, bundle: Bundle, head: str | None, engine: str, device: str, network: str | None = None
    ) -> "ModelSource":
        """Describe the model of this run."""
        assert bundle.folder is not None
        return cls(str(bundle.folder.resolve()), head, engine, device, _identity(with_head(bundle, head)), network)


def _identity(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    """Return what results depend on beside images, settings and the engine, each with its name."""
    found = {
        "version of the model": str(bundle.about["version"]),
        "weights": bundle.weights_sha256,
        "calibration": bundle.calibration_sha256,
        "head": bundle.default_head.name,
        "network file": user_network_sha256(bundle) or "none",
    }
    return tuple(sorted((name, str(value)) for name, value in found.items()))


def warm_model(source: ModelSource) -> Model:
    """Return the model of a worker, loaded once a process.

    Raises:
        UnfitError: this worker has another model, another runtime, or not its device.
    """
    kept = on_worker.kept
    if kept.get("source") != replace(source, runtime=""):
        kept.pop("model", None)  # memory first: two models need not fit
        kept.pop("source", None)
        try:
            if source.network is not None:
                from ..network.backbones.user_network import register_network

                register_network(source.network)
            bundle = read_bundle(Path(source.folder))
            here = dict(_identity(with_head(bundle, source.head)))
            for name, wanted in source.identity:
                if here.get(name) != wanted:
                    shown = [str(value)[:12] for value in (here.get(name, "none"), wanted)]
                    raise UnfitError(
                        f"a worker has another {name} ({shown[0]}) than this run ({shown[1]}): install the same on all "
                        "computers.",
                        "other-model",
                    )
            if is_installed(TORCH) and graphics_card():
                on_worker.choose_card()
            kept["model"] = Model(bundle, source.device, source.head, source.engine)
        except UnfitError:
            raise
        except SegWithUError as error:
            raise UnfitError(
                f"a worker cannot load the model ({str(error).rstrip('.')}): put it where all computers find it."
            ) from error
        kept["source"] = replace(source, runtime="")
    model: Model = kept["model"]
    if source.runtime and _runtime(model) != source.runtime:
        raise UnfitError(
            f"a worker has another engine ({_runtime(model)}) than this run ({source.runtime}): install the same on "
            "all computers, or name one with --engine and --device.",
            "other-engine",
        )
    return model


def runtime_here(source: ModelSource) -> str:
    """Load the model on this worker and say what runs it: the same words, the same results."""
    return _runtime(warm_model(source))


def _runtime(model: Model) -> str:
    facts = model.engine.identity()
    parts = [f"{facts['name']} {str(facts['version']).partition('+')[0]}", str(facts["precision"])]
    graphs = facts.get("graphs_sha256")
    parts += [f"graphs {str(graphs)[:12]}"] if graphs else []
    return f"{', '.join(parts)}, on {model.device}"


def settle_on_worker(job: Job, source: ModelSource, rules: Rules, memory: int | None) -> Settled:
    """Do one case, as `settle` does; on a graphics card one at a time.

    Args:
        memory: bytes that this process may use; None for what the system or Dask allows.
    """
    model = warm_model(source)
    if memory is not None:
        limit_process(memory)
    reader = on_worker.kept.setdefault("reader", ReaderProcess())

    @contextlib.contextmanager
    def listening() -> Iterator[Progress]:
        with on_worker.own_card() if model.device == "cuda" else contextlib.nullcontext():
            yield on_worker.progress

    return settle(job, model, rules, listening, reader)


def run_on_workers(
    cohort: Cohort,
    source: ModelSource,
    request: WorkersRequest,
    say: Say,
    lock: ProcessLock | None = None,
    threads: int | None = None,
) -> None:
    """Make all cases on workers; whatever happens to one, the others go on.

    Args:
        lock: of the output folder, by which workers know that they see the same one.
        threads: of each worker; None for its share of the cores.

    Raises:
        ClusterError: there are no workers, or unfit ones.
        KeyboardInterrupt: our own workers are ended, with the cases that they were making.
    """
    identity = None if lock is None else (str(lock.path.resolve()), lock.path.read_text(encoding="utf-8"))
    run = RunFacts(secrets.token_hex(6), lock=identity, threads=threads)
    sweep_leftovers(cohort.output)
    try:
        with connected(request, cohort.output, say) as workers:
            free = available_bytes() if workers.is_local else None
            share = None if free is None else int(SHARED_MEMORY * free / (request.workers or 1))
            _run(cohort, source, workers, run, share)
    finally:
        sweep_leftovers(cohort.output)


def _run(cohort: Cohort, source: ModelSource, workers: Workers, run: RunFacts, share: int | None) -> None:
    if cohort.rules.resume and source.engine == AUTO:  # a cohort that is gone on with keeps its engine
        source = replace(source, engine=engine_of_cases([job.target for job in cohort.jobs]) or AUTO)
    found = workers.get_ready(run, runtime_here, source)
    if len(set(found.values())) > 1:
        places = ", ".join(f"{runtime} at {address}" for address, runtime in sorted(found.items())[:4])
        raise ClusterError(
            f"The workers would make different results ({places}): name one engine and one device with --engine and "
            "--device, or install the same everywhere.",
            "different-engines",
        )
    for runtime in set(found.values()):
        source = replace(source, runtime=runtime)
        workers.say(f"The workers run {runtime}.")
    cohort.counts.elapsed_s = 0.0
    too_large: list[Job] = []
    _hand_out(cohort, cohort.jobs, source, workers, run, share, too_large)
    for number, job in enumerate(too_large):  # the others are done, and all memory is free
        _hand_out(cohort, [job], source, workers, replace(run, id=f"{run.id}-{number}"))


def _hand_out(
    cohort: Cohort,
    jobs: Sequence[Job],
    source: ModelSource,
    workers: Workers,
    run: RunFacts,
    share: int | None = None,
    too_large: list[Job] | None = None,
) -> None:
    """Do these cases.

    Args:
        share: memory that each worker may use.
        too_large: receives those that need more; None where they fail.
    """
    named, before, begun = {job.name: job for job in jobs}, cohort.counts.elapsed_s or 0.0, time.monotonic()
    for answer in workers.each(_cases(cohort, jobs, source, share), settle_on_worker, run):
        cohort.counts.elapsed_s = before + time.monotonic() - begun
        if answer is None:
            cohort.listener.running(cohort.counts, workers)
            continue
        job = named[answer.name]
        settled = _settled(answer, job)
        if too_large is not None and share is not None and settled.get("short_of_memory"):
            too_large.append(job)
        else:
            cohort.settled(job, settled)


def _cases(
    cohort: Cohort, jobs: Sequence[Job], source: ModelSource, share: int | None
) -> Iterator[tuple[str, tuple[Job, ModelSource, Rules, int | None]]]:
    """Yield cases one by one; one that may not be replaced fails here already.

    A worker may die after it made a case and before it said so: what the run itself made is left as it is.
    """
    rules = cohort.rules
    for job in jobs:
        if rules.resume or rules.overwrite:
            yield job.name, (job, source, rules, share)
        elif job.target.exists():
            cohort.settled(job, {"case": job.name, **failed(exists_error(job.target))})
        else:
            yield job.name, (job, source, replace(rules, resume=True), share)


def _settled(answer: Answer, job: Job) -> Settled:
    if answer.value is None:
        failure = {"state": FAILED, "reason": answer.reason, "trace": answer.trace, "seconds": 0.0}
        return {"case": answer.name, **failure, "worker": answer.worker}
    written, end = job.target / CASE_FILE, time.monotonic() + SEEN_AFTER_S
    while answer.value["state"] == FINISHED and not written.is_file():
        if time.monotonic() > end:
            error = ClusterError(
                f"The worker {answer.worker} wrote {job.target}, but it is not here: give an --output that all "
                "computers share.",
                "folder-not-shared",
            )
            return {"case": answer.name, **failed(error), "worker": answer.worker}
        time.sleep(0.5)
    return {**answer.value, "worker": answer.worker}
