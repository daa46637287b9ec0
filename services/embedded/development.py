"""The tenant tree and the tokens of an embedded stack, made through gRPC as anyone would make them."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
from kongflow.v1 import environment_pb2, tenancy_service_pb2, tenancy_service_pb2_grpc, token_pb2

from services.embedded.directory import write_private
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from pathlib import Path

STATE_FILE = "development.json"
API_KEY_FILE = "api-key"
SIGNING_SECRET_FILE = "signing-secret"  # noqa: S105 - a file's name
SERVICE_TOKEN_FILE = "service-token"  # noqa: S105 - a file's name
WORKER_TOKEN_FILE = "worker-token"  # noqa: S105 - a file's name
_SLUG = "development"
_CALL_SECONDS = 30


@dataclass(frozen=True, slots=True, repr=False)
class Development:
    """An environment to develop in, with every credential it takes."""

    organization_id: str
    project_id: str
    environment_id: str
    api_key: str
    signing_secret: str
    service_token: str
    worker_token: str


class DevelopmentSetup:
    """Makes the tree and the tokens once, and finds them again.

    Ids are kept in `development.json` beside `api-key`, `signing-secret`, `service-token` and `worker-token`; each is
    written as soon as it is known. What the server no longer knows, because its database is another one, is made anew,
    and so are tokens that it does not accept any more.
    """

    def __init__(self, *, channel: grpc.aio.Channel, admin_token: str, directory: Path) -> None:
        self._stub = tenancy_service_pb2_grpc.TenancyServiceStub(channel)
        self._admin_token = admin_token
        self._directory = directory
        self._state = _read_state(directory / STATE_FILE)

    async def prepare(self) -> Development:
        """Return the environment and its credentials, made where they are missing.

        Raises:
            EmbeddedServerError: the server refuses, most likely because its secrets were replaced under its data; or
                the API key was rotated, and which one holds now is not known here.
        """
        try:
            return await self._prepare()
        except grpc.aio.AioRpcError as error:
            raise EmbeddedServerError(
                f"The development environment cannot be made: {error.details()} [{error.code().name}]"
            ) from error

    async def _prepare(self) -> Development:
        if not await self._is_known():
            self._state = {}
            # It may be accepted, and be that of another organization.
            (self._directory / SERVICE_TOKEN_FILE).unlink(missing_ok=True)
            await self._create_tree()
        return Development(
            organization_id=self._state["organization_id"],
            project_id=self._state["project_id"],
            environment_id=self._state["environment_id"],
            api_key=self._read(API_KEY_FILE),
            signing_secret=self._read(SIGNING_SECRET_FILE),
            service_token=await self._token(
                SERVICE_TOKEN_FILE,
                kind=token_pb2.TOKEN_KIND_SERVICE,
                organization_id=self._state["organization_id"],
                scopes=[token_pb2.TOKEN_SCOPE_READ, token_pb2.TOKEN_SCOPE_WRITE, token_pb2.TOKEN_SCOPE_OPERATE],
            ),
            worker_token=await self._token(WORKER_TOKEN_FILE, kind=token_pb2.TOKEN_KIND_WORKER),
        )

    async def _is_known(self) -> bool:
        environment_id = self._state.get("environment_id")
        if environment_id is None:
            return False
        try:
            await self._call("GetEnvironment", environment_id=environment_id)
            if not (self._directory / API_KEY_FILE).exists():
                response = await self._call("RotateApiKey", environment_id=environment_id)
                write_private(self._directory / API_KEY_FILE, response.api_key)
            elif not await self._is_accepted(self._read(API_KEY_FILE)):
                path = self._directory / API_KEY_FILE
                raise EmbeddedServerError(
                    f"The API key in {path} is not accepted any more: write the new one there, or delete the file and"
                    " another one is made."
                )
            if not (self._directory / SIGNING_SECRET_FILE).exists():
                response = await self._call("RotateSigningSecret", environment_id=environment_id)
                write_private(self._directory / SIGNING_SECRET_FILE, response.signing_secret)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _create_tree(self) -> None:
        organization = await self._create_by_slug("CreateOrganization", title="Development")
        self._state["organization_id"] = organization.organization.id
        project = await self._create_by_slug(
            "CreateProject", name="Development", organization_id=organization.organization.id
        )
        self._state["project_id"] = project.project.id
        environment = await self._call(
            "CreateEnvironment",
            project_id=project.project.id,
            slug=_SLUG,
            type=environment_pb2.ENVIRONMENT_TYPE_DEVELOPMENT,
        )
        self._state["environment_id"] = environment.environment.id
        write_private(self._directory / API_KEY_FILE, environment.api_key)
        write_private(self._directory / SIGNING_SECRET_FILE, environment.signing_secret)
        self._save()

    async def _create_by_slug(self, method: str, **fields: str) -> Any:  # noqa: ANN401 - the method decides the type
        """Create under the usual slug, or under one of our own where another directory's stack has taken it."""
        try:
            return await self._call(method, slug=_SLUG, **fields)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        return await self._call(method, slug=f"{_SLUG}-{secrets.token_hex(4)}", **fields)

    async def _token(self, file: str, **fields: Any) -> str:  # noqa: ANN401 - fields of CreateTokenRequest
        """Return the token kept in `file` while the server accepts it, or a new one."""
        if (self._directory / file).exists() and await self._is_accepted(kept := self._read(file)):
            return kept
        response = await self._call("CreateToken", name=_SLUG, request_id=str(uuid4()), **fields)
        write_private(self._directory / file, response.secret)
        return str(response.secret)

    async def _is_accepted(self, credential: str) -> bool:
        """Tell whether the server knows who holds a credential, whatever that one may do."""
        try:
            await self._call("ListEnvironments", credential=credential, page_size=1)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return False
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise
        return True

    async def _call(self, method: str, *, credential: str | None = None, **fields: Any) -> Any:  # noqa: ANN401 - the method decides both types
        request = getattr(tenancy_service_pb2, f"{method}Request")(**fields)
        metadata = (("authorization", f"Bearer {credential or self._admin_token}"),)
        return await getattr(self._stub, method)(request, metadata=metadata, timeout=_CALL_SECONDS)

    def _read(self, file: str) -> str:
        return (self._directory / file).read_text(encoding="ascii").strip()

    def _save(self) -> None:
        known = _read_state(self._directory / STATE_FILE)
        write_private(self._directory / STATE_FILE, json.dumps({**known, **self._state}, indent=2) + "\n")


def remember_addresses(directory: Path, *, server: str, http_url: str, database_url: str) -> None:
    """Keep where the stack answers, for the command line; the database's address holds a password."""
    known = _read_state(directory / STATE_FILE)
    known.update(server=server, http_url=http_url)
    write_private(directory / STATE_FILE, json.dumps(known, indent=2) + "\n")
    write_private(directory / "database-url", database_url)


def _read_state(path: Path) -> dict[str, str]:
    try:
        state = dict(json.loads(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise EmbeddedServerError(f"{path} cannot be read as JSON: move it away to start afresh.") from error
    return {str(name): str(value) for name, value in state.items()}
