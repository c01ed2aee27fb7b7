"""Pages of docs/ that are written section by section, each with its own stamp, so that one part can be measured again alone."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch

from pellucid.source import code_hash

ROOT = Path(__file__).parents[1]


def stamp(script, seconds, note=""):
    """Which code made a section, when, where, and how long it took."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    return f"{script}, {datetime.date.today()}: {machine}; code {code_hash()[:12]}, {seconds:.0f} s{note}."


def put(page, head, title, text):
    """Write or replace the section ``title`` of docs/``page``; ``head`` is all that stands before the first section."""
    path = ROOT / "docs" / page if not Path(page).is_absolute() else Path(page)
    before = path.read_text().split("\n## ")[1:] if path.exists() else []
    sections = {s.splitlines()[0]: s.strip("\n") for s in before}
    sections[title] = f"{title}\n\n{text.strip()}"
    path.write_text(head.strip() + "\n" + "".join(f"\n## {s}\n" for s in sections.values()))
