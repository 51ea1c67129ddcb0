"""Cases handed to workers, and what became of them: retried where a worker died, told where they run."""

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..util.errors import SegWithUError
from ..util.failures import failure_sentence
from .connection import SAY_EVERY_S, Connection
from .on_worker import CaseFunction, Context, RunFacts, ask, call, probe
from .request import ClusterError

MOST_IN_FLIGHT = 10_000
"""Cases that the scheduler knows at a time: each takes it a few kB, and a cohort may have a million."""
MOST_TRIES = 5
"""Of a case whose worker died before it began, or did not fit."""
LOOK_S = 0.02
CHECK_S = 1.0
LOST_AFTER_S = 300.0
"""Without a scheduler."""


@dataclass(frozen=True)
class Task:
    """One case.

    Attributes:
        name: of the case, unique in its run.
        arguments: of the function that does it; small.
    """

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """What became of a case.

    Attributes:
        value: what the function returned; None if it failed.
        reason, trace: of a failure.
        worker: that did it.
    """

    task: Task
    value: dict[str, Any] | None
    reason: str = ""
    trace: str = ""
    worker: str = ""


def answers_here(tasks: Iterable[Task], function: CaseFunction, run: RunFacts | None = None) -> Iterator[Answer]:
    """Do all cases one after the other in this process; needs no package of a cluster."""
    for task in tasks:
        try:
            yield Answer(task, function(Context(run or RunFacts(secrets.token_hex(6))), *task.arguments))
        except SegWithUError as error:
            yield Answer(task, None, failure_sentence(error))


@dataclass
class Running:
    """Which cases run where.

    Attributes:
        cases: the last message about each case that has not ended.
    """

    cases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def heard(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take a message of a worker."""
        self.cases[str(event[1]["case"])] = event[1]


class TaskRun:
    """Cases of one run on the workers of one cluster.

    Attributes:
        running: which cases run where.
        workers: that stood when last looked.
    """

    def __init__(
        self, connection: Connection, run: RunFacts, function: CaseFunction, check: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing is handed out yet.

        Args:
            function: does a case, on a worker.
            check: called about every second; may raise to end the run before its next case.
        """
        self.running, self.workers = Running(), 0
        self._connection, self._run, self._function, self._check = connection, run, function, check
        self._client = connection.client
        self._futures: dict[str, tuple[Any, Task]] = {}
        self._tries: Counter[str] = Counter()
        self._unfit: set[str] = set()
        self._looked = self._seen = self._said = time.monotonic()

    def get_ready(self, wanted: int, fits: Callable[..., str | None], arguments: tuple[Any, ...]) -> None:
        """Wait for workers, and check those that stand.

        Args:
            wanted: workers that were asked for.
            fits: runs on each worker; says why it cannot do cases, or None.

        Raises:
            ClusterError: a worker is unfit.
        """
        self._connection.wait_for_workers(wanted, self._check)
        self._client.subscribe_topic(self._run.id, self.running.heard)
        token = secrets.token_hex(4)
        answers = self._on_all(probe, self._run, token, fits, arguments)
        try:
            self._check_answers(answers)
        finally:
            if self._run.lock is not None:
                for path in Path(self._run.lock[0]).parent.glob(f".segwithu-probe-{token}-*"):
                    path.unlink(missing_ok=True)
        threads = max((facts["threads"] for facts in answers.values()), default=1)
        if threads > 1:
            self._connection.say(
                f"Warning: workers have {threads} threads, but one process does one case at a time: start them with "
                "--nthreads 1 (and --nworkers for several)."
            )
        self.workers = len(answers)

    def answers(self, tasks: Iterable[Task]) -> Iterator[Answer | None]:
        """Do all cases; what became of each comes as it ends.

        Yields:
            An answer, or None about every second in which there is none, so that others may be told how far it is.

        Raises:
            ClusterError: the scheduler is gone.
        """
        from distributed import as_completed

        done = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        left = iter(tasks)
        more = True
        try:
            while more or self._futures:
                while more and len(self._futures) < MOST_IN_FLIGHT:
                    task = next(left, None)
                    if task is None:
                        more = False
                        break
                    done.add(self._submitted(task))
                batch = done.next_batch(block=False)
                for future, result in batch:
                    answer = self._answer(future, result, done)
                    if answer is not None:
                        yield answer
                if self._is_time():
                    self._look()
                    yield None
                elif not batch:
                    time.sleep(LOOK_S)
        finally:
            self._end()

    def _submitted(self, task: Task) -> Any:
        self._tries[task.name] += 1
        # The first part of the key makes one group of all cases, which the scheduler keeps until a worker is free.
        key = (f"segwithu-{self._run.id}", f"{task.name}-{self._tries[task.name]}")
        future = self._client.submit(call, self._function, task.name, task.arguments, self._run, key=key, pure=False)
        self._futures[str(future.key)] = (future, task)
        return future

    def _answer(self, future: Any, result: Any, done: Any) -> Answer | None:
        """Return what became of a case; None if it is tried again."""
        _, task = self._futures.pop(str(future.key))
        status = future.status
        future.release()
        self.running.cases.pop(task.name, None)
        if status == "finished" and "unfit" not in result:
            self._tries.pop(task.name)
            worker = f"{result['worker']} on {result['host']}"
            if "value" in result:
                return Answer(task, result["value"], worker=worker)
            return Answer(task, None, result["reason"], result["trace"], worker)
        if status == "finished":
            reason = f"the worker {result['worker']} on {result['host']} {result['unfit']}."
            self._note_unfit(reason)
            time.sleep(LOOK_S)
        else:
            reason = self._infrastructure_reason(result, task)
        if self._tries[task.name] >= MOST_TRIES:
            return Answer(task, None, reason)
        done.add(self._submitted(task))
        return None

    def _infrastructure_reason(self, result: Any, task: Task) -> str:
        from distributed.scheduler import KilledWorker

        error = result[1] if isinstance(result, tuple) and len(result) > 1 else result
        if isinstance(error, KilledWorker):
            return (
                f"{task.name} was not made: its worker was killed again and again before it began, by the system when "
                "memory runs out or by the batch system; see the log files of the workers."
            )
        if isinstance(error, ModuleNotFoundError):
            self._note_unfit(f"a worker or the scheduler lacks the package {error.name}: install the same there.")
        return f"{task.name} was not made: {_reason(error)}"

    def _note_unfit(self, sentence: str) -> None:
        if sentence not in self._unfit:
            self._unfit.add(sentence)
            self._connection.say(f"Warning: {sentence[0].upper()}{sentence[1:]}")

    def _is_time(self) -> bool:
        return time.monotonic() - self._looked >= CHECK_S

    def _look(self) -> None:
        """Check the run, and whether there are a scheduler and workers.

        Raises:
            ClusterError: the scheduler is gone.
        """
        self._check()
        now = self._looked = time.monotonic()
        if self._client.status == "running":
            self.workers = len(self._client.nthreads())
            if self.workers:
                self._seen = self._said = now
        else:
            self.workers = 0
        lost = self._client.status == "closed" or now - self._seen > LOST_AFTER_S
        if self._client.status != "running" and lost:
            raise self._connection.gone()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            silent = f"{(now - self._seen) / 60:.0f} min"
            self._connection.say(
                f"No worker is left at {self._connection.where} for {silent}: {self._connection.state()}"
            )

    def same_answer(self, function: Callable[..., str], *arguments: Any) -> str | None:
        """Ask all workers that stand; None if none does.

        Raises:
            ClusterError: they answer differently, which would make other results from case to case; or one fails.
        """
        found = self._on_all(ask, function, self._run, arguments)
        answers = sorted(set(found.values()))
        if len(answers) > 1:
            places = ", ".join(f"{answer} at {address}" for address, answer in sorted(found.items())[:4])
            raise ClusterError(
                f"The workers would make different results ({places}): name one engine and one device with "
                "--engine and --device, or install the same everywhere."
            )
        return answers[0] if answers else None

    def _on_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function on each worker; one that dies meanwhile is left out: cases check the others again.

        Raises:
            ClusterError: it fails on a worker.
        """
        found = self._client.run(function, *arguments, on_error="return")
        for address, answer in found.items():
            if isinstance(answer, BaseException) and not isinstance(answer, OSError):
                raise ClusterError(f"The worker at {address} cannot do cases: {_reason(answer)}")
        return {address: answer for address, answer in found.items() if not isinstance(answer, BaseException)}

    def _check_answers(self, answers: Mapping[str, Any]) -> None:
        for facts in answers.values():
            if facts["unfit"]:
                raise ClusterError(f"The worker {facts['worker']} on {facts['host']} {facts['unfit']}.")
            self._check_file(facts)

    def _check_file(self, facts: dict[str, Any]) -> None:
        from pathlib import Path

        if self._run.lock is None or facts["file"] is None:
            return
        path = Path(self._run.lock[0]).with_name(facts["file"])
        if not path.is_file():
            raise ClusterError(
                f"The worker {facts['worker']} on {facts['host']} wrote {path}, but it is not here: give an --output "
                "that all computers share."
            )

    def _end(self) -> None:
        """Take back what was not begun."""
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._run.id)
        futures = [future for future, _ in self._futures.values()]
        with contextlib.suppress(Exception):
            if futures and self._client.status == "running":
                self._client.cancel(futures)


def _reason(error: Any) -> str:
    if isinstance(error, Exception):
        return failure_sentence(error)
    return " ".join(str(error).split())[:300]
