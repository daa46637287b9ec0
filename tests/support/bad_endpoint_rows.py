"""The rows about endpoints and their addresses: what must not be registered, changed or indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1.endpoint_pb2 import Endpoint

from tests.support.bad_inputs import ABSENT, IMPOSSIBLE, Row
from tests.support.fake_endpoint import FakeEndpoint, html, json_body, redirect, refuse_key, status
from tests.support.stage import URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.bad_inputs import Ground
    from tests.support.fake_endpoint import Behaviour

NIL: Final = "00000000-0000-0000-0000-000000000000"


def _create(**changes: str) -> Callable[[Ground], Awaitable[Any]]:
    return lambda ground: ground.stage.create(**changes)


def _guarded(url: str) -> Callable[[Ground], Awaitable[Any]]:
    async def call(ground: Ground) -> Any:
        request = endpoints.CreateEndpointRequest(environment_id=ground.stage.ours.development.id, slug="app", url=url)
        return await ground.guarded.endpoints.CreateEndpoint(request)

    return call


def _slug(number: int, name: str, slug: str) -> Row:
    return Row(number, name, _create(slug=slug), fields=("slug",))


def _url(number: int, name: str, url: str) -> Row:
    return Row(number, name, _create(url=url), fields=("url",))


def _address(number: int, url: str, field: str = "url") -> Row:
    return Row(number, url, _guarded(url), reason="ADDRESS_NOT_ALLOWED", fields=(field,))


def _failing(number: int, name: str, behaviour: Behaviour) -> Row:
    async def call(ground: Ground) -> Any:
        async with FakeEndpoint(behaviour=behaviour) as endpoint:
            return await ground.stage.create(url=endpoint.url)

    return Row(number, name, call, IMPOSSIBLE, "FAILED_PING")


async def _create_in_no_environment(ground: Ground) -> Any:
    return await ground.stage.create(environment_id=ground.stage.theirs.development.id)


async def _create_for_another_owner(ground: Ground) -> Any:
    theirs = ground.stage.theirs
    return await ground.stage.create(organization_id=theirs.organization_id, project_id=theirs.project_id)


async def _update_an_unknown_path(ground: Ground) -> Any:
    request = endpoints.UpdateEndpointRequest(
        endpoint=Endpoint(id=str(uuid4()), url=URL), update_mask=FieldMask(paths=["nothing"])
    )
    return await ground.stage.writer.endpoints.UpdateEndpoint(request)


async def _delete_absent(ground: Ground) -> Any:
    request = endpoints.DeleteEndpointRequest(endpoint_id=str(uuid4()))
    return await ground.stage.writer.endpoints.DeleteEndpoint(request)


async def _index_with_unknown_numbers(ground: Ground) -> Any:
    request = endpoints.IndexEndpointRequest(endpoint_id=str(uuid4()), source=99, priority=-1)  # type: ignore[arg-type]
    return await ground.stage.writer.endpoints.IndexEndpoint(request)


ROWS: Final = (
    *(Row(1, f"empty {field}", _create(**{field: ""}), fields=(field,)) for field in ("slug", "url")),
    _slug(2, "101 characters", "a" * 101),
    _slug(2, "space", "a b"),
    _slug(2, "slash", "a/b"),
    _slug(2, "dots", "a..b"),
    _slug(2, "emoji", "app\U0001f680"),
    _slug(2, "right-to-left mark", "app\u200f"),
    _slug(2, "NUL", "app\x00"),
    _slug(3, "composed", "caf\u00e9"),
    _slug(3, "decomposed", "cafe\u0301"),
    _slug(3, "full width", "\uff41pp"),
    Row(4, "no UUID", _create(environment_id="env"), fields=("environment_id",)),
    Row(4, "nil UUID", _create(environment_id=NIL), fields=("environment_id",)),
    Row(5, "unknown environment", lambda ground: ground.stage.create(environment_id=str(uuid4())), ABSENT, "NOT_FOUND"),
    Row(6, "another tenant's environment", _create_in_no_environment, ABSENT, "NOT_FOUND"),
    Row(7, "another owner", _create_for_another_owner, fields=("organization_id", "project_id")),
    _url(8, "ftp", "ftp://example.com/"),
    _url(8, "file", "file:///etc/passwd"),
    _url(8, "gopher", "gopher://example.com/"),
    _url(8, "javascript", "javascript:alert(1)"),
    _url(8, "no scheme", "//example.com/"),
    _url(8, "no host", "http:///p"),
    _url(9, "2,049 characters", "http://example.com/" + "a" * 2030),
    _url(9, "host of 254", "http://" + ".".join(["a" * 63] * 3 + ["a" * 62]) + "/"),
    _url(9, "label of 64", f"http://{'a' * 64}.example.com/"),
    _url(10, "line feed", "http://example.com/\n"),
    _url(10, "carriage return", "http://example.com/\r"),
    _url(10, "tab", "http://exam\tple.com/"),
    _url(10, "NUL", "http://example.com/\x00"),
    _url(10, "space", "http://example.com/a b"),
    _url(10, "backslash", "http://example.com\\@127.0.0.1/"),
    _url(11, "user", "http://user@example.com/"),
    _url(11, "user and password", "http://user:password@example.com/"),
    _url(11, "nothing but the mark", "http://@example.com/"),
    *(_url(12, f"port {port}", f"http://example.com:{port}/") for port in (0, 99999, -1, 22, 5432, 6379)),
    *(
        _address(13, f"http://{host}/")
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "2130706433", "0x7f000001")
    ),
    *(
        _address(15, f"http://{host}/")
        for host in (
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::]",
            "[fec0::1]",
            "[fe80::1%25eth0]",
        )
    ),
    *(
        _address(16, f"http://{host}/")
        for host in (
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "[fd00:ec2::254]",
            "metadata.google.internal",
        )
    ),
    *(
        _address(17, f"http://{host}/")
        for host in (
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "0.0.0.1",
        )
    ),
    Row(21, "nobody listens", _create(url=URL), IMPOSSIBLE, "FAILED_PING"),
    _failing(22, "401", refuse_key),
    _failing(22, "404", status(404)),
    _failing(22, "500", status(500)),
    _failing(22, "HTML", html()),
    _failing(22, "302", redirect("http://example.com/")),
    _failing(22, "a time that no calendar has", status(404, headers={"Retry-After": "1 Jan 99999999999 00:00:00 GMT"})),
    _failing(23, "not ok", json_body({"ok": False, "error": "a\x1b\n" * 1000})),
    Row(27, "unknown path", _update_an_unknown_path, fields=("update_mask",)),
    Row(28, "absent", _delete_absent, ABSENT, "NOT_FOUND"),
    Row(31, "unknown enum numbers", _index_with_unknown_numbers, fields=("source", "priority")),
    Row(36, "37 characters", _create(request_id=f"{uuid4()}0"), fields=("request_id",)),
    Row(36, "no version 4", _create(request_id="01890a5d-ac96-774b-bcce-b302099a8057"), fields=("request_id",)),
    _slug(63, "SQL", "'); drop table endpoints;--"),
)
