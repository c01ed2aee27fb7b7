"""Annotation: what a map proposed and what a reader made of it, action by action with its time; the effort; one record that holds all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from pellucid.annotation.finding import Finding, runs_of
from pellucid.errors import BadFile, BadParameter
from pellucid.evidence.localization import Proposals

Action = Literal["open", "accept", "reject", "reset", "move", "resize", "paint", "add", "label", "undo"]
IDLE = 60.0  # seconds: a longer pause between two actions counts as this much work


@dataclass(frozen=True)
class Event:
    """An action of the reader: when (seconds since 1970), on which finding, and the finding before and after (None: not there)."""

    at: float
    action: Action
    number: int | None = None
    before: Finding | None = None
    after: Finding | None = None


@dataclass(frozen=True)
class Effort:
    """What a reader spent: actions by kind, and seconds of work (the page being opened counts no action; a pause at most a minute)."""

    actions: int
    seconds: float
    by_kind: Mapping[str, int]


@dataclass(frozen=True)
class Annotation:
    """Findings on one scan of ``shape``; ``proposed`` as the map gave them, ``events`` since, and ``made``: how they were proposed."""

    shape: tuple[int, ...]
    proposed: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    events: tuple[Event, ...] = ()
    made: str = ""

    def __getitem__(self, number: int) -> Finding:
        """A finding by its number.

        Raises:
            BadParameter: there is none.
        """
        for f in self.findings:
            if f.number == number:
                return f
        raise BadParameter(f"one of the findings {[f.number for f in self.findings]}", str(number), "Reload the page.")

    @property
    def accepted(self) -> tuple[Finding, ...]:
        """What the reader stands by: accepted, changed or added; in the order of their numbers."""
        return tuple(sorted((f for f in self.findings if f.state == "accepted"), key=lambda f: f.number))

    @property
    def open(self) -> int:
        """Proposals that nobody has judged yet."""
        return sum(f.state == "proposed" for f in self.findings)

    @property
    def effort(self) -> Effort:
        """Actions and seconds so far."""
        kinds: dict[str, int] = {}
        for e in self.events:
            if e.action != "open":
                kinds[e.action] = kinds.get(e.action, 0) + 1
        # between two actions of one sitting; before an "open" the reader was away
        gaps = [b.at - a.at for a, b in zip(self.events, self.events[1:]) if b.action != "open"]
        return Effort(sum(kinds.values()), sum(min(max(0.0, g), IDLE) for g in gaps), kinds)

    # ------------------------------------------------------------------ what a reader does
    def act(self, action: Action, at: float, number: int | None = None, *, start: Sequence[int] = (), stop: Sequence[int] = (),
            label: str = "", mask: Tensor | None = None) -> Annotation:  # fmt: skip
        """The annotation after an action.

        ``accept``, ``reject`` and ``reset`` judge a finding; ``move`` and ``resize`` put it into another box, ``paint`` gives it another mask, ``label``
        another name: all three accept it, since a reader who corrects a finding stands by it. ``add`` draws a new one, from a box or a mask.
        ``undo`` takes the last action back and counts as one.

        Raises:
            BadParameter: an unknown action, a finding that is not there, a box that leaves the scan, nothing to undo.
        """
        if action not in get_args(Action):
            raise BadParameter(f"an action is one of {', '.join(get_args(Action))}", repr(action), "Choose one.")
        if action == "open":
            return replace(self, events=(*self.events, Event(at, "open")))
        if action == "undo":
            return self._undone(at)
        before = None if action == "add" else self[_given(number)]
        after = self._after(action, before, start, stop, label, mask)
        after.check(self.shape)
        return self._with(Event(at, action, after.number, before, after))

    def _after(
        self, action: Action, before: Finding | None, start: Sequence[int], stop: Sequence[int], label: str, mask: Tensor | None
    ) -> Finding:
        if before is None:
            number = 1 + max([f.number for f in (*self.findings, *(e.after for e in self.events if e.after))], default=0)
            box = Finding(number, (0,) * len(self.shape), self.shape, "accepted", "reader", label=label or "finding")
            if mask is not None:
                return replace(box.painted(mask), touched=False)
            return replace(box, start=tuple(map(int, start)), stop=tuple(map(int, stop)))
        if action in ("accept", "reject", "reset"):
            states = {"accept": "accepted", "reject": "rejected", "reset": "proposed"}
            return replace(before, state=states[action])  # type: ignore[arg-type]
        if action == "label":
            return replace(before, label=label[:60] or "finding", state="accepted")
        if action == "paint":
            if mask is None:
                raise BadParameter("a mask to paint", "none", "Send the mask.")
            return replace(before.painted(mask), state="accepted")
        return replace(before.boxed(start, stop), state="accepted")

    def _undone(self, at: float) -> Annotation:
        depth = 0
        for e in reversed(self.events):
            if e.action == "undo":
                depth += 1
            elif e.action != "open":
                if depth == 0:
                    return self._with(Event(at, "undo", e.number, e.after, e.before))
                depth -= 1
        raise BadParameter("an action to undo", "none", "Go on.")

    def _with(self, event: Event) -> Annotation:
        kept = [f for f in self.findings if f.number != event.number]
        if event.after is not None:
            kept.append(event.after)
        return replace(self, findings=tuple(sorted(kept, key=lambda f: f.number)), events=(*self.events, event))

    # ------------------------------------------------------------------ on disk
    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "kind": "annotation", "version": 1, "shape": list(self.shape), "made": self.made,
            "proposed": [f.facts() for f in self.proposed], "findings": [f.facts() for f in self.findings],
            "events": [asdict(e) for e in self.events],
        }  # fmt: skip

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Annotation:
        """The reverse of ``record``; other entries are left alone.

        Raises:
            BadFile: it is none.
        """
        try:
            events = tuple(
                Event(float(e["at"]), e["action"], e["number"], *(Finding.read(e[k]) if e[k] else None for k in ("before", "after")))
                for e in record["events"]
            )
            proposed, findings = (tuple(Finding.read(f) for f in record[k]) for k in ("proposed", "findings"))
            return cls(tuple(map(int, record["shape"])), proposed, findings, events, str(record["made"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadFile(
                "a record of an annotation", f"{type(error).__name__}: {error}"[:200], "Take one that the viewer wrote."
            ) from error


def begin(shape: Sequence[int], proposals: Proposals | None = None, *, label: str = "finding") -> Annotation:
    """An annotation to start from: what a map proposes (see ``propose``), or nothing."""
    if proposals is None:
        return Annotation(tuple(shape), (), ())
    found = []
    for n, p in enumerate(proposals.found, 1):
        one = Finding(n, p.start, p.stop, score=p.score, label=label)
        if proposals.kind == "mask":
            one = replace(one, runs=runs_of(proposals.labels[one.place] == n))
        found.append(one)
    return Annotation(tuple(shape), tuple(found), tuple(found), made=proposals.made)


def _given(number: int | None) -> int:
    if number is None:
        raise BadParameter("the number of a finding", "none", "Choose one.")
    return number
