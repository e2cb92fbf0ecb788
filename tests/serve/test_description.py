"""Requests made after the service's own description: whatever they hold, the answer is none of 500 and as described."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from rgbflow.serve.limits import Limits
from rgbflow.serve.service import Networks, Service
from rgbflow.serve.teaching import Teaching

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of packages that schemathesis uses


@pytest.fixture
def described(serving, recognizer, base, tmp_path):
    """The description that a service gives of itself, which has networks and can be taught."""
    service = Service(Networks(recognizer, "mine", "given"), Limits(requests_per_second=1e6))
    with serving(service, teaching=Teaching(service, str(base), "given", tmp_path / "takes")) as running:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.long)])
def test_requests_after_the_description_get_described_answers(described, count):
    operations = [one.ok() for one in described.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:

        @settings(max_examples=count, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
        @given(case=operation.as_strategy())
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        check()
