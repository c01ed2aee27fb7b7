"""The API against its own description: schemathesis sends what the description allows, and what it does not, from a fixed seed."""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

PER_OPERATION = 6


@pytest.fixture(scope="module")
def described(viewer):
    viewer.scan("fundus/image.png")
    return schemathesis.openapi.from_url(f"{viewer.address}/openapi.json", headers=dict(viewer.api.headers))


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=PER_OPERATION, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_the_api_is_as_it_is_described(case, viewer):
    """No status 500, every answer of the shape that is promised, whatever is sent."""
    case.call_and_validate(headers=dict(viewer.api.headers), excluded_checks=[schemathesis.checks.unsupported_method])
