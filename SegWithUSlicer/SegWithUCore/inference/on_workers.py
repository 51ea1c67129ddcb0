"""A cohort on the workers of a cluster: `settle` there, one model a process, and the run that hands cases out."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..cluster.connection import Connection, Say, connect
from ..cluster.on_worker import Context, RunFacts, UnfitError
from ..cluster.request import ClusterRequest
from ..cluster.tasks import Answer, Running, Task, TaskRun
from ..io.reader_process import ReaderProcess
from ..models.bundle import Bundle, read_bundle, with_head
from ..util.atomic_files import sweep_leftovers
from ..util.errors import SegWithUError
from ..util.failures import failure_sentence
from ..util.progress import Progress
from ..util.run_lock import RunLock
from .cohort import FAILED, CohortCounts, Rules, Settled, exists_error, settle
from .deaths import forgive
from .engines import AUTO, TORCH
from .engines.choice import engine_of_cases, graphics_card, is_installed
from .memory_prediction import RunMemory
from .model import Model, user_network_sha256
from .segment import Job


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


def why_model_unfit(source: ModelSource) -> str | None:
    """Say why this computer has another model or another runtime than the run, in words that follow a worker's name."""
    try:
        _register(source)
        here = dict(_identity(with_head(read_bundle(Path(source.folder)), source.head)))
    except SegWithUError as error:
        return f"cannot read the model ({str(error).rstrip('.')}): put it where all computers find it"
    for name, wanted in source.identity:
        if here.get(name) != wanted:
            shown = [str(value)[:12] for value in (here.get(name, "none"), wanted)]
            return f"has another {name} ({shown[0]}) than this run ({shown[1]}): install the same on all computers"
    return None


def warm_model(source: ModelSource, context: Context) -> Model:
    """Return the model, loaded once a process.

    Raises:
        UnfitError: this worker has another model, or not its device.
    """
    kept = {} if context.state is None else context.state.kept
    if kept.get("source") != replace(source, runtime=""):
        kept.pop("model", None)  # memory first: two models need not fit
        kept.pop("source", None)
        unfit = why_model_unfit(source)
        if unfit is not None:
            raise UnfitError(unfit)
        try:
            _choose_card(context)
            kept["model"] = Model(read_bundle(Path(source.folder)), source.device, source.head, source.engine)
            kept["source"] = replace(source, runtime="")
        except SegWithUError as error:
            raise UnfitError(f"cannot load the model: {str(error).rstrip('.')}") from error
    model: Model = kept["model"]
    if source.runtime and _runtime(model) != source.runtime:
        raise UnfitError(
            f"has another engine ({_runtime(model)}) than this run ({source.runtime}): install the same on all "
            "computers, or name one with --engine and --device"
        )
    return model


def runtime_here(context: Context, source: ModelSource) -> str:
    """Load the model on this worker and say what runs it: the same words, the same results."""
    return _runtime(warm_model(source, context))


def _runtime(model: Model) -> str:
    facts = model.engine.identity()
    parts = [f"{facts['name']} {str(facts['version']).partition('+')[0]}", str(facts["precision"])]
    graphs = facts.get("graphs_sha256")
    parts += [f"graphs {str(graphs)[:12]}"] if graphs else []
    return f"{', '.join(parts)}, on {model.device}"


def settle_on_worker(context: Context, job: Job, source: ModelSource, rules: Rules) -> Settled:
    """Do one case, as `settle` does; a case waits until there is room for it beside those of other workers."""
    model = warm_model(source, context)
    reader = _reader(context)

    def listening() -> AbstractContextManager[Progress]:
        return nullcontext(context.progress)

    @contextlib.contextmanager
    def admission(memory: RunMemory | None, progress: Progress) -> Iterator[None]:
        if context.state is None:
            yield
            return
        siblings = context.state.siblings
        card = _choose_card(context) if model.device == "cuda" else None
        turn = nullcontext() if card is None else siblings.turn(card, progress)
        with siblings.room(None if memory is None else memory.needed, progress), turn:
            yield

    return settle(job, model, rules, listening, reader, admission)


def _register(source: ModelSource) -> None:
    if source.network is not None:
        from ..network.backbones.user_network import register_network

        register_network(source.network)


def _reader(context: Context) -> ReaderProcess:
    """Return the child process that reads images, one for the life of a worker."""
    kept = {} if context.state is None else context.state.kept
    reader: ReaderProcess = kept.setdefault("reader", ReaderProcess())
    return reader


def _choose_card(context: Context) -> int | None:
    """Give this worker its own graphics card where the computer has several; None without one."""
    if context.state is None or not is_installed(TORCH) or not graphics_card():
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    card = context.state.seat % max(1, torch.cuda.device_count())
    torch.cuda.set_device(card)  # of this thread; "cuda" means this one from now on
    return card


class WorkersListener(Protocol):
    """Hears of cases on workers, in the client's thread."""

    def settled(self, job: Job, settled: Settled) -> None:
        """Handle what became of a case, as `settle` returns it."""

    def running(self, counts: CohortCounts, running: Running, workers: int) -> None:
        """Handle, about every second, how far the cohort is."""


@dataclass(frozen=True)
class CohortRequest:
    """What a cohort on workers is to do.

    Attributes:
        output: the folder that all targets lie in.
        jobs: one a case.
        source: the model.
        rules: what to do with cases that are there.
        lock: held by this process, and known to the workers.
    """

    output: Path
    jobs: Sequence[Job]
    source: ModelSource
    rules: Rules
    lock: RunLock


def run_on_workers(
    cohort: CohortRequest, request: ClusterRequest, listener: WorkersListener, counts: CohortCounts, say: Say
) -> None:
    """Make all cases on workers; whatever happens to one, the others go on.

    Raises:
        ClusterError: there are no workers, or unfit ones.
        LockLostError: another run took the folder over.
        KeyboardInterrupt: our own workers are ended, with the cases that they were making.
    """
    run = RunFacts(secrets.token_hex(6), lock=cohort.lock.identity(), threads=request.threads)
    sweep_leftovers(cohort.output)
    try:
        with connect(request, cohort.output, say) as connection:
            _run(cohort, connection, run, listener, counts)
    except BaseException:
        forgive(_targets_begun(cohort.output), run.id)
        raise
    finally:
        sweep_leftovers(cohort.output)


def _targets_begun(output: Path) -> list[Path]:
    names = [path.name.removeprefix(".").removesuffix(".begun") for path in output.glob(".*.begun")]
    return [output / name for name in names]


def _run(
    cohort: CohortRequest, connection: Connection, run: RunFacts, listener: WorkersListener, counts: CohortCounts
) -> None:
    tasks = TaskRun(connection, run, settle_on_worker, cohort.lock.check)
    tasks.get_ready(connection.request.workers or 1, why_model_unfit, (cohort.source,))
    for sentence in connection.unusual_settings():
        connection.say(f"Warning: {sentence}")
    if connection.dashboard():
        connection.say(f"Dask's dashboard: {connection.dashboard()}")
    source = cohort.source
    if cohort.rules.resume and source.engine == AUTO:  # a cohort that is gone on with keeps its engine
        source = replace(source, engine=engine_of_cases([job.target for job in cohort.jobs]) or AUTO)
    runtime = tasks.same_answer(runtime_here, source)
    if runtime is not None:
        source = replace(source, runtime=runtime)
        connection.say(f"The workers run {source.runtime}.")
    jobs = {job.name: job for job in cohort.jobs}
    begun = time.monotonic()
    counts.elapsed_s = 0.0
    for answer in tasks.answers(_tasks(cohort, source, run, listener, counts)):
        counts.elapsed_s = time.monotonic() - begun
        if answer is None:
            listener.running(counts, tasks.running, tasks.workers)
            continue
        settled = _settled(answer)
        counts.add(settled)
        listener.settled(jobs[answer.task.name], settled)


def _tasks(
    cohort: CohortRequest, source: ModelSource, run: RunFacts, listener: WorkersListener, counts: CohortCounts
) -> Iterator[Task]:
    """Make the tasks one by one; a case that may not be replaced fails here already.

    A worker may die after it made a case and before it said so: what the run itself made is left as it is.
    """
    rules = replace(cohort.rules, count_deaths=True, run=run.id)
    for job in cohort.jobs:
        if rules.resume or rules.overwrite:
            yield Task(job.name, (job, source, rules))
        elif job.target.exists():
            error = exists_error(job.target)
            settled = {
                "case": job.name,
                "state": FAILED,
                "reason": failure_sentence(error),
                "trace": "",
                "seconds": 0.0,
            }
            counts.add(settled)
            listener.settled(job, settled)
        else:
            yield Task(job.name, (job, source, replace(rules, resume=True)))


def _settled(answer: Answer) -> Settled:
    if answer.value is not None:
        return {**answer.value, "worker": answer.worker}
    failed = {"case": answer.task.name, "state": FAILED, "reason": answer.reason, "trace": answer.trace, "seconds": 0.0}
    return {**failed, "worker": answer.worker}
