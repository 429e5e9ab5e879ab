"""Addresses of network streams: checked, and shown without what is secret in them; shared by what reads and sends."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Collection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import av

from pipeline.errors import ConfigError, did_you_mean

# Some cameras want the password in the path: rtsp://host/user=admin&password=1234&channel=1
SECRET = re.compile(r"(?i)((?:user\w*|login|pass\w*|pwd|token|secret|auth\w*|key|sig\w*)=)[^&;/]*")


Source = Path | str
"""A path, or the address of a network stream."""


def source_of(text: str) -> Source:
    """What a word of the command line stands for; a path would make one slash of the two of an address."""
    return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else Path(text)


def without_credentials(url: str) -> str:
    """An address as it may be shown: no user, no password, nothing of the query."""
    head, mark, _ = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    if not slashes and "@" in head:
        return f"...@{head.rpartition('@')[2]}"  # written wrong, and maybe with a password all the same
    # The last @ before the path ends the credentials. One behind a slash belongs to a password that should have been
    # escaped, so it is taken for that, too.
    shown = f"{scheme}{slashes}{rest.rpartition('@')[2]}"
    return SECRET.sub(r"\1...", shown.partition("#")[0]) + ("?..." if mark else "")


def check_address(url: str, schemes: Collection[str]) -> SplitResult:
    """The parts of an address that could be one.

    Args:
        url: `scheme://[user:password@]host[:port][/path][?query]`.
        schemes: what is legal before `://`.

    Raises:
        ConfigError: another scheme, no host, or no legal port. The message has no credentials in it.
    """
    where = f"setting 'url' is {without_credentials(url)!r}"
    scheme, slashes, _ = url.partition("://")
    if not slashes:
        raise ConfigError(f"{where}: not an address; write e.g. 'rtsp://host:554/path'")
    if scheme.lower() not in schemes:
        raise ConfigError(f"{where}: cannot work with {scheme!r}.{did_you_mean(scheme.lower(), schemes)}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose text would show the address
        raise ConfigError(
            f"{where}: the host or the port is none; a port is 1 to 65535, and of a password "
            "the characters / ? # @ : are written as %2F %3F %23 %40 %3A"
        ) from None
    listening = scheme.lower() == "udp" or "mode=listener" in parts.query  # then the host is an address of ours, or any
    if not parts.hostname and not listening:
        raise ConfigError(f"{where}: there is no host in it; write e.g. '{scheme}://192.168.1.64'")
    if port is None and scheme.lower() in ("udp", "tcp", "srt"):
        raise ConfigError(f"{where}: there is no port in it; write '{scheme}://host:port'")
    return parts


def why_not(error: Exception, host: str | None) -> str:
    """Why a connection failed or broke, in plain words and without the address. May ask for the host's number."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        code = 401 if isinstance(error, av.error.HTTPUnauthorizedError) else 403
        return f"user name or password are not accepted ({code})"
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the host has no such stream (404); check the path"
    if isinstance(error, av.error.HTTPClientError | av.error.HTTPServerError):
        return f"the host does not give it ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return "refused: nothing listens at that port"
    if isinstance(error, TimeoutError | av.error.ExitError):  # the latter: PyAV ended the waiting
        return "no answer in time"
    if isinstance(error, ConnectionError | EOFError):
        return "the connection broke"
    if isinstance(error, av.error.InvalidDataError):
        return "what comes is no video that FFmpeg knows"
    if isinstance(error, OSError) and error.errno == errno.EIO and host and not known(host):
        return f"there is no host {host!r}; check the name, and that the network is up"
    if isinstance(error, OSError | av.FFmpegError):
        return str(getattr(error, "strerror", None) or type(error).__name__)
    return type(error).__name__  # whose text may show the address


def known(host: str) -> bool:
    """Whether the name stands for an address; may take as long as the system's resolver does."""
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False
