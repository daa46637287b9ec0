from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kongflow.v1 import endpoint_pb2, endpoint_service_pb2

from cli.connection import CALL_SECONDS, DEFAULT_SERVER, Connection, resolve_target
from cli.directory import KeptState
from cli.failures import CommandError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `kongflow up` keeps."""
    (tmp_path / "development.json").write_text(json.dumps({"server": "kept:1", "environment_id": "kept-environment"}))
    (tmp_path / "service-token").write_text("kept-service\n")
    (tmp_path / "admin-token").write_text("kept-admin\n")
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("kept")
def test_nothing_given_is_what_up_keeps() -> None:
    target = resolve_target(server="", token="")
    assert (target.server, target.token, target.environment_id) == ("kept:1", "kept-service", "kept-environment")


@pytest.mark.usefixtures("kept")
def test_what_is_given_wins() -> None:
    target = resolve_target(server="mine:2", token="mine", environment="theirs")
    assert (target.server, target.token, target.environment_id) == ("mine:2", "mine", "theirs")


@pytest.mark.usefixtures("kept")
def test_admin_commands_take_the_admin_token() -> None:
    assert resolve_target(server="", token="", as_admin=True).token == "kept-admin"


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("server", "token"), [("mine:2", "mine"), ("", "tr_dev_AAAAAAAAAAAAAAAAAAAA")])
def test_kept_environment_is_not_assumed_elsewhere_nor_for_an_api_key(server: str, token: str) -> None:
    assert resolve_target(server=server, token=token).environment_id == ""


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("as_admin", [False, True])
def test_kept_token_is_not_sent_to_another_server(as_admin: bool) -> None:
    with pytest.raises(CommandError, match="There is no token for staging:50051: set KONGFLOW_TOKEN") as raised:
        resolve_target(server="staging:50051", token="", as_admin=as_admin)
    assert raised.value.exit_code == 2


@pytest.mark.usefixtures("kept")
def test_kept_server_may_be_named() -> None:
    target = resolve_target(server="kept:1", token="")
    assert (target.server, target.token) == ("kept:1", "kept-service")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("server", "token", "is_embedded"),
    [("", "", True), ("kept:1", "", False), ("", "mine", False), ("a:2", "b", False)],
)
def test_only_what_up_keeps_as_a_whole_is_its_own_server(server: str, token: str, is_embedded: bool) -> None:
    assert resolve_target(server=server, token=token).is_embedded is is_embedded


def test_nothing_kept_means_the_usual_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path / "absent"))
    assert resolve_target(server="", token="mine").server == DEFAULT_SERVER


def test_no_token_at_all_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path))
    with pytest.raises(CommandError, match="There is no token") as raised:
        resolve_target(server="", token="")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("token", ["kf_service_a\r", "kf_service_a\nb", "kf_service_\u00e9", "kf_service_\udcff"])
def test_token_that_cannot_be_sent_is_a_usage_error_that_does_not_show_it(token: str) -> None:
    with pytest.raises(CommandError, match="The token holds what no token does") as raised:
        resolve_target(server="here:1", token=token)
    assert raised.value.exit_code == 2
    assert token not in raised.value.message


def test_token_is_never_part_of_what_a_target_shows_of_itself() -> None:
    assert "secret" not in repr(resolve_target(server="here:1", token="secret"))


@pytest.mark.parametrize("text", ["{", "7", '["server"]', '"here:1"'])
def test_broken_state_is_a_usage_error(kept: Path, text: str) -> None:
    (kept / "development.json").write_text(text)
    with pytest.raises(CommandError, match="is no JSON object") as raised:
        KeptState(kept).fact("server")
    assert raised.value.exit_code == 2


def test_state_that_is_no_text_is_a_usage_error(kept: Path) -> None:
    (kept / "development.json").write_bytes(b"\xff")
    with pytest.raises(CommandError, match="cannot be read: it is not UTF-8 text") as raised:
        KeptState(kept).fact("server")
    assert raised.value.exit_code == 2


def test_unreadable_secret_is_a_usage_error(kept: Path) -> None:
    (kept / "worker-token").mkdir()
    with pytest.raises(CommandError, match="cannot be read") as raised:
        KeptState(kept).secret("worker-token")
    assert raised.value.exit_code == 2


class PagedConnection(Connection):
    """Answers ListEndpoints with endpoints `0` to `4`, two on a page at most."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def call(self, method: str, request: Any, *, timeout: float = CALL_SECONDS) -> Any:
        assert (method, timeout) == ("EndpointService.ListEndpoints", CALL_SECONDS)
        self.sizes.append(request.page_size)
        first = int(request.page_token or 0)
        last = min(first + 2, 5)
        return endpoint_service_pb2.ListEndpointsResponse(
            endpoints=[endpoint_pb2.Endpoint(slug=str(number)) for number in range(first, last)],
            next_page_token=str(last) if last < 5 else "",
        )


@pytest.mark.parametrize(
    ("limit", "slugs", "pages"), [(None, "01234", 3), (3, "012", 2), (2, "01", 1), (5, "01234", 3), (9, "01234", 3)]
)
def test_all_pages_are_put_together_up_to_the_limit(limit: int | None, slugs: str, pages: int) -> None:
    connection = PagedConnection()
    request = endpoint_service_pb2.ListEndpointsRequest()
    answer = connection.list_all("EndpointService.ListEndpoints", request, field="endpoints", limit=limit)
    assert "".join(endpoint.slug for endpoint in answer.endpoints) == slugs
    assert connection.sizes == [limit or 1000] * pages
    assert answer.next_page_token == ""


@pytest.mark.parametrize("server", ["http://127.0.0.1:50051", "here:port", "here:0", "here:70000", ":50051", "a/b:1"])
def test_server_that_is_no_address_is_a_usage_error(server: str) -> None:
    with pytest.raises(CommandError, match="--server or KONGFLOW_SERVER must be host:port, such as ") as refused:
        resolve_target(server=server, token="any")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("server", ["here:1", "here", "[::1]:1", "[::1]", "dns:///here:1", "unix:/run/kongflow.sock"])
def test_server_that_grpc_understands_is_called(server: str) -> None:
    assert resolve_target(server=server, token="any").server == server
