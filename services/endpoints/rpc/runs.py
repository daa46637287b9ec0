"""RunService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import run_pb2
from kongflow.v1 import run_service_pb2 as messages
from kongflow.v1.run_service_pb2_grpc import RunServiceServicer

from services.endpoints.operations.runs import RunWish
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert import dated
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    import grpc

    from services.endpoints.domain.run import Run
    from services.endpoints.operations.runs import RunOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]

_STATES: Final = enums.members(enums.RUN_STATE)


class RunServicer(RunServiceServicer):
    """Serves runs."""

    def __init__(self, *, operations: RunOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging

    async def GetRun(self, request: messages.GetRunRequest, context: Context) -> messages.GetRunResponse:
        """Return one run."""
        checks = Checks()
        run_id = checks.uuid("run_id", request.run_id)
        checks.finish()
        run = await self._operations.get_run(current_principal(), run_id)
        return messages.GetRunResponse(run=run_message(run))

    async def ListRuns(self, request: messages.ListRunsRequest, context: Context) -> messages.ListRunsResponse:
        """List runs."""
        principal, checks = current_principal(), Checks()
        wanted = _wish(checks, request)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_runs(principal, wanted, asked)
        return messages.ListRunsResponse(
            runs=map(run_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )


def run_message(run: Run) -> run_pb2.Run:
    """Return a run."""
    return dated(
        run_pb2.Run(
            id=str(run.id),
            number=run.number,
            environment_id=str(run.environment_id),
            state=enums.RUN_STATE[run.state],
            job_slug=run.job_slug,
            job_version_id=str(run.job_version_id),
            version=run.version,
            event_record_id=str(run.event_record_id),
            event_id=run.event_id,
            dispatcher_id=str(run.dispatcher_id),
            endpoint_id=str(run.endpoint_id),
            account_id=run.account or "",
            is_test=run.is_test,
        ),
        create_time=run.created_at,
        update_time=run.updated_at,
    )


def _wish(checks: Checks, request: messages.ListRunsRequest) -> RunWish:
    created_from = checks.time("created_from", request.created_from) if request.HasField("created_from") else None
    created_before = None
    if request.HasField("created_before"):
        created_before = checks.time("created_before", request.created_before)
    if created_from is not None and created_before is not None and created_before <= created_from:
        checks.refuse("created_before", "must be after created_from")
    return RunWish(
        environment_id=checks.optional_uuid("environment_id", request.environment_id),
        job_slug=checks.filter_text("job_slug", request.job_slug),
        event_record_id=checks.optional_uuid("event_record_id", request.event_record_id),
        state=checks.enum("state", request.state, _STATES),
        created_from=created_from,
        created_before=created_before,
    )
