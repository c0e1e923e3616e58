"""The OpenAPI document is true: what it allows to be sent is answered as it says, and never with a fault of ours."""

import asyncio
import json
import os

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.anyio

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "6"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

EXPORTS = {"/logs/export": {"text/csv", "application/jsonl"}, "/bindings/export": {"application/x-ndjson"}}

# They end the session that asks, or make the client sign in anew; what they refuse is tested on its own.
ENDING = {"/admin/api/logout", "/admin/api/me/password"}


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context, value) -> bytes:
    return (
        value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else json.dumps(value).encode()
    )


async def test_the_document_names_every_path_with_its_refusals(api: httpx.AsyncClient):
    document = (await api.get("/openapi/openapi.json")).json()
    established = {
        *("/login", "/dashboard", "/bindings", "/bindings/unbind", "/bindings/ip", "/bindings/ban", "/bindings/unban"),
        *("/logs", "/logs/export", "/settings"),
    }
    assert {f"/admin/api{path}" for path in established} <= document["paths"].keys()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not path.endswith(("/login", "/refresh")):
                assert {"401", "403"} & operation["responses"].keys(), (method, path)


async def test_the_document_names_every_form_of_an_export(api: httpx.AsyncClient):
    paths = (await api.get("/openapi/openapi.json")).json()["paths"]
    for path, forms in EXPORTS.items():
        assert paths[f"/admin/api{path}"]["get"]["responses"]["200"]["content"].keys() == forms


async def test_nothing_that_the_document_allows_is_a_fault_or_a_surprise(api: httpx.AsyncClient, admin_url: str):
    """Also what it does not allow: half of the requests break the document, and must be refused as it says."""
    headers = {"authorization": api.headers["authorization"], "x-real-ip": "192.0.2.1"}
    document = (await api.get("/openapi/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    operations = [found.ok() for found in schema.get_all_operations()]
    faults = [
        await asyncio.to_thread(_faults_of, operation, admin_url, headers)
        for operation in operations
        if operation.path not in ENDING
    ]
    assert [fault for some in faults for fault in some] == []


def _faults_of(operation, url: str, headers: dict[str, str]) -> list[str]:
    found: list[str] = []

    modes = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategies.one_of(modes))
    def ask(case) -> None:
        response = case.call(base_url=url, headers=headers)
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as fault:
            found.append(f"{operation.method.upper()} {operation.path}: {fault}")

    ask()
    return found[:1]
