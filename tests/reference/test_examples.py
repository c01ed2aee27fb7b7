"""The example in every method's docstring runs and tells the truth (doctest itself does not look into Method objects)."""

import doctest

import pytest

from pellucid.method import methods


@pytest.mark.parametrize("method", list(methods()), ids=lambda m: m.name)
def test_example(method):
    test = doctest.DocTestParser().get_doctest(method.doc, {}, method.name, None, 0)
    assert test.examples
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test)
    assert failed == 0
