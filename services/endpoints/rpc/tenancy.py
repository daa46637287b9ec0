"""TenancyService: validates, calls the operations, converts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import tenancy_service_pb2 as messages
from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceServicer

from services.endpoints.domain.tenancy import TokenKind
from services.endpoints.operations.tenancy import (
    CreateEnvironment,
    CreateOrganization,
    CreateProject,
    CreateToken,
    EnvironmentFilter,
    TokenFilter,
)
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert import (
    dated,
    environment_message,
    organization_message,
    project_message,
    token_message,
)
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    import grpc

    from services.endpoints.operations.tenancy import TenancyOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]

_ENVIRONMENT_TYPES = enums.members(enums.ENVIRONMENT_TYPE)
_TOKEN_KINDS = enums.members(enums.TOKEN_KIND)
_TOKEN_SCOPES = enums.members(enums.TOKEN_SCOPE)
_DEFAULT_OVERLAP: Final = timedelta(hours=24)
_MAX_OVERLAP: Final = timedelta(days=7)


class TenancyServicer(TenancyServiceServicer):
    """Serves the tenant tree and the credentials of callers."""

    def __init__(self, *, operations: TenancyOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging

    async def CreateOrganization(
        self, request: messages.CreateOrganizationRequest, context: Context
    ) -> messages.CreateOrganizationResponse:
        """Create an organization."""
        checks = Checks()
        wanted = CreateOrganization(
            slug=checks.slug("slug", request.slug),
            title=checks.name("title", request.title, default=request.slug),
            request_id=checks.request_id("request_id", request.request_id),
        )
        checks.finish()
        organization = await self._operations.create_organization(current_principal(), wanted)
        return messages.CreateOrganizationResponse(organization=organization_message(organization))

    async def CreateProject(
        self, request: messages.CreateProjectRequest, context: Context
    ) -> messages.CreateProjectResponse:
        """Create a project."""
        checks = Checks()
        wanted = CreateProject(
            organization_id=checks.uuid("organization_id", request.organization_id),
            slug=checks.slug("slug", request.slug),
            name=checks.name("name", request.name, default=request.slug),
            request_id=checks.request_id("request_id", request.request_id),
        )
        checks.finish()
        project = await self._operations.create_project(current_principal(), wanted)
        return messages.CreateProjectResponse(project=project_message(project))

    async def CreateEnvironment(
        self, request: messages.CreateEnvironmentRequest, context: Context
    ) -> messages.CreateEnvironmentResponse:
        """Create an environment and its API key."""
        checks = Checks()
        wanted = CreateEnvironment(
            project_id=checks.uuid("project_id", request.project_id),
            slug=checks.slug("slug", request.slug),
            type=checks.required_enum("type", request.type, _ENVIRONMENT_TYPES),
            request_id=checks.request_id("request_id", request.request_id),
        )
        checks.finish()
        environment, shown = await self._operations.create_environment(current_principal(), wanted)
        return messages.CreateEnvironmentResponse(
            environment=environment_message(environment),
            api_key=shown.api_key if shown else "",
            signing_secret=shown.signing_secret if shown else "",
        )

    async def GetEnvironment(
        self, request: messages.GetEnvironmentRequest, context: Context
    ) -> messages.GetEnvironmentResponse:
        """Return one environment."""
        checks = Checks()
        environment_id = checks.uuid("environment_id", request.environment_id)
        checks.finish()
        environment = await self._operations.get_environment(current_principal(), environment_id)
        return messages.GetEnvironmentResponse(environment=environment_message(environment))

    async def ListEnvironments(
        self, request: messages.ListEnvironmentsRequest, context: Context
    ) -> messages.ListEnvironmentsResponse:
        """List environments."""
        principal, checks = current_principal(), Checks()
        wanted = EnvironmentFilter(
            organization_id=checks.optional_uuid("organization_id", request.organization_id),
            project_id=checks.optional_uuid("project_id", request.project_id),
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_environments(principal, wanted, asked)
        return messages.ListEnvironmentsResponse(
            environments=map(environment_message, page.items),
            next_page_token=self._paging.next_token(principal, request, page),
        )

    async def RotateApiKey(
        self, request: messages.RotateApiKeyRequest, context: Context
    ) -> messages.RotateApiKeyResponse:
        """Replace an API key."""
        checks = Checks()
        environment_id = checks.uuid("environment_id", request.environment_id)
        overlap = checks.duration("overlap", request.overlap, most=_MAX_OVERLAP)
        checks.finish()
        environment, api_key = await self._operations.rotate_api_key(environment_id, overlap=overlap)
        return messages.RotateApiKeyResponse(environment=environment_message(environment), api_key=api_key)

    async def RotateSigningSecret(
        self, request: messages.RotateSigningSecretRequest, context: Context
    ) -> messages.RotateSigningSecretResponse:
        """Replace a signing secret."""
        checks = Checks()
        environment_id = checks.uuid("environment_id", request.environment_id)
        overlap = _DEFAULT_OVERLAP
        if request.HasField("overlap"):
            overlap = checks.duration("overlap", request.overlap, most=_MAX_OVERLAP)
        checks.finish()
        rotated = await self._operations.rotate_signing_secret(environment_id, overlap=overlap)
        return dated(
            messages.RotateSigningSecretResponse(
                environment=environment_message(rotated.environment),
                signing_secret=rotated.signing_secret,
            ),
            previous_expire_time=rotated.previous_expires_at,
        )

    async def CreateToken(self, request: messages.CreateTokenRequest, context: Context) -> messages.CreateTokenResponse:
        """Create a token."""
        checks = Checks()
        wanted = _token_request(checks, request)
        checks.finish()
        token, secret = await self._operations.create_token(current_principal(), wanted)
        return messages.CreateTokenResponse(token=token_message(token), secret=secret or "")

    async def ListTokens(self, request: messages.ListTokensRequest, context: Context) -> messages.ListTokensResponse:
        """List tokens."""
        principal, checks = current_principal(), Checks()
        wanted = TokenFilter(
            organization_id=checks.optional_uuid("organization_id", request.organization_id),
            kind=checks.enum("kind", request.kind, _TOKEN_KINDS),
            include_revoked=request.include_revoked,
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_tokens(wanted, asked)
        return messages.ListTokensResponse(
            tokens=map(token_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def RotateToken(self, request: messages.RotateTokenRequest, context: Context) -> messages.RotateTokenResponse:
        """Replace the secret of a token."""
        checks = Checks()
        token_id = checks.uuid("token_id", request.token_id)
        overlap = checks.duration("overlap", request.overlap, most=_MAX_OVERLAP)
        checks.finish()
        token, secret = await self._operations.rotate_token(token_id, overlap=overlap)
        return messages.RotateTokenResponse(token=token_message(token), secret=secret)

    async def RevokeToken(self, request: messages.RevokeTokenRequest, context: Context) -> messages.RevokeTokenResponse:
        """Revoke a token."""
        checks = Checks()
        token_id = checks.uuid("token_id", request.token_id)
        checks.finish()
        return messages.RevokeTokenResponse(token=token_message(await self._operations.revoke_token(token_id)))


def _token_request(checks: Checks, request: messages.CreateTokenRequest) -> CreateToken:
    kind = checks.required_enum("kind", request.kind, _TOKEN_KINDS)
    is_service = kind is TokenKind.SERVICE
    organization_id = checks.optional_uuid("organization_id", request.organization_id)
    is_known = request.kind in _TOKEN_KINDS
    if is_known and bool(request.organization_id) != is_service:
        checks.refuse("organization_id", "must be given for a SERVICE token and for no other kind")
    if is_known and bool(request.scopes) != is_service:
        checks.refuse("scopes", "must hold at least one scope for a SERVICE token and none for the other kinds")
    scopes = frozenset(
        checks.required_enum(f"scopes[{position}]", number, _TOKEN_SCOPES)
        for position, number in enumerate(request.scopes)
    )
    expires_at = None
    if request.HasField("expire_time"):
        expires_at = checks.time("expire_time", request.expire_time)
    return CreateToken(
        kind=kind,
        name=checks.name("name", request.name),
        organization_id=organization_id,
        scopes=scopes,
        expires_at=expires_at,
        request_id=checks.request_id("request_id", request.request_id),
    )
