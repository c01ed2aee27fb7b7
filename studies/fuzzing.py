"""Ten thousand damaged scan files: each gives the right array or a typed refusal; counted into docs/fuzzing.md.

    python -m studies.fuzzing --only dicom --part 0/4      one share of one format; results are kept under out/fuzzing
    python -m studies.fuzzing --page                       the page, from all that is kept

Mutant ``k`` of a seed is the same everywhere: its generator is seeded with the seed's name and ``k``. Files are read in a process of their own with a limit
on memory; a file that kills it, or does not come back, is a fault. See ``judged`` for what counts as right.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import resource
import select
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from studies.fuzzing_corpus import corpus, format_of
from studies.fuzzing_mutations import kinds
from studies.fuzzing_oracles import second

TOTAL = 10_000
ROOM = 2 * 2**30  # bytes of address space that reading one small file may add
PATIENCE = 150.0  # seconds of wall time after which a file counts as a hang: long, for a busy machine
CPU = 5.0  # seconds of processor time that no file of a few kilobytes may need
GROWTH = 700  # MiB by which a small file may push the peak of memory (a picture of 9000 x 9000 is legal)
OUT = Path("out/fuzzing")
RIGHT = ("as unmutated", "as the bytes say", "refused")


def mutant(name, data, number):
    """(kind of mutation, bytes) of mutant ``number`` of a seed."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    table = kinds(name, data)
    kind = list(table)[rng.integers(len(table))]
    return kind, table[kind](data, rng)


def same(image, oracle):
    """Whether two Images agree in every value, place, meaning and name."""
    return image.fingerprint == oracle.fingerprint and _masks(image) == _masks(oracle)


def _masks(image):
    return b"" if image.background is None else image.background.numpy().tobytes()


def differs(image, found):
    """How an Image differs from what the second reader says; empty if it does not."""
    values, matrix = found
    mine = image.values.numpy()
    if mine.shape != values.shape:
        return f"shape {mine.shape} against {values.shape}"
    with np.errstate(all="ignore"):
        if not np.array_equal(mine, values.astype(mine.dtype)) and not np.allclose(mine, values, rtol=2e-6, atol=0):
            return f"{int((mine != values.astype(mine.dtype)).sum())} of {mine.size} samples"
    if (matrix is None) != (image.grid.unit == "px") and not (
        matrix is None and np.allclose(image.grid.matrix, np.diag(np.diag(image.grid.matrix)))
    ):
        return "a place in the world"
    if matrix is None:
        return ""
    scale = np.abs(matrix[:3, :3]).max()
    near = np.allclose(image.grid.matrix[:3, :3], matrix[:3, :3], rtol=1e-5, atol=1e-4 * scale)
    return "" if near and np.allclose(image.grid.matrix[:3, 3], matrix[:3, 3], rtol=1e-5, atol=1e-3) else "affine"


def judged(name, data, image, error, oracle):
    """(verdict, words): right is a typed refusal on one printable line, or an array that a second reader of the same bytes confirms.

    Where the second reader refuses the bytes, only the array of the unmutated file will do.
    """
    from pellucid.errors import PellucidError

    if error is not None:
        if not isinstance(error, PellucidError):
            return "another exception", f"{type(error).__name__}: {error}"[:300]
        said = str(error)
        return ("refused", type(error).__name__) if "\n" not in said and said.isprintable() else ("unprintable message", repr(said)[:300])
    if not bool(image.values.isfinite().all()):
        return "not finite", ""
    found = second(name, data)
    if isinstance(found, Exception):
        return ("as unmutated", "") if same(image, oracle) else ("only Pellucid reads it", f"{type(found).__name__}: {found}"[:300])
    words = differs(image, found)
    if words:
        return "wrong array", words + (" (equals the unmutated one)" if same(image, oracle) else "")
    return ("as unmutated" if same(image, oracle) else "as the bytes say"), ""


def attempt(path):
    """(Image or None, exception or None) of one file; warnings are errors, as a reader shows none."""
    import warnings

    from pellucid.io import read

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read(path), None
        except Exception as error:
            return None, error


def work():
    """The reading process: lines ``name number`` in, one line of JSON out for each."""
    out = sys.stdout
    sys.stdout = sys.stderr
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    seeds, oracles = corpus(folder), {}
    path = folder / "mutant"
    for name, data in seeds.items():
        path.write_bytes(data)
        oracles[name] = attempt(path)[0]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        name, number = line.split()
        kind, data = mutant(name, seeds[name], int(number))
        path.write_bytes(data)
        peak, start = _peak(), time.process_time()
        image, error = attempt(path)
        spent, grown = time.process_time() - start, _peak() - peak
        verdict, words = judged(name, data, image, error, oracles[name])
        if spent > CPU:
            verdict, words = "too slow", f"{spent:.1f} s"
        elif grown > GROWTH:
            verdict, words = "too much memory", f"{grown} MiB; {verdict}"
        row = {"seed": name, "number": int(number), "kind": kind, "verdict": verdict, "words": words, "cpu": round(spent, 4), "mib": grown}
        print(json.dumps(row), file=out, flush=True)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Reader:
    """The other process; started anew when a file kills it or does not come back."""

    def __init__(self):
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "studies.fuzzing", "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the reading process did not start")

    def read(self, name, number):
        row = {"seed": name, "number": number, "kind": "?", "cpu": 0.0, "mib": 0}
        self.process.stdin.write(f"{name} {number}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else None
        if line:
            return json.loads(line)
        self.process.kill()
        code = self.process.wait()
        self.start()
        return row | ({"verdict": "hang", "words": f"{PATIENCE:.0f} s"} if line is None else {"verdict": "crash", "words": f"exit {code}"})


def shares(seeds, total=TOTAL):
    """How many mutants of each seed: equal shares, the first ones take the rest."""
    each, rest = divmod(total, len(seeds))
    return {name: each + (n < rest) for n, name in enumerate(seeds)}


def run(only, part, seconds):
    """Read one share of the mutants, stop in time; what is done is appended to a file and not done again."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        names = list(corpus(Path(folder)))
    at, of = (int(v) for v in part.split("/"))
    target = OUT / f"{only}-{at}-{of}.jsonl"
    done = {(r["seed"], r["number"]) for r in _rows([target])} if target.exists() else set()
    todo = [(n, k) for n, count in shares(names).items() if only in ("all", format_of(n)) for k in range(count) if k % of == at]
    todo = [t for t in todo if t not in done]
    reader, end = Reader(), time.monotonic() + seconds
    with target.open("a") as file:
        for count, (name, number) in enumerate(todo):
            if time.monotonic() > end:
                print(f"{len(todo) - count} left")
                break
            row = reader.read(name, number)
            file.write(json.dumps(row) + "\n")
            if row["verdict"] not in RIGHT:
                print(json.dumps(row), flush=True)
    reader.process.kill()


def _rows(paths):
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


HEAD = """
# Damaged files

Whoever reads scans reads broken ones: cut downloads, headers written by hand, a disk that turned a bit. `studies/fuzzing.py` changes {seeds} small seed files (the
table names their formats) in {total:,} ways and reads each result. **Right** is one of three things:

- a **refusal**: an error of Pellucid's own kind, on one printable line;
- the array of the file **as unmutated**;
- another array **as the bytes say**: a second reader of the same bytes gives the same samples, shape and affine. NIfTI, PNG, TIFF and NPY are read a second
  time by hand (`studies/fuzzing_oracles.py`), DICOM by pydicom with bare samples, geometry, rescale and palette written out again, JPEG by PIL, the archive by `zipfile`.

Where the second reader refuses what Pellucid reads, only the unmutated array is right. So a byte changed in bare pixels must change exactly its sample; a byte
changed in a stream with a checksum (PNG, gzip, zip) must be refused; a changed header must be refused or followed.
What no reader can know: JPEG, JPEG 2000, JPEG-LS, RLE, LZW and DICOM's deflate carry no checksum, so a changed byte inside may decode to another picture. There the
second reader uses the same codec, and agreement means that Pellucid added no error of its own.
Mutations: bytes and bits anywhere; files cut, extended, with runs lost or doubled; and changes that know the format (DICOM tags, VRs, lengths, values, transfer
syntaxes, frames; NIfTI fields; PNG chunks with right checksums; JPEG segments; TIFF entries; NPY headers; archive members; gzip and deflate streams packed anew; bombs).
A file may add {room} GiB of address space, {growth} MiB of memory and {cpu:.0f} s of processor time; a crash, a hang, any other exception or a warning is a fault.
"""


FOUND = """
Each of these read a damaged file in silence, or fell over it, before this study; each is refused now (`tests/io/test_fuzz.py`).

| where | what happened |
| --- | --- |
| nibabel | an orientation with a code above 5 was dropped and the voxels placed at the origin; an offset inside the header made header bytes samples |
| PIL | checksums of a PNG's samples were not compared; a header that does not come first, and samples beyond the palette, were accepted |
| tifffile | a broken link between pages ended a stack early; a PlanarConfiguration of another type turned pixels into planes; a strip at offset 0 became zeros; entries without sense were replaced by defaults |
| CharLS | a JPEG-LS frame of a hundred bytes without its end mark took ten seconds to be refused |
| Pellucid | a RescaleSlope, place or spacing that is no number was passed over; compressed DICOM pixels without a transfer syntax were read as bare ones; twice the pixels of one \
frame became two frames; a deflated bomb of zeros took minutes; numbers beyond float32 raised a warning |
"""


def page():
    """docs/fuzzing.md from what is kept."""
    from studies.pages import put, stamp

    rows = list({(r["seed"], r["number"]): r for r in _rows(sorted(OUT.glob("*.jsonl")))}.values())
    seconds = sum(r["cpu"] for r in rows)
    seeds = len({r["seed"] for r in rows})
    head = HEAD.format(seeds=seeds, total=len(rows), room=ROOM // 2**30, growth=GROWTH, cpu=CPU)
    read = sum(r["verdict"] in RIGHT[:2] for r in rows)
    faults = [r for r in rows if r["verdict"] not in RIGHT]
    lines = [
        f"{len(rows):,} files, {read:,} read ({100 * read / len(rows):.0f} %), {len(rows) - read - len(faults):,} refused, **{len(faults)} faults**.",
        "",
    ]
    for title, key in (("format", lambda r: format_of(r["seed"])), ("mutation", lambda r: r["kind"])):
        lines += [f"| {title} | files | as unmutated | as the bytes say | refused | faults |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
        lines += [*_table(rows, key), ""]
    lines.append(
        f"Slowest file {max(r['cpu'] for r in rows):.2f} s of processor time, largest growth of memory {max(r['mib'] for r in rows)} MiB."
    )
    lines += ["", stamp("studies/fuzzing.py", seconds, " in the readers", of="readers")]
    put("fuzzing.md", head, "Result", "\n".join(lines))
    put("fuzzing.md", head, "What it found", FOUND)
    for r in faults:
        print(r)


def _table(rows, key):
    counts = collections.defaultdict(collections.Counter)
    for r in rows:
        counts[key(r)][r["verdict"] if r["verdict"] in RIGHT else "fault"] += 1
    cells = {k: [sum(c.values()), *(c[v] for v in (*RIGHT, "fault"))] for k, c in sorted(counts.items())}
    return [f"| {k} | " + " | ".join(f"{n:,}" for n in v) + " |" for k, v in cells.items()]


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--only", default="all")
    options.add_argument("--part", default="0/1")
    options.add_argument("--seconds", type=float, default=math.inf, help="after which no further file is read")
    options.add_argument("--work", action="store_true")
    options.add_argument("--page", action="store_true")
    given = options.parse_args()
    work() if given.work else page() if given.page else run(given.only, given.part, given.seconds)
