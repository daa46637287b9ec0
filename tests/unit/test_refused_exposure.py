"""What the services refuse at start: plaintext and known secrets that others reach, files of TLS that do not fit."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from services.configuration.settings import SettingsError
from services.endpoints.settings import EndpointsSettings, load_settings
from services.worker import settings as worker
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

KEY, PEPPER = sha256(b"keys").hexdigest(), sha256(b"pepper").hexdigest()
ZEROS = "00" * 32


def load(**given: Any) -> EndpointsSettings:
    return load_settings(
        **{"database_url": "postgresql://127.0.0.1/kongflow", "secret_keys": KEY, "lookup_pepper": PEPPER, **given}
    )


def refusals(**given: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(**given)
    return str(refused.value).splitlines()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", ":1", "192.0.2.1:1", "endpoints.internal:1", "[2001:db8::1]:1"]
)
def test_plaintext_that_others_reach_is_refused_in_one_line(address: str) -> None:
    [line] = refusals(grpc_address=address)
    assert line.startswith("KONGFLOW_ALLOW_PLAINTEXT: gRPC would listen on ")
    assert "KONGFLOW_TLS_CERTIFICATE_FILE" in line


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_plaintext_stays_allowed_on_this_machine(address: str) -> None:
    assert not load(grpc_address=address).allow_plaintext


def test_plaintext_is_allowed_where_somebody_said_so_or_with_a_certificate(authority: Authority) -> None:
    assert load(grpc_address="0.0.0.0:1", allow_plaintext="true")
    pair = authority.issue("server")
    assert load(grpc_address="0.0.0.0:1", tls_certificate_file=pair.certificate, tls_key_file=pair.key)


def test_http_needs_no_certificate() -> None:
    assert load(http_address="0.0.0.0:1", metrics_address="0.0.0.0:2")


@pytest.mark.parametrize(
    "key", [ZEROS, "11" * 32, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", bytes(range(32)).hex()]
)
@pytest.mark.parametrize("name", ["secret_keys", "lookup_pepper"])
@pytest.mark.parametrize("exposed", ["grpc_address", "http_address"])
def test_known_keys_are_refused_where_others_reach_the_server(name: str, key: str, exposed: str) -> None:
    [line] = refusals(**{name: key, exposed: "0.0.0.0:1", "allow_plaintext": True})
    assert line.startswith(f"KONGFLOW_{name.upper()}: is an example that everybody knows")
    assert key not in line
    assert load(**{name: key})


def test_one_known_key_of_several_is_enough_to_refuse() -> None:
    [line] = refusals(secret_keys=f"{KEY},{ZEROS}", http_address="0.0.0.0:1")
    assert line.startswith("KONGFLOW_SECRET_KEYS")


@pytest.mark.parametrize("token", ["a" * 40, "change-me-change-me-change-me", "An-Example-Of-A-Token-1234"])
def test_known_tokens_of_the_administrator_are_refused_too(token: str) -> None:
    [line] = refusals(admin_token=token, http_address="0.0.0.0:1")
    assert line.startswith("KONGFLOW_ADMIN_TOKEN")
    assert load(admin_token=token)
    assert load(admin_token=sha256(b"token").hexdigest()[:48], http_address="0.0.0.0:1")


def test_all_refusals_come_at_once_with_other_mistakes() -> None:
    lines = refusals(
        grpc_address="0.0.0.0:1", secret_keys=ZEROS, lookup_pepper=ZEROS, admin_token="a" * 40, lease_seconds=-1
    )
    assert [line.split(":")[0] for line in lines] == [
        "KONGFLOW_ALLOW_PLAINTEXT",
        "KONGFLOW_SECRET_KEYS",
        "KONGFLOW_LOOKUP_PEPPER",
        "KONGFLOW_ADMIN_TOKEN",
        "KONGFLOW_LEASE_SECONDS",
    ]


def test_files_of_tls_must_be_there_and_fit(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("server"), authority.issue("other")
    nothing = tmp_path / "nothing"
    wrong = [
        ({"tls_certificate_file": pair.certificate}, "KEY_FILE: must be given together"),
        ({"tls_key_file": pair.key}, "KEY_FILE: must be given together"),
        ({"tls_certificate_file": pair.certificate, "tls_key_file": other.key}, "KEY_FILE: must be a readable"),
        ({"tls_certificate_file": pair.certificate, "tls_key_file": nothing}, "KEY_FILE: must be a readable"),
        ({"tls_client_ca_file": authority.file}, "CLIENT_CA_FILE: needs KONGFLOW_TLS_CERTIFICATE_FILE"),
        (
            {"tls_certificate_file": pair.certificate, "tls_key_file": pair.key, "tls_client_ca_file": pair.key},
            "CLIENT_CA_FILE: must be a readable file of certificates",
        ),
    ]
    for given, expected in wrong:
        [line] = refusals(**given)
        assert line.startswith(f"KONGFLOW_TLS_{expected}")
    assert load(tls_certificate_file="", tls_key_file="", tls_client_ca_file="").tls_certificate_file is None


def test_files_of_a_worker_must_be_there_and_fit(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("worker"), authority.issue("other")
    ca = {"tls_ca_file": authority.file}
    certificate = {"tls_client_certificate_file": pair.certificate}
    wrong = [
        ({"tls_ca_file": tmp_path / "nothing"}, "CA_FILE: must be a readable"),
        ({**ca, **certificate}, "CLIENT_KEY_FILE: must be given together"),
        ({**certificate, "tls_client_key_file": pair.key}, "CLIENT_KEY_FILE: needs KONGFLOW_TLS_CA_FILE"),
        ({**ca, **certificate, "tls_client_key_file": other.key}, "CLIENT_KEY_FILE: must be a readable"),
    ]
    for given, expected in wrong:
        with pytest.raises(SettingsError) as refused:
            worker.load_settings(worker_token="kfw", **given)
        assert str(refused.value).startswith(f"KONGFLOW_TLS_{expected}")
    assert worker.load_settings(worker_token="kfw", **ca, **certificate, tls_client_key_file=pair.key)
