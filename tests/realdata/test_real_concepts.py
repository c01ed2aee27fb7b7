"""Lesions as concepts of a real classifier; skipped by name where the folder of scans is missing."""

from dataclasses import replace

import numpy as np
import pytest
from studies import idrid_concepts as study

from pellucid.concepts import ConceptBank, tcav

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # of the loaders
]
LATE = study.SITES[-1]


@pytest.fixture(scope="module")
def found(realdata):
    """Hard exudates of all photographs, and random patches in their place, each against random patches of the same photographs.

    24 px is the one size of patch at which they are told apart (docs/concepts.md): what is held is that measurement, no finding of its own.
    """
    realdata("fundus-idrid")
    (whole,), _ = study.banks(study.eyes(), 24, study.FEW + 1)
    exudates, asked = whole["hard exudates"], [e.image for e in study.healthy()[:5]]
    place = {p: [i for i, q in enumerate(whole.random.patients) if q == p] for p in dict.fromkeys(exudates.patients)}
    dealt = sorted(i for p, at in place.items() for i in np.random.default_rng(0).permutation(at)[: exudates.patients.count(p)])
    rest = [i for i in range(len(whole.random)) if i not in set(dealt)]
    plain, others = (
        replace(whole.random, name=n, scans=tuple(whole.random.scans[i] for i in at), patients=tuple(whole.random.patients[i] for i in at))
        for n, at in (("nothing", dealt), ("random", rest))
    )
    bank = ConceptBank((exudates, plain), others)
    return tcav(study.network(), bank, asked, study.target(), sites=LATE, pool="max", randoms=study.FEW)


def test_hard_exudates_are_told_from_random_patches_of_the_same_photographs_at_the_late_site(found):
    row = found.row("hard exudates")
    assert row.size > 60 and len(row.null) == study.FEW
    assert row.accuracy > 0.6 and row.accuracy_p < 0.05, (row.accuracy, row.accuracy_p)


def test_random_patches_are_not_told_from_other_ones(found):
    row = found.row("nothing")
    assert row.verdict == "not told apart" and row.accuracy < 0.58, (row.accuracy, row.accuracy_p)
