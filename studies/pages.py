"""Pages of docs/ that are written section by section, each with its own stamp, so that one part can be measured again alone."""

from __future__ import annotations

import datetime
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.source import code_hash, reached

ROOT = Path(__file__).parents[1]
MAPS = (
    "attribution", "probe", "ops", "features", "phantoms", "asking.py", "baseline.py", "explain.py", "channels.py", "compare.py", "model.py", "target.py",
    "reading.py", "run.py", "grid.py", "image.py", "method.py", "params.py", "prepare.py",
)  # fmt: skip
READERS = (
    "io/reading.py", "io/content.py", "io/nifti.py", "io/raster.py", "io/archive.py", "image.py", "grid.py",
    *(f"io/dicom/{name}.py" for name in ("frames", "geometry", "parsing", "pixels", "scan", "series", "straighten")),
)  # fmt: skip
ASKED = {  # by the word in a page's stamp: what its numbers are asked of, and among what lies the code that they may hang on
    "phantoms": (("phantoms",), MAPS),
    "maps": (("attribution", "explain.py", "compare.py", "phantoms", "prepare.py"), MAPS),
    "readers": (READERS, READERS),
    "evidence": (("attribution", "evidence", "study", "phantoms"), (*MAPS, "evidence", "intervals.py", "study")),
    "concepts": (("concepts", "phantoms"), (*MAPS, "activations.py", "concepts", "intervals.py")),
    "examples": (
        ("exemplars", "phantoms", "attribution/grad_cam.py", "attribution/integrated_gradients.py"),
        (*MAPS, "activations.py", "exemplars", "intervals.py"),
    ),
}
MADE_BY = {word: reached(*asked) for word, asked in ASKED.items()}


def stamp(script, seconds, note="", *, of="maps"):
    """Which code made a section (``of`` a part of MADE_BY), when, where, and how long it took."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    return f"{script}, {datetime.date.today()}: {machine}; {code(of)}, {seconds:.0f} s{note}."


def code(of):
    """The code that a page depends on, as its stamp says it."""
    return f"code {code_hash(*MADE_BY[of])[:12]} of {of}"


@dataclass(frozen=True)
class Stamp:
    """Who made a part of a page, and with which code."""

    script: str
    code: str
    of: str

    @property
    def old(self):
        """Whether the code has changed since."""
        return self.code != code_hash(*(MADE_BY[self.of] if self.of else ()))[:12]


def stamps(text):
    """All stamps of a page, in their order; ``script`` is empty where the line names none."""
    found = re.finditer(rf"^(.*)\bcode ([0-9a-f]{{12}})(?: of ({'|'.join(MADE_BY)})\b)?", text, re.MULTILINE)
    scripts = re.compile(r"(?:studies|benchmarks)/\w+\.(?:py|toml)")
    return tuple(Stamp(s[0] if (s := scripts.search(m[1])) else "", m[2], m[3] or "") for m in found)


def put(page, head, title, text):
    """Write or replace the section ``title`` of docs/``page``; ``head`` is all that stands before the first section."""
    path = ROOT / "docs" / page if not Path(page).is_absolute() else Path(page)
    before = path.read_text().split("\n## ")[1:] if path.exists() else []
    sections = {s.splitlines()[0]: s.strip("\n") for s in before}
    sections[title] = f"{title}\n\n{text.strip()}"
    path.write_text(head.strip() + "\n" + "".join(f"\n## {s}\n" for s in sections.values()))
