"""Opens what an environment keeps sealed for as long as a call to one of its endpoints takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.endpoints.domain.endpoint_calls import CallSigning, EndpointAddress

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.domain.ports.endpoints import SealedCredential
    from services.endpoints.domain.ports.secrets import SecretBox


def call_address(
    secret_box: SecretBox, credential: SealedCredential, *, slug: str, url: str, call_id: UUID
) -> EndpointAddress:
    """Return where to call, with the keys that are good and, where there are any, the secrets that sign the call.

    `call_id` is what an endpoint recognises a repeated call by: a queue job's id, or a new one for a caller's ping.
    """

    def unseal(sealed: bytes) -> str:
        return secret_box.unseal(sealed, environment_id=credential.environment.id)

    secrets = tuple(unseal(sealed) for sealed in credential.signing_secret_ciphertexts)
    previous = credential.previous_api_key_ciphertext
    return EndpointAddress(
        url=url,
        api_key=unseal(credential.api_key_ciphertext),
        slug=slug,
        signing=CallSigning(str(call_id), secrets) if secrets else None,
        previous_api_key=None if previous is None else unseal(previous),
    )
