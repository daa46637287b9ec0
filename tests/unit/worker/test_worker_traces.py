"""What the worker adds to traces."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.worker.traces import CallTraces

TRACE = "1" * 32
PARENT = "1234567890abcdef"


def recorded(*traceparents: str) -> list[tuple[str, str, int | None]]:
    exporter = InMemorySpanExporter()
    traces = CallTraces(exporter=exporter)
    traces.note_call("events", lanes=3, began_ns=17, traceparents=traceparents)
    traces.close()
    return [
        (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else "", span.start_time)
        for span in exporter.get_finished_spans()
    ]


def test_call_is_recorded_in_each_trace_from_when_it_began() -> None:
    other = "2" * 32
    assert recorded(f"00-{TRACE}-{PARENT}-01", f"00-{other}-{PARENT}-01") == [(TRACE, PARENT, 17), (other, PARENT, 17)]


@pytest.mark.parametrize(
    "text",
    ["", "x", f"00-{TRACE}-{PARENT}-00", f"00-{'0' * 32}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01", f"00-{TRACE}-01"],
)
def test_what_is_no_recorded_trace_is_passed_over(text: str) -> None:
    assert recorded(text, f"00-{TRACE}-{PARENT}-01") == [(TRACE, PARENT, 17)]


async def test_the_sdk_is_not_imported_while_traces_are_off() -> None:
    check = "import sys, services.worker.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    result = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", check], check=False, env={"PYTHONPATH": ".:gen"}, timeout=60
    )
    assert result.returncode == 0
