"""Which addresses a URL of a user may lead to. Pure: no name is looked up here."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from pipeline.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALLOW = "An administrator can allow networks with ZHINAO_FETCH__ALLOW_PRIVATE"
_PORTS = {"http": 80, "https": 443}
_LEAST_PORT = 1024
_LONGEST = 2000
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google Cloud and most others
        "169.254.170.2",  # AWS, containers
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host, a public address
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)
"""Where clouds give a machine its credentials: never allowed, by no setting."""
_TRANSLATED = (
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("::/96"),
)
"""IPv6 that stands for the IPv4 address in its last 32 bits (RFC 6052, RFC 8215, RFC 4291 2.5.5.1)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: `path` with its query, as it is sent."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks or addresses, divided by commas. Raises ValueError for anything else."""
    return tuple(
        ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()
    )


def parse_url(url: str) -> Target:
    """Raises InvalidInput for what is not http(s)://host[:port]/..., without repeating a password."""
    text = url.strip()
    if len(text) > _LONGEST or any(ord(c) <= 32 or ord(c) == 127 for c in text) or "\\" in text:
        raise InvalidInput(
            f"this is not a URL that can be fetched: up to {_LONGEST} characters without spaces and backslashes"
        )
    parts, port = _split(text)
    if parts.scheme not in _PORTS:
        raise InvalidInput("only http:// and https:// URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "the URL holds a user name or a password, which are not sent: remove them, or upload the file"
        )
    if not parts.hostname:
        raise InvalidInput("the URL names no host: write https://host/path")
    port = port or _PORTS[parts.scheme]
    if port < _LEAST_PORT and port not in _PORTS.values():
        raise InvalidInput(
            f"port {port} is not fetched from: 80, 443 and those from {_LEAST_PORT} on are"
        )
    path = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    return Target(parts.scheme, _ascii(parts.hostname), port, path)


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInput("this is not a URL: write https://host/path") from error
    return parts, port


def _ascii(host: str) -> str:
    """A host as DNS and certificates have it (IDNA 2008)."""
    if host.isascii():
        return host
    import idna

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidInput(f"the URL's host “{host}” is not a name that can exist") from error


def _quoted(text: str) -> str:
    """Characters that are no part of a URL escaped; what is escaped stays so."""
    return quote(text, safe="%/:?[]@!$&'()*+,;=~-._")


def refuse(host: str, addresses: Iterable[Address], allowed: Sequence[Network]) -> None:
    """Raises InvalidInput when a host has an address that must not be fetched from; one is enough."""
    for address in addresses:
        reason = refused(address, allowed)
        if reason:
            shown = host if host == str(address) else f"{host} ({address})"
            raise InvalidInput(f"{shown} is not fetched from: {reason}")


def refused(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why an address is refused; None for one of the public internet, or in an allowed network."""
    for inside in (address, *_embedded(address)):
        if inside in _METADATA:
            return "it is where a cloud keeps a machine's credentials"
    if any(address in network for network in allowed if network.version == address.version):
        return None
    embedded = _embedded(address)
    if embedded:
        return next((reason for one in embedded if (reason := refused(one, allowed))), None)
    if address.is_loopback:
        return "it is this machine itself. " + _ALLOW
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "it is no address of a single machine"
    if address.is_link_local:
        return "it is an address of the local link"
    if not address.is_global or (address.version == 6 and address.is_site_local):
        return "it is a private address. " + _ALLOW
    return None


def _embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, translated, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if int(address) > 1 and any(address in network for network in _TRANSLATED):
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()
