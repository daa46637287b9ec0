"""What docs/operations.md says about settings and refusals: that they exist and read so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from services.configuration.settings import SettingsError
from services.endpoints.settings import load_settings

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_variable_that_the_guide_names_is_one_of_the_settings() -> None:
    known = set(re.findall(r"`(KONGFLOW_\w+)`", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")))
    named = set(re.findall(r"\bKONGFLOW_[A-Z_]+\b", GUIDE))
    assert len(named) > 20
    assert named - known <= {"KONGFLOW_DIRECTORY"}


def test_refusals_read_as_the_guide_says() -> None:
    [quoted] = re.findall(r"^```text\n(KONGFLOW_ALLOW_PLAINTEXT.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    with pytest.raises(SettingsError) as refused:
        load_settings(
            database_url="postgresql://127.0.0.1/kongflow",
            grpc_address="0.0.0.0:50051",
            secret_keys="00" * 32,
            lookup_pepper="00" * 32,
            admin_token="change-me-change-me-change-me",
        )
    assert sorted(str(refused.value).splitlines()) == sorted(quoted.splitlines())
