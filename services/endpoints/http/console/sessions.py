"""Who looks at the console: a sealed cookie that any server with the same keys reads."""

from __future__ import annotations

import binascii
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.secrets import UnreadableSecretError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.domain.ports.secrets import SecretBox

SIGNED_IN_FOR: Final = timedelta(hours=8)
SIGN_IN_WITHIN: Final = timedelta(hours=1)

_MAX_CHARACTERS: Final = 2048
_CSRF_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie holds; `credential` is None until somebody signed in.

    `csrf` is repeated by every form: another site can make a browser send the cookie, but cannot read what is in it.
    """

    csrf: str
    expires_at: datetime
    credential: str | None = None

    def is_of(self, csrf: str) -> bool:
        """Tell whether a form that holds `csrf` was made for this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "surrogatepass"))


class Sessions:
    """Makes sessions, and turns them into the text of a cookie and back.

    The credential travels encrypted and is recognised anew for each page, so that revoking it ends the session.
    `box` must have keys that are used for nothing else; `clock` is timezone-aware.
    """

    def __init__(
        self,
        *,
        box: SecretBox,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random_text: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        """Take the keys and the time."""
        self._box = box
        self._clock = clock
        self._random_text = random_text

    def begin(self, credential: str | None) -> Session:
        """Return a new session; None is that of the page where one signs in."""
        lifetime = SIGN_IN_WITHIN if credential is None else SIGNED_IN_FOR
        return Session(self._random_text(_CSRF_BYTES), self._clock() + lifetime, credential)

    def seal(self, session: Session) -> str:
        """Return the text of the cookie."""
        parts = [session.csrf, int(session.expires_at.timestamp()), session.credential]
        return urlsafe_b64encode(self._box.seal(json.dumps(parts), environment_id=NIL_UUID)).rstrip(b"=").decode()

    def unseal(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is garbage, forged, expired or sealed by keys of before."""
        if len(cookie) > _MAX_CHARACTERS or not cookie.isascii():
            return None
        try:
            sealed = urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
            text = self._box.unseal(sealed, environment_id=NIL_UUID)
        except (ValueError, binascii.Error, UnreadableSecretError):
            return None
        csrf, expires_at, credential = json.loads(text)
        if self._clock().timestamp() >= expires_at:
            return None
        return Session(csrf, datetime.fromtimestamp(expires_at, UTC), credential)
