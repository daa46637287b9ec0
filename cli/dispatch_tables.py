"""Tables of events, dispatchers and runs, and of what dispatchers make of an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cli.output import NOTHING, enum_name, table, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cli.connection import Connection

_NAMED_AT_MOST: Final = 10_000


def event_table(title: str, events: Iterable[Any]) -> Any:  # noqa: ANN401 - what Rich can print
    """Return the table of events."""
    rows = [
        (
            event.name,
            event.source,
            enum_name(event, "state"),
            str(event.match_count) if event.HasField("delivery_time") else NOTHING,
            time_text(event, "deliver_time"),
            event.event_id if event.event_id != event.id else "",
            event.id,
        )
        for event in events
    ]
    return table(title, ("name", "source", "state", "given to", "deliver at (UTC)", "event id", "id"), rows)


def event_fact_table(event: Any) -> Any:  # noqa: ANN401 - Event; what Rich can print
    """Return the table of everything about one event."""
    facts = [
        ("id", event.id),
        ("event id", event.event_id),
        ("name", event.name),
        ("source", event.source),
        ("state", enum_name(event, "state")),
        ("environment", event.environment_id),
        ("account", event.account_id or NOTHING),
        ("priority", enum_name(event, "priority").lower().replace("_", " ")),
        ("given to", f"{event.match_count} dispatcher{'s' * (event.match_count != 1)}"),
        ("happened (UTC)", time_text(event, "timestamp")),
        ("sent (UTC)", time_text(event, "create_time")),
        ("deliver at (UTC)", time_text(event, "deliver_time")),
        ("delivered (UTC)", time_text(event, "delivery_time")),
        ("cancelled (UTC)", time_text(event, "cancel_time")),
        ("queue job", event.queue_job_id),
        ("replay of", event.replay_of or NOTHING),
        ("test", "yes" if event.is_test else "no"),
        ("payload type", enum_name(event, "payload_type")),
        ("payload", event.payload_json),
        ("context", event.context_json),
    ]
    return table("Event", ("field", "value"), facts)


def dispatcher_table(title: str, dispatchers: Iterable[Any], names: Mapping[str, str]) -> Any:  # noqa: ANN401 - see above
    """Return the table of dispatchers; `names` are those of what they start, by id."""
    rows = [
        (
            ", ".join(one.event_names),
            one.source,
            _started(one, names),
            enum_name(one, "origin").lower(),
            dispatcher_state(one),
            one.id,
        )
        for one in dispatchers
    ]
    return table(title, ("events", "source", "starts", "origin", "state", "id"), rows)


def dispatcher_fact_table(dispatcher: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - see above
    """Return the table of everything about one dispatcher."""
    facts = [
        ("id", dispatcher.id),
        ("environment", dispatcher.environment_id),
        ("origin", enum_name(dispatcher, "origin").lower()),
        ("events", ", ".join(dispatcher.event_names)),
        ("source", dispatcher.source),
        ("starts", _started(dispatcher, names)),
        ("state", dispatcher_state(dispatcher)),
        ("account", dispatcher.account_id or NOTHING),
        ("payload filter", dispatcher.payload_filter_json),
        ("context filter", dispatcher.context_filter_json),
        ("filter problem", dispatcher.filter_problem or NOTHING),
        ("created (UTC)", time_text(dispatcher, "create_time")),
        ("updated (UTC)", time_text(dispatcher, "update_time")),
    ]
    return table("Dispatcher", ("field", "value"), facts)


def dispatcher_state(dispatcher: Any) -> str:  # noqa: ANN401 - Dispatcher
    """Return in one word whether events reach a dispatcher."""
    if dispatcher.manual:
        return "MANUAL"
    if not dispatcher.enabled:
        return "DISABLED"
    return "UNREADABLE_FILTER" if dispatcher.filter_problem else "ENABLED"


def explanation_table(title: str, explanations: Iterable[Any], names: Mapping[str, str]) -> Any:  # noqa: ANN401 - see above
    """Return the table of what each dispatcher makes of an event; `names` are those of what they start, by id."""
    rows = [
        (
            _started(one.dispatcher, names),
            one.dispatcher.source,
            enum_name(one, "verdict"),
            one.failed_clause.path,
            one.failed_clause.expected,
            one.failed_clause.found,
            _came_of(one),
            one.dispatcher.id,
        )
        for one in explanations
    ]
    columns = ("starts", "source", "verdict", "looked at", "expected", "found", "what came of it", "dispatcher")
    return table(title, columns, rows)


def run_table(title: str, runs: Iterable[Any]) -> Any:  # noqa: ANN401 - see above
    """Return the table of runs."""
    rows = [
        (
            run.job_slug,
            f"#{run.number}",
            run.version,
            enum_name(run, "state"),
            time_text(run, "create_time"),
            run.event_id,
            run.id,
        )
        for run in runs
    ]
    return table(title, ("job", "number", "version", "state", "made (UTC)", "event id", "id"), rows)


def run_fact_table(run: Any) -> Any:  # noqa: ANN401 - Run; what Rich can print
    """Return the table of everything about one run."""
    facts = [
        ("id", run.id),
        ("job", run.job_slug),
        ("number", f"#{run.number}"),
        ("version", f"{run.version} ({run.job_version_id})"),
        ("state", enum_name(run, "state")),
        ("environment", run.environment_id),
        ("event", run.event_record_id),
        ("event id", run.event_id),
        ("dispatcher", run.dispatcher_id),
        ("endpoint", run.endpoint_id),
        ("account", run.account_id or NOTHING),
        ("test", "yes" if run.is_test else "no"),
        ("made (UTC)", time_text(run, "create_time")),
        ("updated (UTC)", time_text(run, "update_time")),
    ]
    return table("Run", ("field", "value"), facts)


def dispatchable_names(connection: Connection, *, environment_id: str = "") -> dict[str, str]:
    """Return the names of what dispatchers of an environment start, by id; of very many, those of the first.

    An empty `environment_id` is the target's.

    Raises:
        CommandError: the server refused or cannot be reached.
    """
    from kongflow.v1 import catalog_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    environment_id = environment_id or connection.target.environment_id
    jobs = connection.list_all(
        "CatalogService.ListJobs",
        catalog_service_pb2.ListJobsRequest(environment_id=environment_id),
        field="jobs",
        limit=_NAMED_AT_MOST,
    ).jobs
    triggers = connection.list_all(
        "CatalogService.ListDynamicTriggers",
        catalog_service_pb2.ListDynamicTriggersRequest(environment_id=environment_id),
        field="dynamic_triggers",
        limit=_NAMED_AT_MOST,
    ).dynamic_triggers
    names = {job.latest_version.id: job.slug for job in jobs}
    return names | {trigger.id: trigger.slug for trigger in triggers}


def _started(dispatcher: Any, names: Mapping[str, str]) -> str:  # noqa: ANN401 - Dispatcher
    if dispatcher.WhichOneof("dispatchable") == "dynamic_trigger_id":
        trigger_id = dispatcher.dynamic_trigger_id
        return f"dynamic trigger {names.get(trigger_id, trigger_id)}"
    return names.get(dispatcher.job_version_id, f"job version {dispatcher.job_version_id}")


def _came_of(explanation: Any) -> str:  # noqa: ANN401 - DispatcherExplanation
    if not explanation.HasField("invocation"):
        return NOTHING
    invocation = explanation.invocation
    runs = f"{invocation.run_count} run{'s' * (invocation.run_count != 1)}"
    said = f"{enum_name(invocation, 'state')}, {runs}"
    return f"{said}: {invocation.reason}" if invocation.reason else said
