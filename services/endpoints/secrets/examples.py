"""Secrets that everybody knows: those of examples and those that nobody chose."""

from __future__ import annotations

from typing import Final

from services.endpoints.secrets.keys import BadKeyError, parse_key

_FEWEST_DISTINCT: Final = 8
_WORDS: Final = ("change", "example", "password", "secret", "only-for-tests", "0123456789", "12345678")
_COUNTING: Final = bytes(range(32))


def is_example_key(text: str) -> bool:
    """Tell whether one of the keys in a text with commas is all zeros, repeats a few bytes or counts up.

    Of 32 random bytes fewer than 8 differ once in more than 10 to the 30th power.
    """
    return any(_is_example(part.strip()) for part in text.split(",") if part.strip())


def is_example_token(text: str) -> bool:
    """Tell whether a token is of an example: it says so, counts, or has fewer than 8 different characters."""
    return len(set(text)) < _FEWEST_DISTINCT or any(word in text.lower() for word in _WORDS)


def _is_example(text: str) -> bool:
    try:
        key = parse_key(text)
    except BadKeyError:
        return False
    return len(set(key)) < _FEWEST_DISTINCT or key == _COUNTING
