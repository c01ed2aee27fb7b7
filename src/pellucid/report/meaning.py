"""Meaning: what the values of a map are, in the words of its color bar and of the first lines. The method declares it; nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.errors import PellucidError
from pellucid.method import REGISTRY, Facts, Values, read_method


@dataclass(frozen=True)
class Meaning:
    """``what``, ``low`` and ``high`` stand below the color bar; ``marks`` is what half of lies somewhere, counted by ``size`` or above zero."""

    what: str
    low: str
    high: str
    marks: str
    size: bool = False


def facts_of(method: str) -> Facts | None:
    """What a method declares, by the text of a map's provenance; where that cannot be read, what the method of that name declares."""
    from pellucid import attribution as attribution  # registers them

    try:
        return read_method(method).facts
    except (PellucidError, TypeError, ValueError, RecursionError):
        known = REGISTRY.get(method.partition("(")[0])
        return None if known is None else known.facts


def meaning(method: str, target: str, unit: str, score: str = "score") -> Meaning:
    """What a map's values are. ``score``: what the target's number is called (``value`` for a measurement), in ``unit`` ("" for none)."""
    facts = facts_of(method)
    values = facts.values if facts is not None and isinstance(facts.values, Values) else Values.UNDECLARED
    of = f" ({unit})" if unit else ""
    pro = "what raises" if score == "value" else "what speaks for"
    said = {
        Values.CONTRIBUTIONS: Meaning(f"contribution to the {score}{of}", f"lowers the {score}", f"raises the {score}", f"{pro} {target}"),
        Values.SLOPES: Meaning(
            f"slope: change of the {score}{of} per unit", "higher here: falls", "higher here: rises", f"the sensitivity of {target}", size=True
        ),
        Values.FEATURES: Meaning("weighted strength of features", "features against it", "features for it", f"what it marks for {target}"),
        Values.ACTIVATIONS: Meaning("activation, whatever is asked", "below the mean", "above the mean", "what it marks", size=True),
        Values.LEVELS: Meaning(f"mean {score}{of} when visible", "", "higher when visible", f"what it marks for {target}", size=True),
        Values.SHARES: Meaning("share, 0 to 1", "", "more", f"what it marks for {target}", size=True),
        Values.PATTERNS: Meaning("strength of a pattern, no unit", "negative", "positive", f"what it marks for {target}", size=True),
        Values.SIZES: Meaning("size, without for or against", "", "larger", f"what it marks for {target}", size=True),
        Values.UNDECLARED: Meaning("relevance, unit not declared", "negative", "positive", f"what it marks for {target}", size=True),
    }[values]  # fmt: skip
    if facts is not None and not facts.hears_target:
        return Meaning(
            f"{said.what.partition(',')[0]}, the same for every answer",
            said.low,
            said.high,
            "what it marks, the same for every answer,",
            True,
        )
    return said
