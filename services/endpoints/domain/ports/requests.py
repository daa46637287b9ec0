"""What operations ask of request ids, inside the transaction that creates the resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class Requests(Protocol):
    """Remembers for 24 hours which resource a request made; never an answer, because answers may hold keys.

    Use in one transaction: `claim` first; when it answers None, do the work and `record` it.
    """

    async def claim(self, principal: str, method: str, request_id: UUID, request_hash: bytes) -> UUID | None:
        """Return the id of the resource that this request made before, or None when it is new.

        Waits for a transaction that has claimed the same request id and not ended, so that of two at once one works
        and the other one finds the result. `principal` is `Principal.name`, `method` the name of the RPC.

        Raises:
            KongflowError: REQUEST_ID_REUSED, the request id came before with another `request_hash`.
        """
        ...

    async def flag(self, principal: str, method: str, request_id: UUID) -> bool:
        """Return the flag that a claimed request, which came before, was recorded with."""
        ...

    async def record(
        self,
        principal: str,
        method: str,
        request_id: UUID,
        request_hash: bytes,
        resource_id: UUID,
        *,
        flag: bool = False,
    ) -> None:
        """Remember what the claimed request made; `flag` is what its answer says besides and the resource does not."""
        ...

    async def delete_expired(self, *, limit: int) -> int:
        """Delete up to `limit` request ids older than 24 hours; return how many."""
        ...
