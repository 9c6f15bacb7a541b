"""Which addresses may be fetched from, however they are written."""

import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.web.addresses import Target, parse_networks, parse_url, refused
from pipeline.errors import InvalidInput

PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
PRIVATE_6 = [
    ipaddress.ip_network(network)
    for network in ("::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32")
]
inside = st.sampled_from(PRIVATE).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(ipaddress.IPv4Address)
)
inside_6 = st.sampled_from(PRIVATE_6).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(ipaddress.IPv6Address)
)


@settings(deadline=None)
@given(inside | inside_6)
def test_no_private_address_is_fetched_from(address: ipaddress.IPv4Address) -> None:
    assert refused(address)


@settings(deadline=None)
@given(inside, st.sampled_from(["::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "2002::", "::"]))
def test_no_private_address_hides_in_a_longer_one(
    address: ipaddress.IPv4Address, prefix: str
) -> None:
    shift = 80 if prefix == "2002::" else 0
    assert refused(
        ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address) << shift)
    )


@settings(deadline=None)
@given(inside)
def test_no_private_address_hides_behind_a_tunnel(address: ipaddress.IPv4Address) -> None:
    teredo = 0x20010000 << 96 | int(ipaddress.IPv4Address("8.8.8.8")) << 64
    assert refused(ipaddress.IPv6Address(teredo | int(address) ^ 0xFFFFFFFF))


def parts(address: int, digits: str, count: int) -> str:
    """1 to 4 numbers, the last one filling up, as inet_aton reads them."""
    cut = [(address >> 24 - 8 * at) & 0xFF for at in range(count - 1)]
    rest = address & ((1 << 8 * (5 - count)) - 1)
    return ".".join(format_as(number, digits) for number in (*cut, rest))


def format_as(number: int, digits: str) -> str:
    return {"decimal": str(number), "octal": f"0{number:o}", "hex": f"0x{number:x}"}[digits]


@settings(deadline=None)
@given(inside, st.sampled_from(["decimal", "octal", "hex"]), st.integers(1, 4))
def test_the_resolver_reads_odd_numbers_as_the_address_they_are(
    address: ipaddress.IPv4Address, digits: str, count: int
) -> None:
    """2130706433, 0177.0.0.1 and 0x7f.1 are all 127.0.0.1: what is checked is what is connected to."""
    host = parse_url(f"http://{parts(int(address), digits, count)}/").host
    try:
        found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return  # a form that this system does not know leads nowhere
    assert all(refused(ipaddress.ip_address(info[4][0])) for info in found)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])  # fmt: skip
def test_the_public_internet_is_fetched_from(address: str) -> None:
    assert refused(ipaddress.ip_address(address)) is None


METADATA = (
    "169.254.169.254 100.100.100.200 168.63.129.16 fd00:ec2::254 ::ffff:169.254.169.254".split()
)


@pytest.mark.parametrize("address", METADATA)
def test_the_credentials_of_a_cloud_are_out_of_reach_of_any_setting(address: str) -> None:
    everything = parse_networks("0.0.0.0/0, ::/0")
    assert "credentials" in refused(ipaddress.ip_address(address), everything)


def test_a_setting_allows_exactly_its_networks() -> None:
    allowed = parse_networks("10.1.0.0/16, 192.168.1.7, fd12::/16")
    for address in ("10.1.2.3", "192.168.1.7", "fd12::1", "::ffff:10.1.2.3"):
        assert refused(ipaddress.ip_address(address), allowed) is None
    for address in ("10.2.0.1", "192.168.1.8", "fd13::1", "127.0.0.1"):
        assert "ZHINAO_FETCH__ALLOW_PRIVATE" in refused(ipaddress.ip_address(address), allowed)
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        parse_networks("10.0.0.0/99")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            "https://例子.测试/文件%201.pdf",
            Target("https", "xn--fsqu00a.xn--0zwm56d", 443, "/%E6%96%87%E4%BB%B6%201.pdf"),
        ),
        ("HTTP://Example.COM:8080?q=1#part", Target("http", "example.com", 8080, "/?q=1")),
        ("http://[::1]:8000/a%2Fb", Target("http", "::1", 8000, "/a%2Fb")),
    ],
)  # fmt: skip
def test_urls_are_taken_apart(url: str, target: Target) -> None:
    assert parse_url(url) == target
    assert "Host" not in target.authority


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http"),
        ("ftp://a.example/x", "only http"),
        ("gopher://127.0.0.1:6379/_SET", "only http"),
        ("//a.example/x", "only http"),
        ("https://user:geheim@a.example/", "password"),
        ("https://user@a.example/", "password"),
        ("https:///x", "no host"),
        ("http://a.example:25/", "port 25"),
        ("http://a.example:99999/", "not a URL"),
        ("http://a.example:x/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://a.example\\@127.0.0.1/", "backslashes"),
        ("http://a.example/\r\nHost: b", "spaces"),
        ("http://a.example/" + "x" * 3000, "2000"),
    ],
)
def test_what_is_not_fetched_is_said(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        parse_url(url)
    assert "geheim" not in str(caught.value)
