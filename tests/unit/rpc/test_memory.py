from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
import structlog

from services.endpoints.domain.errors import ServerOverloadedError
from services.endpoints.rpc import memory
from services.endpoints.rpc.memory import (
    FULL,
    GIVE_BACK_EVERY,
    LOOK_EVERY,
    MemoryGuard,
    container_limit,
    give_memory_back,
    share_of_memory,
)

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A process whose use of memory is what a test says."""

    def __init__(self, share: float = 0, *, garbage: float = 0) -> None:
        self.share = share
        self.garbage = garbage
        self.now = 100.0
        self.looks = 0
        self.given_back = 0
        self.guard = MemoryGuard(share=self.read, give_back=self.give_back, monotonic=lambda: self.now)

    def read(self) -> float:
        self.looks += 1
        return self.share + self.garbage

    def give_back(self) -> None:
        self.given_back += 1
        self.garbage = 0

    def wait(self) -> None:
        self.now += LOOK_EVERY.total_seconds()


def test_calls_pass_while_there_is_memory_and_looking_is_rare() -> None:
    machine = Machine(FULL - 0.01)
    for _ in range(1_000):
        machine.guard.admit()
    assert (machine.looks, machine.given_back) == (1, 0)


def test_calls_are_refused_while_there_is_none_and_pass_again_when_there_is() -> None:
    machine = Machine(FULL)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(ServerOverloadedError, match="memory"):
                machine.guard.admit()
        machine.share = FULL - 0.01
        with pytest.raises(ServerOverloadedError):
            machine.guard.admit()
        machine.wait()
        machine.guard.admit()
    assert [log["event"] for log in logs] == ["memory_is_short", "memory_suffices"]


def test_probes_are_told_and_look_for_themselves_when_no_call_comes() -> None:
    machine = Machine(FULL)
    assert machine.guard.finding() == "This server has too little memory left for calls."
    machine.share = 0
    machine.wait()
    assert machine.guard.finding() is None


def test_what_is_no_longer_needed_is_given_back_before_anybody_is_refused() -> None:
    machine = Machine(FULL - 0.1, garbage=0.15)
    machine.guard.admit()
    assert machine.given_back == 1


def test_giving_back_is_tried_again_only_after_a_while() -> None:
    machine = Machine(1)
    looks = int(GIVE_BACK_EVERY / LOOK_EVERY) * 2
    for _ in range(looks):
        with pytest.raises(ServerOverloadedError):
            machine.guard.admit()
        machine.wait()
    assert machine.given_back == pytest.approx(2, abs=1)


def test_share_is_of_the_limit_that_is_given() -> None:
    used = share_of_memory(2**30)() * 2**30
    assert 2**23 < used < 2**33
    assert share_of_memory(2**40)() < share_of_memory(2**30)()


def test_share_is_nothing_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_USE", tmp_path / "none")
    assert share_of_memory(1)() == 0


def test_address_space_that_is_limited_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("95 10 1 1 0 1 0")
    monkeypatch.setattr(memory, "_USE", statm)
    monkeypatch.setattr(resource, "getpagesize", lambda: 1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, -1))
    assert share_of_memory(40)() == pytest.approx(0.95)
    assert share_of_memory(10)() == pytest.approx(1)


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        (("536870912\n",), 536_870_912),
        (("max\n", "1073741824\n"), 1_073_741_824),
        (("max\n",), None),
        (("9223372036854771712\n",), None),
        ((), None),
    ],
)
def test_limit_of_the_container_is_read_as_either_version_writes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, texts: tuple[str, ...], limit: int | None
) -> None:
    paths = tuple(tmp_path / str(number) for number in range(2))
    for path, text in zip(paths, texts, strict=False):
        path.write_text(text)
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", paths)
    assert container_limit() == limit


def test_memory_is_given_back_to_the_system() -> None:
    held = [bytes(1_000) for _ in range(100_000)]
    read = share_of_memory(2**30)
    full = read()
    held.clear()
    give_memory_back()
    assert read() < full
