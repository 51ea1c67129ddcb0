"""Who may ask: links, hosts, origins, keys that work once, and servers that others can reach."""

from email.message import Message

import pytest

from SegWithUCore.util.errors import UsageError
from SegWithUCore.web.reviews import RefusalError
from SegWithUCore.web.server import Gate, gate_for, is_local, public_address


def headers(**values: str) -> "Message[str, str]":
    message: Message[str, str] = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def refused_with(gate: Gate, message: "Message[str, str]", data: bool = True) -> int | None:
    """The status by which a request without token is refused; None if it is answered."""
    try:
        gate.check(message, False, data)
    except RefusalError as refusal:
        return refusal.status
    return None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8091", None),
        ("localhost:8091", None),
        ("LOCALHOST:8091", None),
        ("[::1]:8091", None),
        ("localhost", 421),
        ("localhost:8092", 421),
        ("localhost.evil.example:8091", 421),
        ("evil.example", 421),
        ("127.0.0.1:8092", 421),
        ("127.0.0.1:8091@evil.example", 421),
        ("127.0.0.1:8091,evil.example", 421),
        ("127.0.0.1", 421),
        ("[::2]:8091", 421),
        ("", 421),
    ],
)
def test_a_page_at_this_computer_is_known_by_its_names(host, status):
    gate = gate_for("127.0.0.1", 8091, None)
    assert refused_with(gate, headers(Host=host) if host else headers()) == status


@pytest.mark.parametrize(
    ("public", "host", "origin", "status"),
    [
        ("https://review.example.org/", "review.example.org", "https://review.example.org", None),
        ("https://review.example.org/cases", "review.example.org", "https://review.example.org", None),
        ("https://review.example.org/", "review.example.org", "http://review.example.org", 403),
        ("https://review.example.org/", "other.example.org", "https://review.example.org", 421),
        ("http://review.example.org:8080", "review.example.org:8080", "http://review.example.org:8080", None),
    ],
)
def test_behind_a_proxy_the_page_is_known_by_the_proxys_name(public, host, origin, status):
    gate = gate_for("127.0.0.1", 8091, public)
    assert gate.link.startswith(public.rstrip("/") + "/#")
    assert refused_with(gate, headers(Host=host, Origin=origin)) == status


def test_a_server_for_a_proxy_elsewhere_is_known_by_the_address_that_it_listens_at():
    gate = gate_for("10.1.2.3", 8091, "https://review.example.org/")
    for host in ("10.1.2.3:8091", "review.example.org"):
        assert refused_with(gate, headers(Host=host)) is None
    for host in ("10.9.9.9:8091", "10.1.2.3:8092", "10.1.2.3", "evil.example:8091", "localhost:8091"):
        assert refused_with(gate, headers(Host=host)) == 421


def test_the_page_may_be_linked_to_but_its_data_is_for_itself_alone():
    gate = gate_for("127.0.0.1", 8091, None)
    linked = headers(Host="localhost:8091", Sec_Fetch_Site="cross-site")
    assert refused_with(gate, linked, data=False) is None
    assert refused_with(gate, linked) == 403


def test_tokens_are_long_and_never_the_same():
    gates = [gate_for("127.0.0.1", 8091, None) for _ in range(50)]
    assert len({gate.token for gate in gates}) == 50
    assert min(len(gate.token) for gate in gates) >= 32
    (one, two), key = gates[:2], gates[0].link_for_once().rpartition("=")[2]
    assert one.token not in one.link_for_once()
    assert one.enter(key) == one.token
    for gate, used in ((one, key), (two, key), (one, None)):
        with pytest.raises(RefusalError):
            gate.enter(used)


@pytest.mark.parametrize("text", ["review.example.org", "ftp://x/", "https://", "https://x/?a=b", "https://u:p@x/"])
def test_what_is_no_address_of_a_page_is_refused(text):
    with pytest.raises(UsageError, match="behind-proxy"):
        public_address(text)


def test_which_hosts_only_this_computer_reaches():
    assert [is_local(host) for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1")] == [True] * 4
    assert [is_local(host) for host in ("0.0.0.0", "10.0.0.1", "example.org", "::", "")] == [False] * 5
