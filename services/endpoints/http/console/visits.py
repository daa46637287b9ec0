"""One request of somebody who is signed in: who it is, and what the address asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from services.endpoints.domain.errors import (
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from services.endpoints.domain.json_text import find_unstorable
from services.endpoints.domain.page import PageRequest
from services.endpoints.domain.tenancy import PrincipalKind, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

    from aiohttp import web

    from services.endpoints.domain.page import Page
    from services.endpoints.domain.tenancy import Principal
    from services.endpoints.http.console.sessions import Session
    from services.endpoints.operations.page_tokens import PageTokens

PAGE_SIZE: Final = 50
PAGE_TOKEN: Final = "page_token"  # noqa: S105 - the name of a query parameter

_HASH_BYTES: Final = 16
_MAX_FILTER_CHARACTERS: Final = 1_000

_Choice = TypeVar("_Choice", bound="Enum")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows: a template and its values."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in; `form` is what was filled in, None where only an address asks."""

    request: web.Request
    principal: Principal
    session: Session
    page_tokens: PageTokens
    form: Mapping[str, str] | None = None

    @property
    def is_admin(self) -> bool:
        """Tell whether the principal sees everybody."""
        return self.principal.kind is PrincipalKind.ADMIN

    @property
    def may_operate(self) -> bool:
        """Tell whether the credential allows what operators do."""
        return has_scope(self.principal, Scope.OPERATE)

    def require_operator(self) -> None:
        """Check that the credential allows what operators do.

        Raises:
            PermissionDeniedError: it does not.
        """
        if not self.may_operate:
            raise PermissionDeniedError("This needs the scope operate.")

    def id(self, resource: str) -> UUID:
        """Return the id in the path.

        Raises:
            NotFoundError: it is none, so that nothing has it.
        """
        text = self.request.match_info["id"]
        try:
            return UUID(text)
        except ValueError as error:
            raise NotFoundError(resource, text) from error

    def text(self, name: str) -> str | None:
        """Return what the form, or else the query, says; None when it is absent or empty.

        Raises:
            InvalidRequestError: it is longer than 1,000 characters, or no text that anything stored can equal.
        """
        text = (self.request.query if self.form is None else self.form).get(name, "").strip()
        if len(text) > _MAX_FILTER_CHARACTERS:
            raise InvalidRequestError([FieldViolation(name, f"must have at most {_MAX_FILTER_CHARACTERS} characters")])
        if problem := find_unstorable(text):
            raise InvalidRequestError([FieldViolation(name, problem)])
        return text or None

    def choice(self, name: str, choices: type[_Choice]) -> _Choice | None:
        """Return which of `choices` is named; None when none is.

        Raises:
            InvalidRequestError: it names another one.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            return choices(text)
        except ValueError as error:
            names = ", ".join(str(choice.value) for choice in choices)
            raise InvalidRequestError([FieldViolation(name, f"must be one of {names}")]) from error

    def optional_id(self, name: str, *, resource: str) -> UUID | None:
        """Return the id that is given; None when none is.

        Raises:
            NotFoundError: it is no id, so that no such resource has it.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            return UUID(text)
        except ValueError as error:
            raise NotFoundError(resource, text) from error

    def page_request(self) -> PageRequest:
        """Return which page the query asks for.

        Raises:
            InvalidRequestError: the page token is not of this list, these filters and this tenant, or is too old.
        """
        after = self.page_tokens.read(
            self.request.query.get(PAGE_TOKEN, ""), principal=self.principal, filter_hash=self._filter_hash()
        )
        return PageRequest(size=PAGE_SIZE, after=after)

    def paging(self, page: Page[Any]) -> dict[str, str | None]:
        """Return where the first and the next page of a list are; None when there is no other."""
        first = self._address(self._filters()) if PAGE_TOKEN in self.request.query else None
        if page.next_after is None:
            return {"first": first, "next": None}
        token = self.page_tokens.sign(page.next_after, principal=self.principal, filter_hash=self._filter_hash())
        return {"first": first, "next": self._address([*self._filters(), (PAGE_TOKEN, token)])}

    def _address(self, query: list[tuple[str, str]]) -> str:
        return f"{self.request.path}?{urlencode(query)}" if query else self.request.path

    def _filters(self) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in self.request.query.items() if name != PAGE_TOKEN and value)

    def _filter_hash(self) -> bytes:
        text = f"console {self.request.path}?{urlencode(self._filters(), errors='replace')}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def has_scope(principal: Principal, scope: Scope) -> bool:
    """Tell whether the principal may do what needs `scope`; a worker may look at nothing."""
    if principal.kind is PrincipalKind.WORKER:
        return False
    return principal.kind is PrincipalKind.ADMIN or scope in principal.scopes
