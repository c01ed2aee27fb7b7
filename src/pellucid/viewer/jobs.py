"""The queue: one worker thread outside of all requests; jobs wait, run, tell how far they are, and can be cancelled."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pellucid.errors import Cancelled, PellucidError
from pellucid.run import Run

State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
OVER: frozenset[str] = frozenset({"done", "failed", "cancelled", "interrupted"})
SOON, LATER = 0, 1  # a look at a network goes before the next explanation
KEPT = 200  # jobs that are over and still remembered


def problem(error: BaseException) -> dict[str, str]:
    """An error as the page is told it: what was asked, what was got, the way out."""
    if isinstance(error, PellucidError):
        return {"kind": type(error).__name__, "asked": error.asked, "got": error.got, "fix": error.fix}
    first = (str(error).strip().splitlines() or [""])[0][:200]
    got = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return {"kind": "Unexpected", "asked": "work that ends well", "got": got, "fix": "The terminal of `pellucid serve` has the details."}


@dataclass(eq=False)
class Job:
    """One piece of work. ``phase`` says in words what is going on; ``done`` of ``total`` passes of it (total None: unknown)."""

    id: str
    kind: str
    work: Callable[[Job], Any]
    seed: int = 0
    chunk: int | None = None
    state: State = "waiting"
    phase: str = ""
    done: int = 0
    total: int | None = None
    began: float | None = None
    seconds: float = 0.0
    error: dict[str, str] | None = None
    result: Any = None
    asked: dict[str, str] = field(default_factory=dict)  # what the page may be told of the question
    cancel: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def run(self) -> Run:
        """How methods and checks are to run: they tick this job and hear its cancel."""
        return Run(seed=self.seed, chunk=self.chunk, on_tick=self._tick, cancel=self.cancel)

    def enter(self, phase: str) -> None:
        """Begin another part of the work; raises where the job was cancelled meanwhile."""
        self.phase, self.done, self.total = phase, 0, None
        if self.cancel.is_set():
            raise Cancelled("work to go on", f"cancelled before {phase}", "Nothing was changed.")

    def _tick(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total


@dataclass(eq=False)
class Queue:
    """Jobs by id, and the thread that does them one after the other."""

    jobs: dict[str, Job] = field(default_factory=dict)
    _waiting: list[tuple[int, int, Job]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _bell: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _closed: bool = False

    def add(self, job: Job, priority: int = LATER) -> Job:
        """Put a job into the queue; one of the same id that is not over yet is returned instead."""
        with self._bell:
            known = self.jobs.get(job.id)
            if known is not None and known.state not in OVER:
                return known
            self.jobs[job.id] = job
            heapq.heappush(self._waiting, (priority, next(self._order), job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="pellucid-queue", daemon=True)
                self._thread.start()
            self._bell.notify()
        return job

    def stop(self, key: str) -> bool:
        """Cancel a job; False where there is none, or it is over."""
        with self._bell:
            job = self.jobs.get(key)
            if job is None or job.state in OVER:
                return False
            job.cancel.set()
            if job.state == "waiting":
                _end(job, "cancelled")
            return True

    def ahead(self, job: Job) -> int:
        """How many jobs are done before this one begins."""
        with self._bell:
            mine = next((w for w in self._waiting if w[2] is job), None)
            if mine is None or job.state != "waiting":
                return 0
            return sum(j.state == "running" for j in self.jobs.values()) + sum(w < mine for w in self._waiting if w[2].state == "waiting")

    def far(self, job: Job) -> dict[str, Any]:
        """How far a job is, for the page."""
        told = {"state": job.state, "phase": job.phase, "done": job.done, "total": job.total, "ahead": self.ahead(job)}
        return told | {"stopping": job.cancel.is_set() and job.state not in OVER, "error": job.error}

    def only(self, kind: str, most: int) -> None:
        """Forget all jobs of a kind that are over, but the last few."""
        with self._bell:
            over = [k for k, j in self.jobs.items() if j.kind == kind and j.state in OVER]
            for key in over[: max(0, len(over) - most)]:
                del self.jobs[key]

    def close(self) -> None:
        """Cancel all, and wait a little for the worker to let the network go."""
        with self._bell:
            self._closed = True
            for job in self.jobs.values():
                job.cancel.set()
            self._bell.notify()
        if self._thread is not None:
            self._thread.join(10)

    def _serve(self) -> None:
        while True:
            with self._bell:
                while not self._waiting and not self._closed:
                    self._bell.wait()
                if self._closed:
                    return
                job = heapq.heappop(self._waiting)[2]
                if job.state != "waiting":
                    continue
                job.state, job.began = "running", time.monotonic()
            self._do(job)
            self._forget()

    def _do(self, job: Job) -> None:
        try:
            job.result = job.work(job)
        except Cancelled:
            _end(job, "cancelled")
        except Exception as error:
            if not isinstance(error, PellucidError):
                traceback.print_exc()
            job.error = problem(error)
            _end(job, "failed")
        else:
            _end(job, "done")

    def _forget(self) -> None:
        with self._bell:
            over = [k for k, j in self.jobs.items() if j.state in OVER]
            for key in over[: max(0, len(over) - KEPT)]:
                del self.jobs[key]


def _end(job: Job, state: State) -> None:
    job.state = state
    job.seconds = time.monotonic() - job.began if job.began is not None else 0.0
    job.finished.set()
