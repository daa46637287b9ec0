"""Tests of one group run in one process, which is where their fixture is."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("grouped")
def test_scheduler_is_told_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """The scheduler knows a test by its id alone, so that the group has to be in it."""
    is_distributed = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@grouped") is is_distributed
