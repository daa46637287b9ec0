"""How the tests build what is written in Go: alike, so that nothing is compiled twice, and fast rather than well."""

from __future__ import annotations

from typing import Final

# Without paths, Go finds what it has compiled in whatever folder it was; and nobody waits for an optimizer.
GO_FLAGS: Final = "-trimpath '-gcflags=all=-N -l' '-ldflags=-s -w'"
