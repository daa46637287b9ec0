"""The functions of docs/callers.md that verify calls, run on calls that were really sent."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.endpoint_calls import CallSigning, EndpointAddress
from services.endpoints.domain.endpoint_wire import HttpSourceDelivery
from tests.support.absence import skip
from tests.support.command import ROOT
from tests.support.fake_endpoint import FakeEndpoint, json_body, on

if TYPE_CHECKING:
    from tests.support.fake_endpoint import JournalEntry

pytestmark = pytest.mark.acceptance

GUIDE: Final = (ROOT / "docs" / "callers.md").read_text(encoding="utf-8")
OLD, NEW, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3))
DELIVERY: Final = HttpSourceDelivery(
    key="k", secret="s", http_url="http://a/", http_method="POST", http_headers={}, body=b"\x00raw\xff\n"
)
DELIVERED: Final = {"response": {"status": 200}, "events": []}
# Each reads cases as JSON and prints one answer for each.
IN_PYTHON: Final = """{function}
import json, sys
for case in json.load(sys.stdin):
    print(json.dumps(is_from_kongflow(case["headers"], base64.b64decode(case["body"]), case["secret"])))
"""
IN_JAVASCRIPT: Final = """{function}
for (const one of JSON.parse(require('node:fs').readFileSync(0)))
  console.log(isFromKongFlow(one.headers, Buffer.from(one.body, 'base64'), one.secret))
"""
PROGRAMS: Final = {"python": (sys.executable, "-c", IN_PYTHON), "js": ("node", "-e", IN_JAVASCRIPT)}


async def sent(*secrets: str, age: timedelta = timedelta()) -> list[JournalEntry]:
    """Return an index, which has no body, and a delivery, which has one, as an endpoint received them."""
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    behaviour = on("DELIVER_HTTP_SOURCE_REQUEST", json_body(DELIVERED))
    async with (
        FakeEndpoint(behaviour=behaviour) as endpoint,
        AiohttpEndpointClient(guard=guard, clock=lambda: datetime.now(UTC) - age) as client,
    ):
        address = EndpointAddress(
            endpoint.url, endpoint.api_key, endpoint.slug, signing=CallSigning("call-1", secrets) if secrets else None
        )
        await client.index_endpoint(address, read=lambda body: body)
        await client.deliver_http_source_request(address, DELIVERY)
    guard.close()
    return endpoint.journal


def case(entry: JournalEntry, secret: str, *, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """Return what a function of the guide is asked; `body` and `headers` replace what was sent."""
    replaced = {name.replace("_", "-"): value for name, value in headers.items()}
    content = base64.b64encode(body or entry.body).decode()
    return {"headers": {**entry.headers, **replaced}, "body": content, "secret": secret}


@pytest.mark.parametrize("language", PROGRAMS)
async def test_functions_of_the_guide_tell_our_calls_from_others(language: str) -> None:
    program, option, text = PROGRAMS[language]
    if shutil.which(program) is None:
        skip(f"this function needs {program}")
    [function] = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(function.strip().splitlines()) <= 20
    index, delivery = await sent(NEW, OLD)
    genuine = [case(entry, secret) for entry in (index, delivery) for secret in (OLD, NEW)]
    forged = [
        case(delivery, OTHER),
        case(delivery, NEW, body=delivery.body + b" "),
        case(index, NEW, body=b"{}"),
        case(delivery, NEW, webhook_id="call-2"),
        case(delivery, NEW, webhook_timestamp=str(int(delivery.headers["webhook-timestamp"]) + 1)),
        *(case(delivery, NEW, webhook_timestamp=time) for time in ("", "x", "-1", "1e9", "9" * 5000)),
        *(case(delivery, NEW, webhook_signature=each) for each in ("", "v1,", "v1,\u00e9", "v1," + "A" * 44, "v2,x")),
        *(case(entry, NEW) for entry in await sent()),
        *(case(entry, NEW) for entry in await sent(NEW, age=timedelta(minutes=6))),
        *(case(entry, NEW) for entry in await sent(NEW, age=-timedelta(minutes=6))),
        *(case(entry, NEW) for entry in await sent(OLD)),
    ]
    cases = genuine + forged
    process = await asyncio.create_subprocess_exec(
        *(program, option, text.replace("{function}", function)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(json.dumps(cases).encode()), 60)
    answers = [line == "true" for line in output.decode().split()]
    assert process.returncode == 0, output.decode()
    assert answers == [True] * len(genuine) + [False] * len(forged)
