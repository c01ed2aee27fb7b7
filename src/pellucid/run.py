"""Run: memory, batching, progress, cancel and seed, once for everything."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pellucid.errors import Cancelled, OutOfMemory

Pass = Literal["scores", "gradients"]

MOST = 64  # beyond it no network measured here ran faster per sample
CALM = 160 * 2**20  # bytes side by side on a CPU: larger chunks leave the caches (ResNet-18 at 224: gradients fastest by 8, scores by 16)
PAIR = 2  # but never fewer: gradients of DenseNet121-3D at 64^3 took 0.69 s one by one and 0.53 s each in pairs, no network took longer
MAPPED = 32 * 2**20  # bytes from which glibc maps each tensor anew: page faults then cost up to 70 % on top
SHARE = 0.6  # of the memory that is free
SMALL = 2_000_000  # elements: below it one pass is not watched, it cannot fill a machine


@dataclass(frozen=True)
class Run:
    """How to run: ``seed``; ``chunk`` samples side by side (None: planned from measured memory); ``memory`` in bytes (None: 60 % of
    what is free); ``on_tick(done, total)`` after each chunk (total is None where unknown); ``cancel`` to stop from another thread.
    """

    seed: int = 0
    chunk: int | None = None
    memory: int | None = None
    on_tick: Callable[[int, int | None], None] | None = field(default=None, compare=False, repr=False)
    cancel: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)


@dataclass
class Meter:
    """Counts passes (one per sample) and time, tells the caller, hears cancel. Setup passes are those no method asked for."""

    run: Run
    total: int | None = None
    forward: int = 0
    backward: int = 0
    setup: int = 0
    began: float = field(default_factory=time.perf_counter)

    def tick(self, forward: int = 0, backward: int = 0, setup: int = 0) -> None:
        """Add passes; raise Cancelled if the caller asked to stop."""
        self.forward += forward
        self.backward += backward
        self.setup += setup
        if self.run.on_tick is not None and not setup:
            self.run.on_tick(self.forward, self.total)
        if self.run.cancel.is_set():
            raise Cancelled("the run was asked to stop", f"{self.forward} of {self.total or '?'} passes done", "Nothing was changed.")

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken: on a CPU the least of what the system and the container's limits leave, as of this second."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + reusable)
    return _free_on_cpu(int(time.monotonic()))


@lru_cache(maxsize=1)
def _free_on_cpu(_second: int) -> int:
    import psutil

    left = [int(psutil.virtual_memory().available)]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # absent outside a container; "max" is no number
            left.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(min(left), 0)


class _LiveBytes(TorchDispatchMode):
    """Sums the storages alive among those made by operations; stops before the machine runs out (a CPU would kill, not raise)."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.now, self.peak, self.largest = limit, 0, 0, 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch wraps the dispatch for its compiler, whose import costs two seconds; compiled code never comes here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and t.layout == torch.strided:
                storage = t.untyped_storage()
                key = storage._cdata
                if key not in self.alive:
                    self.alive[key] = (StorageWeakRef(storage), storage.nbytes())
                    self.now += storage.nbytes()
                    self.largest = max(self.largest, storage.nbytes())
        self.count += 1
        if self.count % 8 == 0 or self.now > self.peak:
            self._forget()
        self.peak = max(self.peak, self.now)
        if self.now > self.limit:
            raise OutOfMemory(
                "one pass must fit into memory",
                f"over {self.now / 2**30:.1f} GiB for one chunk, {self.limit / 2**30:.1f} GiB free",
                "Crop or resample in prepare=, give windows=, or use a larger machine.",
            )
        return out

    def _forget(self) -> None:
        gone = [k for k, (ref, _) in self.alive.items() if ref.expired()]
        for k in gone:
            self.now -= self.alive.pop(k)[1]


@dataclass
class Peak:
    """Bytes that a measured block held at its highest, and those of the largest tensor that it made (0: not known)."""

    bytes: int = 0
    largest: int = 0


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of what runs inside; on a CPU also refuse to pass 90 % of what is free."""
    peak = Peak()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _LiveBytes(int(0.9 * free_memory(device))) as live:
        yield peak
    peak.bytes, peak.largest = live.peak, live.largest


@dataclass
class Plan:
    """How many samples go side by side, from the peaks of a chunk of one and a chunk of two."""

    device: torch.device
    run: Run
    peaks: dict[int, int] = field(default_factory=dict)
    largest: int = 0  # bytes of the largest tensor in a chunk of one
    limit: int | None = None  # set where a larger chunk failed
    checked: bool = False  # whether samples were found not to influence each other

    @property
    def size(self) -> int:
        """The next chunk: given, or 1, then 2, then what the memory bears."""
        if self.run.chunk is not None:
            return min(self.run.chunk, self.limit or self.run.chunk)
        if self.limit == 1 or 1 not in self.peaks:
            return 1
        if 2 not in self.peaks:
            return 2
        each = max(self.peaks[2] - self.peaks[1], self.peaks[2] // 4, 1)
        fixed = max(self.peaks[1] - each, 0)
        budget = self.run.memory if self.run.memory is not None else int(SHARE * free_memory(self.device))
        calm = MOST
        if self.device.type == "cpu":
            calm = min(max(CALM // each, PAIR), max((MAPPED - 1) // max(self.largest, 1), 1))
        return max(1, min((budget - fixed) // each, calm, MOST, self.limit or MOST))

    @property
    def wants_measure(self) -> bool:
        return self.run.chunk is None and self.size not in self.peaks and self.size <= 2


def no_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out (and not that something is wrong)."""
    return isinstance(error, (torch.OutOfMemoryError, OutOfMemory)) or "DefaultCPUAllocator" in str(error)
