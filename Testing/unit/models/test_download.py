"""One file from a server: whole with the right hash or one sentence, whatever server, network and disk do."""

import errno
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import trustme
from model_servers import (
    CONTENT,
    SHA256,
    TOKEN,
    FaultyHandler,
    ModelServer,
    ProxyHandler,
    running,
)

from SegWithUCore.errors import InputError
from SegWithUCore.models.connection import tokens_of_environment
from SegWithUCore.models.download import Downloader
from SegWithUCore.models.model_entry import ModelFile
from SegWithUCore.models.partial_file import DownloadError, PartialFile, UnreachableError, copy_file

WANTED = ModelFile("weights.safetensors", len(CONTENT), SHA256)
NETWORK_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and certificates of whoever runs the tests."""
    for name in (*NETWORK_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", "SEGWITHU_TOKENS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with running(ModelServer(FaultyHandler)) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model" / "weights.safetensors"


def fetch(server: ModelServer, fault: str, target: Path, tokens: dict[str, str] | None = None, **options: Any) -> None:
    downloader = Downloader(tokens or {}, silence_s=0.4, pause_s=0.01, **options)
    downloader.download(f"{server.url}/{fault}", WANTED, target)


def host(server: ModelServer) -> str:
    return server.url.partition("//")[2]


@pytest.mark.parametrize("fault", ["good", "slow", "cut", "no-range", "changed", "wrong-range", "silent", "503", "416"])
def test_whole_in_spite_of(fault: str, server: ModelServer, target: Path) -> None:
    fetch(server, fault, target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]


REFUSED = {
    "401": ("127.0.0.1 refuses access", "401", "SEGWITHU_TOKENS"),
    "404": ("is not there (404)", "refresh"),
    "login": ("web page", "login page"),
    "downgrade": ("http://example.org is not encrypted", "https"),
    "loop": ("redirected again and again",),
    "hash": ("is not the file that the registry describes", SHA256[:12]),
    "length": ("999990 bytes instead of 1000000",),
    "longer": ("has more than 1000000 bytes",),
    "gzip": ("changes files on their way",),
    "wait-long": ("asks to wait for 7200 s", "try again later"),
    "nothing": ("127.0.0.1 cannot be reached", "try again later"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_one_sentence_and_no_file(fault: str, server: ModelServer, target: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        fetch(server, fault, target)
    sentence = str(raised.value)
    assert [word for word in REFUSED[fault] if word not in sentence] == [], sentence
    assert sentence.endswith(".")
    assert not target.exists()
    assert [path for path in target.parent.glob("*") if path.stat().st_size > 1000] == []


def test_it_goes_on_where_it_was_cut_and_only_with_the_same_file(server: ModelServer, target: Path) -> None:
    fetch(server, "cut", target)
    ranges = [int(asked.headers["Range"][6:-1]) for asked in server.asked[1:]]
    assert ranges == sorted(set(ranges))
    assert ranges[0] > 0
    assert {asked.headers["If-Range"] for asked in server.asked[1:]} == {'"v1"'}
    assert {asked.headers["Accept-Encoding"] for asked in server.asked} == {"identity"}


def test_what_came_is_kept_and_the_next_call_goes_on(server: ModelServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part = PartialFile(target, WANTED)
    part.receive(iter([CONTENT[:400_000]]), 0, '"v1"', lambda _: None)
    fetch(server, "good", target)
    assert [asked.headers.get("Range") for asked in server.asked] == ["bytes=400000-"]
    assert target.read_bytes() == CONTENT


def test_the_part_of_another_file_is_not_gone_on_with(server: ModelServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    other = PartialFile(target, ModelFile(WANTED.path, 500_000, "0" * 64))
    other.receive(iter([bytes(400_000)]), 0, '"v1"', lambda _: None)
    fetch(server, "good", target)
    assert [asked.headers.get("Range") for asked in server.asked] == [None]
    target.unlink()
    target.with_name(f"{target.name}.part").write_bytes(CONTENT[:1000])
    target.with_name(f"{target.name}.part.json").write_text("{torn")
    fetch(server, "good", target)
    assert target.read_bytes() == CONTENT


def test_a_download_that_gets_on_slowly_never_gives_up(server: ModelServer, target: Path) -> None:
    notes: list[str] = []
    fetch(server, "cut", target, note=notes.append)  # 300 kB a time: four cuts in a row, each with something new
    assert len(server.asked) >= 4
    assert notes == []
    with pytest.raises(UnreachableError):
        fetch(server, "nothing", target.with_name("other"), note=notes.append)
    assert len(notes) == 1


def test_refused_without_a_token_and_whole_with_it(server: ModelServer, target: Path) -> None:
    with pytest.raises(DownloadError, match="refuses access"):
        fetch(server, "401", target)
    fetch(server, "401", target, {host(server): TOKEN})
    assert target.read_bytes() == CONTENT


def test_a_token_goes_to_its_host_alone(server: ModelServer, target: Path) -> None:
    with running(ModelServer(FaultyHandler)) as elsewhere:
        server.elsewhere = elsewhere.url
        fetch(server, "redirect", target, {host(server): TOKEN})
        assert target.read_bytes() == CONTENT
        assert server.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert "Authorization" not in elsewhere.asked[0].headers
        fetch(server, "401", target, {host(server): TOKEN})
        with pytest.raises(DownloadError):
            fetch(server, "401", target, {"127.0.0.1": TOKEN})  # another port is another server


def test_a_token_is_not_replaced_by_netrc(
    server: ModelServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(server, "401", target, {host(server): TOKEN})
    assert server.asked[-1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_tokens_are_read_from_the_environment_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGWITHU_TOKENS", " Models.Hospital.org = abc=; other.org:8443=def;")
    assert tokens_of_environment() == {"models.hospital.org": "abc=", "other.org:8443": "def"}
    for wrong in ("s3cret", "host=", "https://host/=s3cret"):
        monkeypatch.setenv("SEGWITHU_TOKENS", wrong)
        with pytest.raises(InputError) as raised:
            tokens_of_environment()
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/f", "ftp://example.org/f", "file:///etc/passwd", "https://u:p@example.org/f", "https://"],
)
def test_addresses_that_are_never_asked(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        pytest.fail("a connection was made")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    with pytest.raises(DownloadError) as raised:
        Downloader({}).download(url, WANTED, target)
    assert "u:p" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://[", "https://u:s3cret@[", "https://h:99999/f", "https://h:x/f", f"https://{'a' * 300}.org/f", "https://"],
)
def test_what_is_no_address_is_refused_and_tells_no_password(url: str, target: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        Downloader({}).download(url, WANTED, target)
    assert raised.value.code == "invalid-address"
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("fault", ["to-no-address", "to-no-port"])
def test_a_redirect_to_what_is_no_address_is_refused(fault: str, server: ModelServer, target: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        fetch(server, fault, target)
    assert raised.value.code == "invalid-address"
    assert not target.exists()


def test_nobody_there(target: Path) -> None:
    with running(ModelServer(FaultyHandler)) as gone:
        pass
    with pytest.raises(UnreachableError, match="connection refused"):
        fetch(gone, "good", target)


def test_a_full_disk_is_named_and_the_part_is_kept(
    server: ModelServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Path.open

    class Full:
        """A file whose disk is full after 200 kB."""

        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def write(self, data: bytes) -> int:
            if self._file.tell() > 200_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self._file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    def opened(path: Path, mode: str = "r", **options: Any) -> Any:
        file = usual(path, mode, **options)
        return Full(file) if path.suffix == ".part" and mode != "rb" else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DownloadError, match=r"disk of .* is full \(1 MB are needed.*goes on"):
        fetch(server, "good", target)
    monkeypatch.undo()
    assert target.with_name(f"{target.name}.part").stat().st_size > 200_000
    fetch(server, "good", target)
    assert server.asked[-1].headers["Range"] != "bytes=0-"
    assert target.read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_is_asked(
    server: ModelServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3_000_000}))
    with pytest.raises(DownloadError, match="3 MB free, but 68 MB are needed"):
        fetch(server, "good", target)
    assert server.asked == []


def test_a_copy_from_a_folder_is_checked_like_a_download(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "stick"
    source.write_bytes(CONTENT)
    copy_file(source, WANTED, target)
    assert target.read_bytes() == CONTENT
    for content, words in ((CONTENT[:-1], "999999 bytes"), (CONTENT[:-1] + b"x", "is not the file")):
        target.unlink(missing_ok=True)
        source.write_bytes(content)
        with pytest.raises(DownloadError, match=words):
            copy_file(source, WANTED, target)
        assert list(target.parent.iterdir()) == []


# Certificates: an institution's own authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return context, file


@pytest.fixture
def encrypted(authority: tuple[ssl.SSLContext, Path]) -> Iterator[ModelServer]:
    with running(ModelServer(FaultyHandler, authority[0], "localhost")) as server:
        yield server


@pytest.mark.parametrize(
    ("variable", "truststore", "trusted"),
    [
        (None, False, False),
        ("REQUESTS_CA_BUNDLE", False, True),
        ("SSL_CERT_FILE", False, False),  # requests does not look at it, and Slicer sets it
        (None, True, False),
        pytest.param(
            "SSL_CERT_FILE", True, True, marks=pytest.mark.skipif(sys.platform != "linux", reason="OpenSSL's places")
        ),
        ("REQUESTS_CA_BUNDLE", True, True),
    ],
    ids=[
        "nothing-set",
        "requests-bundle",
        "ssl-cert-file-alone",
        "truststore-alone",
        "truststore-and-ssl-cert-file",
        "truststore-and-requests-bundle",
    ],
)
def test_certificates_of_an_own_authority(
    variable: str | None,
    truststore: bool,
    trusted: bool,
    encrypted: ModelServer,
    authority: tuple[ssl.SSLContext, Path],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(authority[1]))
    if not truststore:
        monkeypatch.setitem(sys.modules, "truststore", None)
    if trusted:
        fetch(encrypted, "good", target)
        assert target.read_bytes() == CONTENT
        return
    with pytest.raises(DownloadError) as raised:
        fetch(encrypted, "good", target)
    assert "The certificate of localhost is not trusted" in str(raised.value)
    assert "REQUESTS_CA_BUNDLE" in str(raised.value)
    assert encrypted.asked == []


@pytest.mark.parametrize("password", ["", "me:p4ss"])
def test_through_a_proxy(
    password: str,
    encrypted: ModelServer,
    authority: tuple[ssl.SSLContext, Path],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[1]))
    with running(ModelServer(ProxyHandler)) as proxy:
        proxy.elsewhere = password
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//{password}@" if password else "//"))
        fetch(encrypted, "good", target)
        assert target.read_bytes() == CONTENT
        assert [asked.path for asked in proxy.asked] == [host(encrypted)]
        if password:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:wr0ng@"))
            with pytest.raises(DownloadError, match=r"proxy for localhost cannot be used \(407") as raised:
                fetch(encrypted, "good", target.with_name("other"))
            assert "wr0ng" not in str(raised.value)
        monkeypatch.setenv("NO_PROXY", "localhost")
        fetch(encrypted, "good", target.with_name("third"))


def test_a_proxy_that_refuses_the_connection_has_a_sentence_of_its_own(
    encrypted: ModelServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(ModelServer(ProxyHandler)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(DownloadError, match="proxy for localhost cannot be used"):
        fetch(encrypted, "good", target)
    assert not target.exists()


def test_certificates_are_always_checked() -> None:
    models = Path(sys.modules[Downloader.__module__].__file__ or "").parent
    assert [path.name for path in models.glob("*.py") if "verify=" in path.read_text(encoding="utf-8")] == []
