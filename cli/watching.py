"""Following an index to its end, with a progress bar where someone looks, and the queues for as long as wanted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cli.failures import command_error
from cli.output import console, enum_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.connection import Connection

RESUME_TRIES: Final = 10
_RESUME_AFTER_SECONDS: Final = 1.0


def follow_index(
    connection: Connection,
    index_id: str,
    *,
    show: Callable[[Any], None],
    resume_tries: int = RESUME_TRIES,
    pause: Callable[[float], None] = time.sleep,
) -> Any:  # noqa: ANN401 - EndpointIndex
    """Return the final state of an index; `show` is given every state on the way.

    A server that goes away is asked again every second, `resume_tries` times, from the revision seen last; `pause` is
    given the seconds in between.

    Raises:
        CommandError: the server refused, or stayed away.
    """
    import grpc  # noqa: PLC0415 - `kongflow --help` starts without it
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415

    index: Any = None
    tries_left = resume_tries
    while True:
        request = endpoint_service_pb2.WatchEndpointIndexRequest(
            index_id=index_id, resume_revision=0 if index is None else index.revision
        )
        try:
            for answer in connection.stream("EndpointService.WatchEndpointIndex", request):
                index = answer.index
                tries_left = resume_tries
                show(index)
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() is not grpc.StatusCode.UNAVAILABLE or tries_left <= 0 or index is None:
                raise command_error(error, server=connection.target.server) from error
            tries_left -= 1
            pause(_RESUME_AFTER_SECONDS)
        else:
            return index


def follow_stats(
    connection: Connection,
    environment_id: str,
    *,
    show: Callable[[Any], None],
    count: int = 0,
    resume_tries: int = RESUME_TRIES,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Give `show` every state of the queues: `count` of them, or with 0 until somebody interrupts.

    A server that goes away is asked again every second, `resume_tries` times; `pause` is given the seconds in between.

    Raises:
        CommandError: the server refused, or stayed away.
    """
    import grpc  # noqa: PLC0415 - see above
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415

    request = queue_service_pb2.WatchQueueStatsRequest(environment_id=environment_id)
    shown = 0
    tries_left = resume_tries
    while True:
        try:
            for state in connection.stream("QueueService.WatchQueueStats", request):
                show(state)
                shown += 1
                tries_left = resume_tries
                if shown == count:
                    return
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() is not grpc.StatusCode.UNAVAILABLE or tries_left <= 0 or not shown:
                raise command_error(error, server=connection.target.server) from error
            tries_left -= 1
            pause(_RESUME_AFTER_SECONDS)


@contextmanager
def index_progress(label: str, *, due: str = "", quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Show a progress bar on standard error and yield what updates it with a state of the index.

    `due` is shown beside an index that has not begun: until when it waits.
    """
    if quiet:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(to_errors=True)) as progress:
        task = progress.add_task(label, total=None, state="")

        def update(index: Any) -> None:  # noqa: ANN401 - EndpointIndex
            state = enum_name(index, "state").lower().replace("_", " ")
            progress.update(
                task,
                total=index.items or None,
                completed=index.items - index.pending_items,
                state=f"{state} until {due}" if due and state == "pending" else state,
            )

        yield update
