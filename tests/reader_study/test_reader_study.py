"""Reader studies: the order, the answer sheet through crashes, and statistics against scikit-learn and slow formulas, with simulated readers."""

import itertools
import json
import math
import os
from collections import Counter

import numpy as np
import pytest

from pellucid.errors import BadFile, BadParameter
from pellucid.reader_study import LEVELS, Answer, AnswerSheet, ReaderStudy, ReadingCase, order, read_reader_study, results
from pellucid.reader_study.results import cohen_kappa, fleiss_kappa


def study(n=12, levels=LEVELS, crossed=True, seed=3):
    cases = tuple(ReadingCase(f"case-{i:02d}", "x.png", "ab"[i % 2]) for i in range(n))
    return ReaderStudy("trial", "Which?", ("a", "b"), cases, tuple(levels), {}, crossed, seed)


# ---------------------------------------------------------------------------------------------------- the order
@pytest.mark.parametrize("n", [2, 3, 12, 13])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_every_reader_sees_every_case_at_every_level_and_none_twice_in_a_row(n, k):
    s = study(n, LEVELS[:k])
    for reader in ("R1", "R2", "R3"):
        turns = order(s, reader)
        assert [t.position for t in turns] == list(range(n * k))
        assert Counter((t.case, t.level) for t in turns) == Counter(itertools.product([c.id for c in s.cases], s.levels))
        last = {}
        for t in turns:
            assert t.position - last.get(t.case, -n) > n // 2
            last[t.case] = t.position
        for block in range(k):
            per_level = Counter(t.level for t in turns if t.block == block)
            assert max(per_level.values()) - min(per_level.get(lv, 0) for lv in s.levels) <= 1


def test_the_order_is_the_readers_own_and_always_the_same():
    s = study()
    assert order(s, "R1") == order(s, "R1") != order(s, "R2")
    assert order(study(seed=4), "R1") != order(s, "R1")
    firsts = Counter(order(s, f"R{i}")[0].level for i in range(200))
    assert min(firsts[level] for level in LEVELS) > 25
    once = order(study(crossed=False), "R1")
    assert len(once) == 12 and len({t.case for t in once}) == 12 and set(Counter(t.level for t in once).values()) == {3}


# ---------------------------------------------------------------------------------------------------- the study's file
def told(**changes):
    case = {"id": "case-01", "scan": "a.png", "truth": "yes", "probabilities": {"yes": 0.8}, "maps": [{"file": "m.npz", "name": "map"}]}
    return {"name": "s", "question": "Is it?", "answers": ["yes", "no"], "cases": [case, {**case, "id": "case-02", "maps": []}], **changes}


def test_levels_without_material_are_left_out_and_it_is_said(tmp_path):
    (tmp_path / "reader_study.json").write_text(json.dumps(told()))
    s = read_reader_study(tmp_path)
    assert s.levels == ("probabilities",)
    assert s.left_out == {"maps": "1 of 2 cases have none", "similar": "2 of 2 cases have none", "concepts": "2 of 2 cases have none"}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a/b"},
        {"answers": ["yes"]},
        {"cases": []},
        {"levels": ["all"]},
        {"levels": ["concepts"]},
        {"cases": [{"id": "c", "scan": "../a.png", "truth": "yes"}]},
        {"cases": [{"id": "c", "scan": "a.png", "truth": "maybe"}]},
        {"cases": [{"id": "c", "scan": "a.png", "truth": "yes", "probabilities": {"yes": 2}}]},
        {"cases": [{"id": "c", "scan": "a.png", "truth": "yes", "similar": [{"file": "a.png", "truth": "yes"}]}]},
        {"cases": [{"id": "Miller, John", "scan": "a.png", "truth": "yes"}]},
        {"cases": "many"},
    ],
)
def test_a_study_that_makes_no_sense_is_refused(tmp_path, changes):
    (tmp_path / "reader_study.json").write_text(json.dumps(told(**changes)))
    with pytest.raises(BadFile):
        read_reader_study(tmp_path)


# ---------------------------------------------------------------------------------------------------- the answer sheet
def answer(position=0, reader="R1", **more):
    given = {
        "case": f"case-{position}",
        "level": "maps",
        "block": 0,
        "answer": "a",
        "truth": "b",
        "confidence": 0.75,
        "seconds": 3.5,
        "away": 0.25,
    }
    return Answer("trial", reader, position, **{**given, **more})


def test_answers_come_back_as_they_were_given(tmp_path):
    sheet = AnswerSheet(tmp_path / "answers.csv")
    given = [answer(0), answer(1, answer='has "DME", surely'), answer(0, "R2", confidence=1 / 3)]
    for a in given:
        sheet.add(a)
    assert AnswerSheet(tmp_path / "answers.csv").read() == given
    with pytest.raises(BadParameter, match="second one"):
        sheet.add(answer(1, seconds=9.0))


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\nb", "a\0b", "\ud800", "x" * 1001, "x" * 200_000])
def test_what_no_line_of_a_sheet_can_hold_is_refused_before_anything_is_written(tmp_path, text):
    sheet = AnswerSheet(tmp_path / "answers.csv")
    sheet.add(answer(0))
    before = sheet.path.read_bytes()
    for column in ("answer", "truth", "case", "level"):
        with pytest.raises(BadParameter, match="text of one line"):
            sheet.add(answer(1, **{column: text}))
    assert sheet.path.read_bytes() == before and sheet.read() == [answer(0)]
    (tmp_path / "reader_study.json").write_text(json.dumps(told(answers=["yes", "no", text])))
    with pytest.raises(BadFile, match="not one line"):
        read_reader_study(tmp_path)


@pytest.mark.parametrize(
    "text", ["", " ", "\t", 'a"b', '"', "a,b", "a;b", "'", "\u2028", "\x0b\x0c\x1c\x85", "mass \u2013 left", "x" * 999, "\U0001f600"]
)
def test_what_a_line_can_hold_comes_back(tmp_path, text):
    sheet = AnswerSheet(tmp_path / "answers.csv")
    for n in range(2):
        sheet.add(answer(n, answer=text, truth=f"={text}"))
    assert sheet.read() == [answer(n, answer=text, truth=f"={text}") for n in range(2)]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_a_crash_cut_off_is_dropped_and_written_over(tmp_path, cut):
    sheet = AnswerSheet(tmp_path / "answers.csv")
    sheet.add(answer(0))
    sheet.add(answer(1))
    whole = sheet.path.read_bytes()
    os.truncate(sheet.path, len(whole) - cut)
    assert sheet.read() == [answer(0)]
    sheet.add(answer(1))
    assert sheet.path.read_bytes() == whole


def test_nobody_is_named_and_nothing_odd_is_kept(tmp_path):
    for wrong in ({"reader": "Dr. House"}, {"confidence": 1.2}, {"confidence": math.nan}, {"seconds": -1.0}, {"seconds": math.inf}):
        with pytest.raises(BadParameter):
            answer(**wrong)
    (tmp_path / "x.csv").write_text("name,age\nMiller,60\n")
    with pytest.raises(BadFile):
        AnswerSheet(tmp_path / "x.csv").add(answer())
    assert (tmp_path / "x.csv").read_text() == "name,age\nMiller,60\n"


# ---------------------------------------------------------------------------------------------------- statistics
def simulated(s, readers, right, sure, seed=0):
    """Readers who are right with the probability of their level, and whose confidence is that of ``sure``."""
    chance = np.random.default_rng(seed)
    found = []
    for r in range(readers):
        for t in order(s, f"R{r + 1}"):
            truth = s[t.case].truth
            hit = chance.uniform() < right[t.level]
            confidence = float(np.clip(sure[t.level] + chance.normal(0, 0.05), 0, 1))
            said = truth if hit else "ab"[truth == "a"]
            found.append(
                Answer(s.name, f"R{r + 1}", t.position, t.case, t.level, t.block, said, truth, confidence, float(chance.gamma(4, 3)))
            )
    return found


def test_cohen_is_scikit_learns_and_fleiss_is_the_papers():
    from sklearn.metrics import cohen_kappa_score

    chance = np.random.default_rng(1)
    for _ in range(5):
        a = chance.integers(0, 3, 40)
        b = np.where(chance.uniform(size=40) < 0.6, a, chance.integers(0, 3, 40))
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    # the example of Fleiss 1971 as it is usually printed: 14 raters, 10 subjects, 5 categories, kappa 0.210
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2],
             [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    codes = np.array([[k for k, n in enumerate(row) for _ in range(n)] for row in table]).T
    assert fleiss_kappa(codes, 5) == pytest.approx(0.210, abs=5e-4)
    assert math.isnan(fleiss_kappa(codes[:1], 5)) and math.isnan(cohen_kappa([1, 1], [1, 1]))


def test_fleiss_with_gaps_is_a_slow_loop_over_pairs():
    chance = np.random.default_rng(2)
    codes = chance.integers(-1, 3, (5, 30))
    agreed, counts = [], Counter()
    for case in codes.T:
        said = [int(v) for v in case if v >= 0]
        if len(said) < 2:
            continue
        counts.update(said)
        agreed.append(np.mean([a == b for a, b in itertools.permutations(said, 2)]))
    expected = sum((n / sum(counts.values())) ** 2 for n in counts.values())
    assert fleiss_kappa(codes, 3) == pytest.approx((np.mean(agreed) - expected) / (1 - expected), abs=1e-12)


def test_numbers_of_a_level_are_those_of_plain_formulas():
    from sklearn.metrics import accuracy_score, brier_score_loss

    s = study(20)
    given = simulated(s, 3, dict(zip(LEVELS, (0.6, 0.7, 0.8, 0.9))), dict.fromkeys(LEVELS, 0.8))
    found = results(given, draws=50)
    for level in LEVELS:
        own = [a for a in given if a.level == level]
        right = [a.answer == a.truth for a in own]
        sure = np.array([a.confidence for a in own])
        assert found["accuracy", level].value == pytest.approx(accuracy_score([a.truth for a in own], [a.answer for a in own]))
        assert found["brier", level].value == pytest.approx(brier_score_loss(right, sure))
        assert found["seconds", level].value == pytest.approx(np.median([a.seconds for a in own]))
        ece, edges = 0.0, np.linspace(0, 1, 6)
        for low, high in itertools.pairwise(edges):
            inside = (sure > low) & (sure <= high) | ((sure == 0) & (low == 0))
            if inside.any():
                ece += inside.mean() * abs(np.array(right)[inside].mean() - sure[inside].mean())
        assert found["ece", level].value == pytest.approx(ece)
        change = found["accuracy", level]
        assert (
            math.isnan(change.change)
            if level == LEVELS[0]
            else change.change == pytest.approx(change.value - found["accuracy", LEVELS[0]].value)
        )
    assert "brier" in str(found.table()) and json.loads(json.dumps(found.as_dict()))["readers"] == 3


def test_intervals_hold_the_true_accuracy_about_as_often_as_they_say():
    """Right by coin, 4 readers and 24 cases: of 24 studies at least 19 intervals hold the truth (fewer at 95 %: one in a hundred)."""
    s = study(16, LEVELS[:2])
    held = 0
    for seed in range(24):
        found = results(simulated(s, 4, {"probabilities": 0.7, "maps": 0.7}, dict.fromkeys(LEVELS, 0.7), seed), draws=80, seed=seed)
        f = found["accuracy", "maps"]
        held += f.low <= 0.7 <= f.high
    assert held >= 19


def test_the_interval_is_wider_where_answers_hang_on_the_case_or_the_reader():
    """The same share of right answers, but whole cases (or readers) wrong: an interval over answers alone would not see that."""
    s = study(24, LEVELS[:1])
    cases, readers = [c.id for c in s.cases], [f"R{i}" for i in range(1, 7)]

    def width(wrong):
        given = [
            Answer("trial", r, i, c, "probabilities", 0, "b" if wrong(i, j) else "a", "a", 0.7, 5.0)
            for j, r in enumerate(readers)
            for i, c in enumerate(cases)
        ]
        f = results(given, draws=150)["accuracy", "probabilities"]
        return f.high - f.low

    spread, by_case, by_reader = width(lambda i, j: (i + j) % 3 == 0), width(lambda i, j: i % 3 == 0), width(lambda i, j: j % 3 == 0)
    assert by_case > 1.5 * spread and by_reader > 1.5 * spread


def test_what_the_numbers_cannot_tell_is_said():
    s = study(6)
    one = results(simulated(s, 1, dict.fromkeys(LEVELS, 0.8), dict.fromkeys(LEVELS, 0.8))[:-1], draws=20)
    words = " ".join(one.notes)
    for part in ("One reader", "too narrow", "different numbers", "remember"):
        assert part in words
    assert math.isnan(one["fleiss", "maps"].value)
    with pytest.raises(BadParameter):
        results([])
