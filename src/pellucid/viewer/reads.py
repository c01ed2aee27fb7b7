"""Reading: reader studies in the served folder, whose turn it is, what a case shows at its level, and the answers."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadFile, BadParameter, PellucidError
from pellucid.explanation import Map, load
from pellucid.image import Image
from pellucid.io import picture, read
from pellucid.reader_study import LEVELS, Answer, AnswerSheet, ReaderStudy, ReadingCase, Showing, order, read_reader_study
from pellucid.reader_study.answers import READER
from pellucid.reader_study.material import FILE, WORDS
from pellucid.report.planes import lay_out
from pellucid.viewer.desk import Desk
from pellucid.viewer.limits import weigh
from pellucid.viewer.store import missing

KIND = "readings"
DEEP, MOST = 2, 500  # how far below the served folder studies are looked for, and in how many folders


def studies(desk: Desk) -> list[dict[str, Any]]:
    """Every study in the served folder; one that cannot be read, or whose answers cannot, says why."""
    found = []
    for folder in _folders(desk):
        path = desk.shelf.relative(folder)
        try:
            study = read_reader_study(folder)
            key = _key(path, study.name)
            answers = sheet(desk, key).read()
        except PellucidError as error:
            found.append({**_EMPTY, "folder": path, "problem": f"{error.asked}: {error.got}. {error.fix}"})
            continue
        readers = {r: sum(a.reader == r for a in answers) for r in sorted({a.reader for a in answers})}
        found.append({**_told(study), "id": key, "folder": path, "readers": readers, "problem": ""})
    return found


_EMPTY: dict[str, Any] = {"id": "", "name": "", "question": "", "cases": 0, "levels": [], "left_out": {}, "turns": 0, "readers": {}}


def _told(study: ReaderStudy) -> dict[str, Any]:
    turns = len(study.cases) * (len(study.levels) if study.crossed else 1)
    levels = [WORDS[level] for level in study.levels]
    return {
        "name": study.name,
        "question": study.question,
        "cases": len(study.cases),
        "levels": levels,
        "left_out": dict(study.left_out),
        "turns": turns,
    }


def _folders(desk: Desk) -> Iterator[Path]:
    seen, level = 0, [desk.shelf.root.resolve()]
    for _ in range(DEEP + 1):
        below: list[Path] = []
        for folder in level:
            if (folder / FILE).is_file():
                yield folder
            for one in _inside(folder):
                seen += 1
                if seen > MOST:
                    return
                if one.is_dir() and not one.name.startswith(".") and desk.shelf._inside(one):
                    below.append(one)
        level = below


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # not ours to look into
        return []


def _key(folder: str, name: str) -> str:
    return hashlib.sha256(f"{folder}\0{name}".encode()).hexdigest()[:16]


def sheet(desk: Desk, key: str) -> AnswerSheet:
    """The answer sheet of a study."""
    return AnswerSheet(desk.store.folder(KIND, key) / "answers.csv")


def begin(desk: Desk, folder: str) -> str:
    """Open the study in a folder; its id is the same each time."""
    study = read_reader_study(desk.shelf.find(folder))
    key = _key(folder.strip("/"), study.name)
    with desk.store.changing(KIND, key, new={"folder": folder.strip("/"), "name": study.name, "shown": {}}):
        pass
    return key


def study_of(desk: Desk, key: str) -> tuple[ReaderStudy, str]:
    """A study by its id, and its folder."""
    folder = str(desk.store.get(KIND, key)["folder"])
    study = read_reader_study(desk.shelf.find(folder))
    if _key(folder, study.name) != key:
        raise missing(KIND, key)
    return study, folder


def answers(desk: Desk, key: str) -> list[Answer]:
    """All answers of a study."""
    desk.store.get(KIND, key)
    return sheet(desk, key).read()


# ---------------------------------------------------------------------------------------------------- a turn
def turn(desk: Desk, key: str, reader: str) -> dict[str, Any]:
    """What a reader sees next; a refresh shows the same again. The truth is never told."""
    _code(reader)
    study, folder = study_of(desk, key)
    turns = order(study, reader)
    mine = next_of(turns, answers(desk, key), reader)
    told = {"study": _told(study), "reader": reader, "done": len(turns) if mine is None else mine.position, "of": len(turns), "case": None}
    if mine is None:
        return told
    case = study[mine.case]
    shown = [level for level in study.levels if LEVELS.index(level) <= LEVELS.index(mine.level)]
    return {**told, "case": {
        "position": mine.position, "case": case.id, "level": mine.level, "words": WORDS[mine.level], "answers": list(study.answers),
        "scan": desk.scans.open(f"{folder}/{case.scan}".lstrip("/"), case.series),
        "probabilities": dict(case.probabilities) if "probabilities" in shown else {},
        "maps": [m.name for m in case.maps] if "maps" in shown else [],
        "similar": [{"truth": s.truth, "says": s.says} for s in case.similar] if "similar" in shown else [],
        "concepts": list(case.concepts) if "concepts" in shown else [],
    }}  # fmt: skip


def next_of(turns: tuple[Showing, ...], given: list[Answer], reader: str) -> Showing | None:
    """The first turn without an answer; None when all are given."""
    done = {a.position for a in given if a.reader == reader}
    return next((t for t in turns if t.position not in done), None)


def shown(desk: Desk, key: str, reader: str, position: int) -> float:
    """The case is on the screen: its time runs from the first time this is said, which is returned.

    Raises:
        BadParameter: a case whose turn it is not.
    """
    _code(reader)
    mine = next_of(order(study_of(desk, key)[0], reader), answers(desk, key), reader)
    if mine is None or mine.position != position:
        raise BadParameter("the case whose turn it is", f"position {position}", "Reload the page.")
    with desk.store.changing(KIND, key) as record:
        return float(record["shown"].setdefault(reader, {}).setdefault(str(position), time.time()))


def answer(desk: Desk, key: str, reader: str, position: int, said: str, confidence: float, away: float) -> None:
    """Write an answer down; it is on the disk when this returns.

    Raises:
        BadParameter: not this reader's turn, none of the answers, or a case that was not shown.
    """
    _code(reader)
    study, _ = study_of(desk, key)
    mine = next_of(order(study, reader), answers(desk, key), reader)
    if mine is None or mine.position != position:
        raise BadParameter("an answer to the case that is shown", f"one at position {position}", "Reload the page.")
    if said not in study.answers:
        raise BadParameter(f"one of {', '.join(study.answers)}", repr(said)[:60], "Choose one.")
    since = desk.store.get(KIND, key)["shown"].get(reader, {}).get(str(position))
    if since is None:
        raise BadParameter("an answer to a case that was shown", "one that was not", "Reload the page.")
    seconds = round(max(0.0, time.time() - since), 3)
    case, away = study[mine.case], round(min(away, seconds), 3)
    words = (study.name, reader, position, case.id, mine.level, mine.block, said, case.truth)
    sheet(desk, key).add(Answer(*words, confidence, seconds, away))


def _code(reader: str) -> None:
    if READER.fullmatch(reader) is None:
        raise BadParameter("a reader's code, R and a number (R1, R07)", repr(reader)[:40], "A code names nobody; keep the list elsewhere.")


# ---------------------------------------------------------------------------------------------------- what is shown
def map_of(desk: Desk, key: str, case_id: str, n: int) -> tuple[Map, str]:
    """A map of a case, and the id of its scan.

    Raises:
        BadFile: no such map, or one of another scan.
    """
    study, folder = study_of(desk, key)
    case = study[case_id]
    if not 0 <= n < len(case.maps):
        raise missing("maps", str(n))
    path = _file(desk, folder, case.maps[n].file)
    scan = desk.scans.open(f"{folder}/{case.scan}".lstrip("/"), case.series)
    why = desk.maps.get(f"{key}/{case_id}/{n}", lambda: load(path))
    if why.scan.grid.shape != desk.scans.image(scan).grid.shape:
        raise BadFile("a map of the case's scan", f"one of a scan {why.scan.grid.shape}", "Make the map from this scan.")
    return why, scan


def similar(desk: Desk, key: str, case_id: str, n: int) -> bytes:
    """A similar case as PNG: the picture, or the middle slice of a volume."""
    study, folder = study_of(desk, key)
    case: ReadingCase = study[case_id]
    if not 0 <= n < len(case.similar):
        raise missing("similar cases", str(n))
    return _png(read(_file(desk, folder, case.similar[n].file)))


def _file(desk: Desk, folder: str, name: str) -> Path:
    path = desk.shelf.find(f"{folder}/{name}".lstrip("/"))
    if not path.is_file():
        raise BadFile("a file of the study", name[:80], "Put it into the study's folder.")
    weigh(path, desk.limits)
    return path


def _png(image: Image) -> bytes:
    from PIL import Image as Pil

    if picture.is_color(image):
        shade = picture.color_of(image)
    else:
        layout = lay_out(image)
        plane = layout.planes[0]
        volume = layout.array(picture.gray_of(image, image.grid.shape))
        shade = volume if plane.through is None else np.take(volume, volume.shape[plane.through] // 2, plane.through)
        shade = shade if plane.y < plane.x else shade.T
        shade = shade[::-1] if plane.flip_y else shade
    made = Pil.fromarray(np.ascontiguousarray((255 * np.clip(shade, 0, 1)).astype(np.uint8)))
    made.thumbnail((512, 512))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()
