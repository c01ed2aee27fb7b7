"""The API against its own description: schemathesis sends what the description allows, from a fixed seed."""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402

EACH = settings(
    max_examples=5, derandomize=True, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def test_the_api_is_as_it_is_described(viewer):
    """For every operation: no status 500, every answer of the shape that is promised, whatever is sent."""
    viewer.scan("fundus/image.png")
    headers = {"authorization": viewer.api.headers["authorization"]}
    schema = schemathesis.openapi.from_url(f"{viewer.address}/openapi.json", headers=headers)
    wrong, seen = [], 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @EACH
        @given(case=operation.as_strategy())
        def holds(case):
            nonlocal seen
            seen += 1
            checks = schemathesis.checks
            case.call_and_validate(
                headers=headers, checks=[checks.not_a_server_error, checks.status_code_conformance, checks.response_schema_conformance]
            )

        try:
            holds()
        except Exception as error:
            wrong.append(f"{operation.method} {operation.path}: {error}"[:900])
    assert not wrong, "\n\n".join(wrong)
    assert seen > 60
