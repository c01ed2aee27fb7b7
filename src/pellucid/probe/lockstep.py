"""Lockstep: several explanations advance side by side, so that what they ask fills common chunks.

Each runs in a thread of its own that does nothing but tensor arithmetic; when all have asked (or ended), the engine answers
all of them at once, in the calling thread. The order of answers, and so every result, is the same as one after the other.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from pellucid.probe.question import Block, Reply

Answering = Callable[[list[Block]], list[Reply]]
Work = Callable[[Answering], Any]


class _Stopped(BaseException):
    """Another of the group failed; unwinds a worker."""


class _Worker:
    """One explanation in its own thread: asks by ``post``, waits for the answer."""

    def __init__(self, work: Work) -> None:
        self.asked: queue.SimpleQueue[list[Block] | None] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[list[Reply] | None] = queue.SimpleQueue()
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._live, args=(work,), daemon=True)

    def _live(self, work: Work) -> None:
        try:
            with torch.inference_mode(False), torch.no_grad():
                self.result = work(self.post)
        except BaseException as error:
            self.error = error
        self.asked.put(None)

    def post(self, blocks: list[Block]) -> list[Reply]:
        self.asked.put(blocks)
        told = self.told.get()
        if told is None:
            raise _Stopped
        return told


def meet(answer: Answering, works: Sequence[Work]) -> list[Any]:
    """Run all works side by side; each gets a ``post`` to ask through. Results in order; the first failure ends all."""
    workers = [_Worker(w) for w in works]
    for w in workers:
        w.thread.start()
    live = list(workers)
    try:
        while live:
            asked = [(w, w.asked.get()) for w in live]
            for w, blocks in asked:
                if blocks is None and w.error is not None:
                    raise w.error
            waiting = [(w, blocks) for w, blocks in asked if blocks is not None]
            for group in _alike(waiting):
                replies = iter(answer([b for _, blocks in group for b in blocks]))
                for w, blocks in group:
                    w.told.put([next(replies) for _ in blocks])
            live = [w for w, _ in waiting]
    finally:
        for w in live:
            w.told.put(None)
        for w in workers:
            w.thread.join()
    return [w.result for w in workers]


def _alike(waiting: list[tuple[_Worker, list[Block]]]) -> Iterator[list[tuple[_Worker, list[Block]]]]:
    """Those that can share a pass: same site, same shape, same kind of question."""

    def kind(item: tuple[_Worker, list[Block]]) -> str:
        b = item[1][0]
        place = None if b.inputs is None and b.rules is None else b.question.place  # one pass tells the activations of several sites
        shape = b.question.x.shape if b.inputs is None else b.inputs.shape[1:]
        return f"{b.gradient} {b.inputs is None} {b.rules is None} {b.through} {place and place.text} {tuple(shape)} {tuple(b.question.x.shape)}"

    for _, same in itertools.groupby(sorted(waiting, key=kind), kind):
        yield list(same)
