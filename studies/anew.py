"""Make anew every study whose page is older than the code that its numbers can reach: python studies/anew.py [--list] [--all] [--at-once 2] [name ...]

Studies that stamp no page (pictures, the parity table) have no age, and are made each time. Each runs in a process of its own, and its words are kept in
out/anew/. What a study had kept in its folder of out/ goes when the code is another. A study that fails is told at the end, and the others go on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studies.pages import code, stamps  # noqa: E402

COMMANDS = {  # the long ones first
    "real_scans": [()], "verdict": [()], "gallery": [()], "enrichment": [()], "family": [()], "retrieval": [()], "randomization": [()],
    "localization": [()], "concepts_null": [()], "data_randomization": [()], "idrid_concepts": [()], "predictions": [("300", "500")],
    "annotate": [("fundus_dme",), ("chest",), ("fundus_dme", "24", "3", "1"), ("brain_atrophy",)], "four_levels": [()], "cues": [()], "figures": [()], "fuzzing": [(), ("--page",)],
    "parity": [()], "demo_picture": [()], "cohort_picture": [()], "shortcuts": [()],
}  # fmt: skip
AFTER = {"shortcuts": "family", "verdict": "family"}  # whose networks they judge
HANGS_ON = {"family": "phantoms", "fuzzing": "readers"}  # what is kept in their folders; the others' hangs on all that evidence does


def stale(name: str) -> bool:
    """Whether some page has a stamp of the study that is older than the code; a study that stamps no page is never fresh."""
    found = [s for page in sorted((ROOT / "docs").glob("*.md")) for s in stamps(page.read_text()) if s.script == f"studies/{name}.py"]
    return not found or any(s.old for s in found)


def make(name: str) -> tuple[str, int, float]:
    """Run a study; returns its name, how it ended and how long it took."""
    began, folder = time.time(), ROOT / "out" / "anew"
    folder.mkdir(parents=True, exist_ok=True)
    _emptied(name)
    ended = 0
    with (folder / f"{name}.log").open("w") as log:
        for arguments in COMMANDS[name]:
            call = [sys.executable, "-m", f"studies.{name}", *arguments]
            ended = ended or subprocess.run(call, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log).returncode
    print(f"{name:20} {'made' if ended == 0 else f'failed ({ended}), see {log.name}'}, {time.time() - began:.0f} s", flush=True)
    return name, ended, time.time() - began


def _emptied(name: str) -> None:
    """Take away what the study kept under other code, its own or the package's."""
    folder = ROOT / "out" / name
    now = f"{code(HANGS_ON.get(name, 'evidence'))}, {hashlib.sha256((ROOT / 'studies' / f'{name}.py').read_bytes()).hexdigest()}"
    if folder.is_dir() and (not (folder / "made_by").exists() or (folder / "made_by").read_text() != now):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made_by").write_text(now)


def main() -> int:
    """Run what is old; the exit status tells whether something failed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", choices=[[], *COMMANDS], default=[], help="These, whatever their age.")
    options.add_argument("--all", action="store_true", help="All of them.")
    options.add_argument("--list", action="store_true", help="Only say which are old.")
    options.add_argument("--at-once", type=int, default=2)
    asked = options.parse_args()
    due = asked.names or [n for n in COMMANDS if asked.all or stale(n)]
    if asked.list:
        print("\n".join(due))
        return 0
    first, last = [n for n in due if AFTER.get(n) not in due], [n for n in due if AFTER.get(n) in due]
    ended = []
    with ThreadPoolExecutor(max(1, asked.at_once)) as pool:
        for some in (first, last):
            ended += pool.map(make, some)
    failed = [name for name, status, _ in ended if status]
    print(f"{len(ended) - len(failed)} of {len(ended)} made" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
