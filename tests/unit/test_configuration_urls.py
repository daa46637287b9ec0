"""The URLs of PostgreSQL and Redis: which are taken, and what is said of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.configuration.urls import postgresql_url, redis_url

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres://h/x",
        "postgresql://u:p%5E%5B%40@h:5432/x",
        "postgresql://u:p@/x?host=/run/postgresql",
        "postgresql://[::1]:1,two,three:3/x?target_session_attrs=primary",
        "postgresql://%2Frun%2Fpostgresql/x",
        "postgresql://h/x?sslmode=verify-full&application_name=mine",
        "postgresql:///x?host=one,two&port=1,2",
    ],
)
def test_url_that_the_driver_reads_is_taken_as_it_is(url: str) -> None:
    assert postgresql_url(url) == url


def test_urls_name_files_that_are_there(tmp_path: Path) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.touch()
    assert postgresql_url(url := f"postgresql://h/x?sslrootcert={certificates}") == url
    assert redis_url(url := f"rediss://h/0?ssl_ca_certs={certificates}&ssl_check_hostname=no") == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "must begin with postgresql://"),
        ("mysql://u:hidden@h/x", "must begin with postgresql://"),
        ("postgresql://u:hidden@h:nope/x", "cannot be read"),
        ("postgresql://u:hidden@h:70000/x", "cannot be read"),
        ("postgresql://u:hidden@h:0/x", "cannot be read"),
        ("postgresql://u:hid^[den@h/x", "cannot be read"),
        ("postgresql://u:hid@den@h/x", "cannot be read"),
        ("postgresql://u:hid/den@h/x", "cannot be read"),
        ("postgresql://u:12#hidden@h/x", "cannot be read"),
        ("postgresql://u:hidden@[::1]nope/x", "cannot be read"),
        ("postgresql://one,,two/x", "cannot be read"),
        ("postgresql://h/x?hidden", "cannot be read"),
        ("postgresql:///x?port=hidden", "cannot be read"),
        ("postgresql://h/x?sslmode=hidden", "must have one of these as its sslmode: disable, "),
        ("postgresql://h/x?target_session_attrs=hidden", "must have one of these as its target_session_attrs: any, "),
        ("postgresql://h/x?sslrootcert=/nowhere/hidden", "must name a file that is there as its sslrootcert"),
        ("postgresql://h/x?sslmode=require&sslkey=/tmp", "must name a file that is there as its sslkey"),
    ],
)
def test_url_that_the_driver_cannot_read_is_refused_without_its_parts(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        postgresql_url(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://:p%5E%5B@h:6379/0", "rediss://h/", "unix:///run/redis.sock?db=2", "redis://h?timeout=1.5"],
)
def test_url_of_redis_is_taken_as_it_is(url: str) -> None:
    assert redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "must begin with redis://, rediss:// or unix://"),
        ("redis://:hidden@h:nope/0", "cannot be read"),
        ("redis://:hid^[den@h/0", "cannot be read"),
        ("redis://:12#hidden@h/0", "cannot be read"),
        ("redis://h/hidden", "must end with the number of a database, or with none"),
        ("redis://h/0?socket_timeout=hidden", "must have a number as its socket_timeout"),
        ("redis://h/0?db=hidden", "must have a number as its db"),
        ("redis://h/0?hidden=1", "must have no parameters but client_name, db, "),
        ("redis://h/0?sslmode=require", "must have no parameters but client_name, db, "),
        ("rediss://h/0?ssl_ca_certs=/nowhere/hidden", "must name a file that is there as its ssl_ca_certs"),
    ],
)
def test_url_of_redis_that_cannot_be_read_is_refused_without_its_parts(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        redis_url(url)
    assert "hidden" not in str(refused.value)
