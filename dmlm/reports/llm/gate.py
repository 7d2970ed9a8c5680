"""The one place that decides whether text may leave the machine.

Two gates. A host that is not this machine must be allowed by name (``--allow-remote HOST``). Reports of a PhysioNet
data set must not go to such a host unless their terms were accepted by the data set's name
(``--accept-physionet-terms MIMIC-CXR``). A model on this machine needs neither.

What the gate cannot see: a program on this machine that passes requests on. The one that is known to, Ollama with a
model named ``...-cloud``, is treated as its host.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dmlm.errors import ConfigError
from dmlm.reports.llm.errors import GateError

DATA_SET = "MIMIC-CXR"
"""Name by which the terms are accepted."""

PHYSIONET_TERMS = f"""\
These reports are, or look like, {DATA_SET} from PhysioNet. In short, and without replacing the agreement you signed:
  - The PhysioNet Credentialed Health Data Use Agreement forbids giving others access to the data. PhysioNet says that
    this includes sending them through the API of a third party or into an online service.
  - PhysioNet strongly recommends models that run on your own machines.
  - Where a service is used all the same, you must have made sure that it keeps nothing, trains on nothing and lets
    nobody review what is sent. You alone answer for that; PhysioNet vouches for no service.
  Read: physionet.org/news/post/llm-responsible-use and the agreement on the data set's page.
If all this is met, accept it by the name of the data set: --accept-physionet-terms {DATA_SET}"""

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?|[0-9a-f:.]+")
_CLOUD_MODEL = re.compile(r"[:-]cloud$", re.IGNORECASE)
_CLOUD_HOST = "ollama.com"
_MIMIC_NAME = re.compile(r"mimic|physionet", re.IGNORECASE)
_MIMIC_FILE = re.compile(r"mimic-|cxr-(record|study)-list\.csv|p1[0-9]$", re.IGNORECASE)
# what the releases look like: names replaced by exactly three underscores, the head line of the final report
_MIMIC_TEXT = re.compile(r"(?<!_)___(?!_)|^[ \t]*FINAL (?:REPORT|ADDENDUM)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Destination:
    """Where requests go, after the first gate.

    Args:
        url: Base address that is connected to; on this machine the name is replaced by the address that was checked,
            so that a second look-up cannot lead elsewhere.
        name: Host (and port) as the user wrote it, for the ``Host`` header and TLS.
        host: Host alone.
        is_local: Whether nothing leaves the machine.
        proxy: Proxy that is used, ``None`` for a direct connection.
        warnings: What the user should know before anything is sent.
    """

    url: str
    name: str
    host: str
    is_local: bool
    proxy: str | None = None
    warnings: tuple[str, ...] = ()


def check_destination(
    url: str, model: str = "", allow_remote: Collection[str] = (), proxy: str | None = None
) -> Destination:
    """Pass the first gate: this machine, or a host that was allowed by name.

    Args:
        url: Base address of the endpoint, ``http(s)://HOST[:PORT][/PATH]``.
        model: Name of the model.
        allow_remote: Hosts that may receive text.
        proxy: Proxy to go through; its host must be allowed too, and it is never used for this machine.

    Raises:
        GateError: If the host is neither this machine nor allowed.
        ConfigError: If an address or a host is not well formed. No message repeats a user name, password or query.
    """
    allowed = {_allowed(item) for item in allow_remote}
    scheme, host, port, path = _parts(url, "--endpoint")
    pinned = None if host in allowed else _loopback(host, port)
    if pinned is None:
        _must_be_allowed(host, allowed, f"--endpoint: '{host}' is not this machine")
    elif _CLOUD_MODEL.search(model):
        _must_be_allowed(_CLOUD_HOST, allowed, f"--model: Ollama passes '{model}' on to {_CLOUD_HOST}")
    is_local = pinned is not None and not _CLOUD_MODEL.search(model)
    warnings = []
    if pinned is None and scheme == "http":
        warnings.append(f"requests to {host} are not encrypted (http)")
    if proxy is not None:
        if pinned is not None:
            msg = f"--proxy: '{host}' is this machine and is never reached through a proxy; leave --proxy out"
            raise ConfigError(msg)
        proxy_host, proxy_port = _parts(proxy, "--proxy", may_have_user=True)[1:3]
        if _loopback(proxy_host, proxy_port) is None:
            _must_be_allowed(proxy_host, allowed, f"--proxy: '{proxy_host}' is not this machine")
    name = _bracketed(host) + (f":{port}" if port != _PORTS[scheme] else "")
    connect = f"{scheme}://{_bracketed(pinned or host)}:{port}{path}"
    return Destination(connect, name, host, is_local, proxy, tuple(warnings))


@dataclass
class ReportGate:
    """The second gate, for reports that are about to be sent.

    Args:
        is_local: Whether they stay on this machine; then everything passes.
        host: Who would receive them.
        accepted: Name of the data set whose terms were accepted, ``None`` if none were.
        say: Where the terms are shown.
    """

    is_local: bool
    host: str = ""
    accepted: str | None = None
    say: Callable[[str], None] = field(default=print, repr=False)
    _has_shown: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.accepted is not None and self.accepted != DATA_SET:
            msg = f"--accept-physionet-terms: write the data set's name, '{DATA_SET}'; got '{self.accepted}'"
            raise ConfigError(msg)

    def check_root(self, root: Path) -> None:
        """Check a folder or file of reports before any of it is read.

        Raises:
            GateError: If it is one of PhysioNet's and the terms were not accepted.
        """
        if not self.is_local and is_physionet_root(root):
            self._require(str(root))

    def check_report(self, text: str) -> None:
        """Check one report just before it is sent.

        Raises:
            GateError: If it looks like one of PhysioNet's and the terms were not accepted; names no word of it.
        """
        if not self.is_local and is_physionet_like(text):
            self._require("a report that is about to be sent")

    def _require(self, what: str) -> None:
        if not self._has_shown:
            self._has_shown = True
            self.say(PHYSIONET_TERMS)
        if self.accepted != DATA_SET:
            msg = (
                f"{what} is, or looks like, {DATA_SET} and would go to '{self.host}'; use a model on this machine, or "
                f"accept the terms shown above with: --accept-physionet-terms {DATA_SET}"
            )
            raise GateError(msg)


def is_physionet_root(root: Path) -> bool:
    """Whether a path, what it links to, or the names in it are those of a PhysioNet release.

    Args:
        root: Folder or file; it need not exist.
    """
    places = {root.expanduser().absolute(), root.expanduser().resolve()}
    if any(_MIMIC_NAME.search(part) for place in places for part in place.parts):
        return True
    folders = [root, root / "files"]
    return any(_MIMIC_FILE.match(item.name) for folder in folders if folder.is_dir() for item in folder.iterdir())


def is_physionet_like(text: str) -> bool:
    """Whether a report has the marks of the releases: ``___`` for what was removed, or the head line FINAL REPORT."""
    return _MIMIC_TEXT.search(text) is not None


_PORTS = {"http": 80, "https": 443}


def _parts(url: str, option: str, may_have_user: bool = False) -> tuple[str, str, int, str]:
    """Split an address; what two parsers could read differently is refused."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        msg = f"{option}: an address has no blanks, backslashes or control characters"
        raise ConfigError(msg)
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        split, port = urlsplit(""), None
    if split.scheme not in _PORTS or not split.hostname:
        msg = f"{option}: expected http://HOST[:PORT]/PATH or https://..., e.g. http://127.0.0.1:8000/v1"
        raise ConfigError(msg)
    if "@" in split.netloc and not may_have_user:
        msg = f"{option}: no user or password in the address; put the key into the variable that --api-key-env names"
        raise ConfigError(msg)
    if "?" in url or "#" in url:
        msg = f"{option}: the address must end with its path, without '?' or '#'"
        raise ConfigError(msg)
    host = _plain(split.hostname, option)
    return split.scheme, host, _PORTS[split.scheme] if port is None else port, split.path.rstrip("/")


def _plain(host: str, option: str) -> str:
    """Host in lower case and ASCII, without the dot that ends a full name."""
    try:
        plain = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        plain = ""
    plain = plain.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(plain):
        msg = f"{option}: '{host}' is not the name of a host"
        raise ConfigError(msg)
    return plain


def _allowed(item: str) -> str:
    bare = item.strip()
    if "/" in bare or "*" in bare or "@" in bare or (bare.count(":") == 1):
        msg = "--allow-remote: give one host by its name alone, e.g. llm.example.org, without scheme, port, path or '*'"
        raise ConfigError(msg)
    return _plain(bare, "--allow-remote")


def _must_be_allowed(host: str, allowed: Collection[str], why: str) -> None:
    if host not in allowed:
        msg = f"{why}, and nothing leaves it unless you say so: --allow-remote {host}"
        raise GateError(msg)


def _loopback(host: str, port: int) -> str | None:
    """Address of this machine that a host stands for; None if any of its addresses is another machine's."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None  # a name that nobody knows is not this machine
    if not found or not all(_is_loopback(address) for address in found):
        return None
    return min(found, key=lambda address: (":" in address, address))


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
