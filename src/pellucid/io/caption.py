"""What a picture says of the map that it shows: the verdict, what was asked, what the values are, of which network. A picture travels alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.io import picture

ALARM = (255, 116, 100)
LEAST = 460  # pixels across, so that the words can be read
EDGE, LINE = 12, 20  # around the words, and from one line to the next
VERDICTS = {
    "supported": "supported. The checks agree.",
    "questionable": "questionable. Some checks stay open.",
    "not supported": "NOT SUPPORTED. The checks speak against this map: do not rely on it.",
    "void": "VOID. Nothing can be concluded from this map.",
    "not examined": "not examined. No checks were made.",
}
ALARMING = ("not supported", "void")
UNDECLARED = "undeclared"  # one number of which nobody has said what it is
MEASURED = ("regression", UNDECLARED)
CLASS = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d+"
ONE = (  # a target of one class, as pellucid.target writes it: of the whole picture, or over a region
    rf"(?P<unit>logit|probability)\((?P<k>{CLASS})\)"
    rf"|region\((?P<part>{CLASS})(?:, mask=(?P<given>given_)?(?P<mask>\w+):(?P<size>\d+))?, of='(?P<of>logit|probability)', how='(?P<how>mean|sum)'\)"
)
WARNING = "AI explanation, not for diagnosis"


@dataclass(frozen=True)
class Caption:
    """Lines below a picture, the first ``loud`` bright (the very first red where it is an alarm), and the same as named texts inside the file."""

    lines: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    alarm: bool = False
    loud: int = 1


def verdict_of(facts: Mapping[str, Any]) -> str:
    """The verdict of a map's facts, or that there is none."""
    return str(facts["evidence"].get("verdict") or "not examined")


def target_of(said: Mapping[str, Any]) -> tuple[str, str]:
    """What was explained, in short, and the unit of its score ("" where none is known), from a provenance: in every picture, object and page."""
    target, classes, output = str(said["target"]), said.get("classes", ()), said.get("output", "")
    measured = output in MEASURED

    def name(found: re.Match[str]) -> str:
        k = ast.literal_eval(found["k"] or found["part"])
        if isinstance(k, str):
            known = k
        elif output == UNDECLARED and found["k"]:
            known = "its number"
        else:
            known = str(classes[k]) if k < len(classes) else f"{'output' if measured else 'class'} {k}"
        if found["k"]:
            return known
        size = f"{found['size']} sample{'' if found['size'] == '1' else 's'}"
        over = f"{known} over the given region {found['mask'][:4]} ({size})" if found["given"] else f"the region of {known}"
        return over + (", summed" if found["how"] == "sum" else "")

    if measured:
        return re.sub(ONE, name, target), ""
    if plain := re.fullmatch(ONE, target):
        return name(plain), plain["unit"] or plain["of"]
    several = re.sub(ONE, lambda found: found[0] if found["k"] else name(found), target)
    return several, "probability" if "probability" in target else "logit" if "logit" in target else ""


def caption_of(facts: Mapping[str, Any], *, zero: bool) -> Caption | None:
    """The caption of a map from its facts; None where they tell of no explanation. ``zero``: the map is zero everywhere."""
    if "provenance" not in facts or "evidence" not in facts:
        return None
    said, verdict = facts["provenance"], verdict_of(facts)
    target, unit = target_of(said)
    notes = [str(c) for c in said.get("caveats", ())]
    if zero and not any("zero everywhere" in n for n in notes):
        notes.insert(0, "the map is zero everywhere")
    weights = str(said.get("weights", ""))[:12]
    texts = {
        "Title": f"{str(said['method']).split('(')[0]} of {target}",
        "Verdict": verdict,
        "Target": f"{target} ({unit})" if unit else target,
        "Method": str(said["method"]),
        "Values": str(said.get("values", "")),
        "Network": f"{said.get('model') or 'unnamed'} {weights}".strip(),
        "Warning": WARNING,
    }
    lines = [
        f"Evidence: {VERDICTS[verdict]}",
        *(f"Note: {n}." for n in notes),
        f"Target: {target} = {facts['score']:.4g} {unit}".rstrip(),
        f"Method: {said['method']}",
        *([f"Values: {texts['Values']}."] if texts["Values"] else []),
        f"Network: {texts['Network']}  ·  pellucid {dict(said.get('versions', {})).get('pellucid', 'source')}  ·  {WARNING}",
    ]
    return Caption(tuple(lines), {k: v for k, v in texts.items() if v}, verdict in ALARMING, 1 + len(notes))


def captioned(page: Any, caption: Caption | None) -> Any:
    """The page with the caption below it, whole: long lines are wrapped."""
    from PIL import Image as Pil
    from PIL import ImageDraw

    if caption is None:
        return page
    wide = max(page.width, LEAST)
    pen = ImageDraw.Draw(page)
    rows = [(row, n) for n, text in enumerate(caption.lines) for row in _wrapped(pen, text, wide - 2 * picture.MARGIN)]
    whole = Pil.new("RGB", (wide, page.height + LINE * len(rows) + 2 * EDGE), picture.PAPER)
    whole.paste(page, (0, 0))
    pen = ImageDraw.Draw(whole)
    for k, (row, n) in enumerate(rows):
        ink = picture.FAINT if n >= caption.loud else ALARM if caption.alarm and n == 0 else picture.INK
        pen.text((picture.MARGIN, page.height + EDGE + LINE * (k + 0.5)), row, fill=ink, font=picture.font(14, row), anchor="lm")
    return whole


def _wrapped(pen: Any, text: str, wide: int) -> list[str]:
    """A text as lines of at most ``wide`` pixels, broken at blanks where there are any."""
    rows = [""]
    for word in re.findall(r"\S+\s*", "".join(c if c.isprintable() else " " for c in text)):
        if rows[-1] and pen.textlength((rows[-1] + word).rstrip(), font=picture.font(14, text)) > wide:
            rows.append("")
        rows[-1] += word
        while pen.textlength(rows[-1].rstrip(), font=picture.font(14, text)) > wide:
            cut = max(1, len(rows[-1]) * wide // int(pen.textlength(rows[-1], font=picture.font(14, text)) + 1))
            rows[-1:] = [rows[-1][:cut], rows[-1][cut:]]
    return [row.rstrip() for row in rows]
