"""`kongflow demo`: the main job on a stack of its own, from registering an endpoint to a checked result."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cli.commands.endpoints import item_table, list_items
from cli.connection import PING_SECONDS, Target, connected
from cli.demo_apps import running_app, sample_app, sdk_app
from cli.demo_events import explained_when_done, reasons, send_events
from cli.demo_findings import SAMPLE_FINDINGS, SDK_FINDINGS, Finding, Findings, differences
from cli.dispatch_tables import dispatchable_names, explanation_table, run_table
from cli.failures import REFUSED, CommandError
from cli.output import console, enum_name, print_json, table
from cli.queue_tables import queue_job_table, stats_table
from cli.stack import run_until_stopped, showing_steps
from cli.watching import follow_index, index_progress
from services.embedded.directory import make_scratch_directory
from services.embedded.process import uninterrupted
from services.embedded.up import Stack, StackSettings, running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from cli.connection import Connection
    from cli.demo_apps import DemoApp
    from cli.demo_events import DemoEvent

_INTERRUPTED = 130
_SHOWN_QUEUE_JOBS = 5


def run_demo(*, sdk: bool, as_json: bool) -> int:
    """Run the demo and return the exit code.

    Raises:
        CommandError: something did not start, the server refused, or the result is not what it must be.
    """
    begun = time.monotonic()
    app = sdk_app() if sdk else sample_app()
    findings = run_until_stopped(_demo(app, as_json=as_json))
    if findings is None:
        return _INTERRUPTED
    wrong = differences(findings, SDK_FINDINGS if sdk else SAMPLE_FINDINGS)
    seconds = time.monotonic() - begun
    if as_json:
        print_json({"ok": not wrong, "findings": findings, "differences": wrong, "seconds": round(seconds, 1)})
        return REFUSED if wrong else 0
    if wrong:
        raise CommandError(f"The demo's result is not what it must be: {'; '.join(wrong)}.")
    console().print(
        f"\nAll {len(findings)} numbers are what they must be. Everything is stopped again, after {seconds:.0f} s."
        "\nTo look around in a browser, `make up` keeps it running and prints the address of the console.",
        markup=False,
    )
    return 0


async def _demo(app: DemoApp, *, as_json: bool) -> Findings:
    with showing_steps(quiet=as_json) as step:
        async with _scratch_directory() as directory:
            settings = StackSettings(directory=directory, on_step=step)
            async with running_stack(settings) as stack:
                step("Starting the sample endpoint")
                serving = running_app(
                    app, api_key=stack.api_key, platform_url=stack.http_url, directory=directory / "logs"
                )
                async with serving as url:
                    step("")
                    return await asyncio.to_thread(_walk, stack, app, url, as_json)


@asynccontextmanager
async def _scratch_directory() -> AsyncIterator[Path]:
    """Make a directory that holds PostgreSQL's data, too, and remove it with all it holds."""
    directory = await asyncio.to_thread(make_scratch_directory, "kongflow-demo-")
    try:
        yield directory
    finally:
        await uninterrupted(asyncio.to_thread(shutil.rmtree, directory))


def _walk(stack: Stack, app: DemoApp, url: str, as_json: bool) -> Findings:
    """Register the app, show what was found, send events, index it again, and return what is to be checked."""
    target = Target(
        server=stack.grpc_target,
        token=stack.service_token,
        environment_id=stack.environment_id,
        is_embedded=True,
    )
    with connected(target) as connection:
        return _Walk(connection, quiet=as_json).findings_of(app, url)


class _Walk:
    """Does what a user would do, one call after the other, and shows it unless `quiet`."""

    def __init__(self, connection: Connection, *, quiet: bool) -> None:
        self._connection = connection
        self._environment_id = connection.target.environment_id
        self._quiet = quiet
        self._findings: dict[str, Finding] = {}

    def findings_of(self, app: DemoApp, url: str) -> Findings:
        self._say(f"Registering {app.slug} at {url} through gRPC.")
        endpoint = self._register(app.slug, url)
        self._show_catalog()
        self._send(app.events)
        self._show_ledger()
        self._index_again(endpoint)
        return self._findings

    def _register(self, slug: str, url: str) -> Any:  # noqa: ANN401 - Endpoint
        from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - loaded by now

        request = endpoint_service_pb2.CreateEndpointRequest(environment_id=self._environment_id, slug=slug, url=url)
        response = self._connection.call("EndpointService.CreateEndpoint", request, timeout=PING_SECONDS)
        index, items = self._follow(response.index_id)
        self._show(item_table("What the index found", items))
        self._findings["index"] = enum_name(index, "state")
        for field in index.stats.DESCRIPTOR.fields:
            self._findings[f"index {field.name}"] = getattr(index.stats, field.name)
        self._count("item", (enum_name(item, "state") for item in items))
        return response.endpoint

    def _show_catalog(self) -> None:
        from kongflow.v1 import catalog_service_pb2  # noqa: PLC0415 - loaded by now

        answers = {}
        for method, field in (
            ("ListJobs", "jobs"),
            ("ListSources", "sources"),
            ("ListDynamicTriggers", "dynamic_triggers"),
            ("ListSchedules", "schedules"),
        ):
            request = getattr(catalog_service_pb2, f"{method}Request")(environment_id=self._environment_id)
            answer = self._connection.list_all(f"CatalogService.{method}", request, field=field)
            answers[field] = getattr(answer, field)
            self._findings[f"catalog {field}"] = len(answers[field])
        rows = [*_job_rows(answers["jobs"]), *_other_rows(answers)]
        self._show(table("The catalog", ("what", "key", "version", "state", "how"), rows))

    def _send(self, events: tuple[DemoEvent, ...]) -> None:
        from kongflow.v1 import run_service_pb2  # noqa: PLC0415 - loaded by now

        self._say(f"Sending {len(events)} events and asking what came of each.")
        names = dispatchable_names(self._connection)
        for sent, event in zip(send_events(self._connection, events), events, strict=True):
            explanation = explained_when_done(self._connection, sent)
            title = f"{event.name} {event.payload_json}: {explanation.summary}"
            self._show(explanation_table(title, explanation.dispatchers, names))
            self._count("event", [enum_name(explanation.event, "state")])
            self._count("verdict", (enum_name(one, "verdict") for one in explanation.dispatchers))
            for why in reasons(explanation):
                self._findings["no run because"] = why
        request = run_service_pb2.ListRunsRequest(environment_id=self._environment_id)
        runs = self._connection.list_all("RunService.ListRuns", request, field="runs").runs
        self._show(run_table("The runs that were made, newest first", runs))
        self._count("run of", (run.job_slug for run in runs))

    def _show_ledger(self) -> None:
        from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - loaded by now

        stats = self._connection.call(
            "QueueService.GetQueueStats", queue_service_pb2.GetQueueStatsRequest(environment_id=self._environment_id)
        )
        listed = self._connection.list_all(
            "QueueService.ListQueueJobs",
            queue_service_pb2.ListQueueJobsRequest(environment_id=self._environment_id),
            field="queue_jobs",
        )
        self._show(stats_table("The ledger", stats))
        self._show(queue_job_table("Its newest queue jobs", listed.queue_jobs[:_SHOWN_QUEUE_JOBS]))
        self._count("ledger", (f"{job.kind} {enum_name(job, 'state')}" for job in listed.queue_jobs))

    def _index_again(self, endpoint: Any) -> None:  # noqa: ANN401 - Endpoint
        from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - loaded by now

        self._say("Indexing it once more: what has not changed costs nothing.")
        request = endpoint_service_pb2.IndexEndpointRequest(
            endpoint_id=endpoint.id, reason="to see that nothing changed", force=True
        )
        response = self._connection.call("EndpointService.IndexEndpoint", request)
        _, items = self._follow(response.index.id)
        states = [enum_name(item, "state") for item in items]
        self._count("second item", states)
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        self._say(f"The second index: {counts}.")

    def _follow(self, index_id: str) -> tuple[Any, list[Any]]:
        with index_progress("Indexing", quiet=self._quiet) as update:
            index = follow_index(self._connection, index_id, show=update, resume_tries=0)
        return index, list_items(self._connection, index_id)

    def _count(self, name: str, values: Any) -> None:  # noqa: ANN401 - an iterable of texts
        for value in values:
            key = f"{name} {value}"
            self._findings[key] = int(self._findings.get(key, 0)) + 1

    def _say(self, sentence: str) -> None:
        self._show(f"\n{sentence}")

    def _show(self, shown: Any) -> None:  # noqa: ANN401 - what Rich can print
        if not self._quiet:
            console().print(shown, markup=False)


def _offered(entry: Any) -> str:  # noqa: ANN401 - Source or DynamicTrigger
    return "ACTIVE" if entry.enabled else "DISABLED"


def _job_rows(jobs: Any) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - Job messages
    for job in jobs:
        version = job.latest_version
        yield "job", job.slug, version.version, enum_name(version, "state"), version.trigger_type


def _other_rows(answers: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for source in answers["sources"]:
        yield "source", source.key, source.version, _offered(source), source.integration
    for trigger in answers["dynamic_triggers"]:
        yield "dynamic trigger", trigger.slug, "", _offered(trigger), enum_name(trigger, "type").lower()
    for schedule in answers["schedules"]:
        state = "ACTIVE" if schedule.active else "DISABLED"
        yield "schedule", schedule.key, "", state, schedule.schedule_json
