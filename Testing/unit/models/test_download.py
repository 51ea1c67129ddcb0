"""One file from a server: the content, or one refusal with a code, whatever server and network do."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import requests
import trustme
from model_servers import CONTENT, SHA256, FaultyHandler, ModelServer, running

from SegWithUCore.models import registry
from SegWithUCore.models.registry import ModelFile, Offer, chunks_of
from SegWithUCore.models.store import _check_file, _chunks
from SegWithUCore.models.store import fetch as install
from SegWithUCore.util.errors import InputError

WANTED = ModelFile("weights.safetensors", len(CONTENT), SHA256)
NETWORK_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and certificates of whoever runs the tests."""
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(registry, "TIMEOUTS_S", (2.0, 0.4))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with running(ModelServer(FaultyHandler)) as server, running(ModelServer(FaultyHandler)) as elsewhere:
        server.elsewhere = elsewhere.url
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model" / "weights.safetensors"


def fetch(place: Path | str, target: Path) -> None:
    local = isinstance(place, Path)
    wanted = replace(WANTED, path=place.name) if local else replace(WANTED, url=place)
    offer = Offer({"folder": ".", "files": []}, "registry", place.parent if local else "")
    target.parent.mkdir(exist_ok=True)
    install([(target.name, wanted.size, partial(_chunks, offer, wanted))], target.parent)
    _check_file(target, wanted, str(place))


@pytest.mark.parametrize("answer", ["good", "slow", "redirect"])
def test_whole(answer: str, server: ModelServer, target: Path) -> None:
    fetch(f"{server.url}/{answer}", target)
    assert target.read_bytes() == CONTENT
    assert {asked.headers["Accept-Encoding"] for asked in server.asked} == {"identity"}


REFUSED = {
    "401": "access-refused",
    "404": "not-sent",
    "503": "not-sent",
    "login": "access-refused",
    "downgrade": "invalid-address",
    "to-no-address": "invalid-address",
    "to-no-port": "invalid-address",
    "loop": "not-sent",
    "hash": "wrong-download",
    "length": "wrong-download",
    "longer": "not-sent",
    "gzip": "not-sent",
    "nothing": "server-unreachable",
    "cut": "server-unreachable",
    "silent": "server-unreachable",
}


@pytest.mark.parametrize("fault", REFUSED)
def test_one_refusal_for_each_fault(fault: str, server: ModelServer, target: Path) -> None:
    with pytest.raises(InputError) as raised:
        fetch(f"{server.url}/{fault}", target)
    assert raised.value.code == REFUSED[fault]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.org/f", "invalid-address"),
        ("ftp://example.org/f", "invalid-address"),
        ("file:///etc/passwd", "invalid-address"),
        ("https://u:s3cret@example.org/f", "invalid-address"),
        ("https://", "invalid-address"),
        ("http://[", "invalid-address"),
        ("https://u:s3cret@[", "invalid-address"),
        ("https://h:99999/f", "invalid-address"),
        ("https://h:x/f", "invalid-address"),
        (f"https://{'a' * 300}.org/f", "invalid-address"),
    ],
)
def test_addresses_that_are_never_asked(url: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        pytest.fail("a connection was made")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    with pytest.raises(InputError) as raised:
        list(chunks_of(url, 1000))
    assert raised.value.code == code
    assert "s3cret" not in str(raised.value)


def test_a_registry_on_a_server_names_no_plain_address_of_this_computer(server: ModelServer) -> None:
    with pytest.raises(InputError) as raised:
        list(chunks_of(f"{server.url}/good", len(CONTENT), "https://example.org/"))
    assert raised.value.code == "invalid-address" and server.asked == []


def test_nobody_there_and_a_proxy_that_is_not_there_tell_no_password(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(ModelServer(FaultyHandler)) as gone:
        pass
    with pytest.raises(InputError) as raised:
        list(chunks_of(f"{gone.url}/good", 1000))
    assert raised.value.code == "server-unreachable"
    monkeypatch.setenv("HTTPS_PROXY", gone.url.replace("//", "//me:s3cret@"))
    with pytest.raises(InputError) as raised:
        list(chunks_of("https://example.org/f", 1000))
    assert raised.value.code == "server-unreachable"
    assert "s3cret" not in str(raised.value)


def test_a_redirect_with_an_endless_body_is_not_read(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests.Response, "content", property(lambda _: pytest.fail("a redirect's body was read")))
    assert b"".join(chunks_of(f"{server.url}/redirect", len(CONTENT))) == CONTENT


def test_a_copy_from_a_folder_is_checked_like_a_download(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "stick"
    source.write_bytes(CONTENT)
    fetch(source, target)
    assert target.read_bytes() == CONTENT
    for content, code in ((CONTENT[:-1], "wrong-download"), (CONTENT[:-1] + b"x", "wrong-download")):
        source.write_bytes(content)
        with pytest.raises(InputError) as raised:
            fetch(source, target)
        assert raised.value.code == code
    source.unlink()
    with pytest.raises(InputError) as raised:
        fetch(source, target)
    assert raised.value.code == "missing-file"


def test_certificates_are_always_checked(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with running(ModelServer(FaultyHandler, context, "localhost")) as encrypted:
        with pytest.raises(InputError) as raised:
            fetch(f"{encrypted.url}/good", target)
        assert raised.value.code == "server-unreachable"
        assert "REQUESTS_CA_BUNDLE" in str(raised.value)
        assert encrypted.asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        fetch(f"{encrypted.url}/good", target)
    assert target.read_bytes() == CONTENT
    assert "verify=" not in Path(registry.__file__).read_text(encoding="utf-8")
