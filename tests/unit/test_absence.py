"""A test that lacks something is skipped, but never in continuous integration."""

from __future__ import annotations

import pytest

from tests.support.absence import skip


def test_what_is_not_there_is_a_failure_in_continuous_integration_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such program"):
        skip("no such program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such program, and CI runs every test"):
        skip("no such program")
