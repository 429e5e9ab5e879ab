"""Sockets: where ZeroMQ binds and connects, and who can reach it there; both ends of the network link use this.

Whoever can open a connection without keys can read what is published. So by default an address is one of this machine
alone: tcp on loopback, which all users of the machine can open, or ipc, a socket in the file system that only this user
can (mode 0600). Any other needs keys (`streamfuse.keys`) or a clear word that it is wanted.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq

from pipeline import wire
from pipeline.errors import ConfigError, OutputError
from streamfuse import ipc
from streamfuse.ipc import IPC

TCP = re.compile(r"tcp://(\*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
MOST_PARTS = 4  # of a message that are looked at; three are legal
LEGAL = "legal is tcp://HOST:PORT, such as tcp://127.0.0.1:5555, or ipc://PATH"


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """The one of this process. More than one with CURVE is not safe (libzmq#4241)."""
    return zmq.Context.instance()


def check_address(address: str) -> None:
    """Raise ConfigError unless it is `tcp://HOST:PORT` or `ipc://PATH`.

    HOST is a name, an IPv4 address, an IPv6 address in brackets or, to bind, `*`: all of this machine's IPv4 addresses.
    PORT is 0 to 65535; to bind, 0 takes a free one.
    """
    if address.startswith(IPC):
        ipc.check(address)
        return
    parts = TCP.fullmatch(address)
    if parts is None:
        raise ConfigError(f"address {shown(address)!r} is none: {LEGAL}")
    if int(parts[2]) > 65535:
        raise ConfigError(f"address {address!r}: there is no port {parts[2]}; legal is 0 to 65535")
    if parts[1].startswith("["):
        try:
            ipaddress.IPv6Address(parts[1][1:-1])
        except ValueError:
            raise ConfigError(f"address {address!r}: {parts[1]} is no IPv6 address; {LEGAL}") from None


def shown(address: str) -> str:
    """As it may be shown: without the user and password of an address of another kind, or of one written wrong."""
    scheme, slashes, rest = address.partition("://") if "://" in address else ("", "", address)
    return f"{scheme}{slashes}...@{rest.rpartition('@')[2]}" if "@" in rest else address


def host_of(address: str) -> str:
    """Of a tcp address; of ipc nothing."""
    parts = TCP.fullmatch(address)
    return parts[1] if parts else ""


def literal(address: str) -> str:
    """For libzmq: `localhost` is 127.0.0.1, and not what a resolver takes it for, which may be another host."""
    return f"tcp://127.0.0.1:{address.rpartition(':')[2]}" if host_of(address).lower() == "localhost" else address


def is_local(address: str) -> bool:
    """Whether only this machine can reach it. In doubt not: of names, `localhost` alone."""
    check_address(address)
    if address.startswith(IPC):
        return True
    try:
        return ipaddress.ip_address(host_of(literal(address)).strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(address: str, keys: Path | None, insecure: bool, say: Callable[[str], None]) -> None:
    """Raise ConfigError for an address to bind that others can reach without keys, unless that is wanted.

    Args:
        address: to bind.
        keys: folder of the keys, if there are any.
        insecure: strangers may see what is sent. Then `say` gets one line about it.
        say: a logger's `warning`, for one.
    """
    if is_local(address) or keys is not None:
        return
    if not insecure:
        raise ConfigError(
            f"address {address!r} is one that others can reach: set 'keys' to a folder made by `python run.py keygen "
            "DIR`, or 'insecure: true' if everybody on that network may see the pictures"
        )
    say(f"INSECURE: {address} has no keys: whoever can reach it can see the pictures")


def tune(socket: zmq.Socket[bytes], most_bytes: int = wire.MOST_PAYLOAD_BYTES) -> None:
    """Set what all sockets have in common, before they bind or connect.

    Args:
        socket: of any type.
        most_bytes: of one part of a message that comes in; who sends more is disconnected before it is read. One that
            binds gets small messages only: give it less, for anybody may connect.
    """
    socket.linger = 0  # closing waits for nobody
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)  # a peer whose cable is pulled is noticed
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)  # who connects and says nothing is put out
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)


def connect(socket: zmq.Socket[bytes], address: str) -> None:
    """Begin to connect. Nobody need be there yet. Of a name, its IPv4 address is taken, anew at each attempt.

    Raises:
        ConfigError: no address to connect to.
    """
    check_address(address)
    host = host_of(address)
    if host == "*" or (host and int(address.rpartition(":")[2]) == 0):
        raise ConfigError(f"address {address!r}: one can bind that, but not connect to it; give a host and a port")
    socket.setsockopt(zmq.IPV6, host.startswith("["))
    try:
        socket.connect(literal(address))
    except zmq.ZMQError as error:
        raise ConfigError(f"address {address!r}: cannot connect to it: {error.strerror}") from error


def parts(socket: zmq.Socket[bytes], flags: int = 0, most: int = MOST_PARTS) -> list[zmq.Frame]:
    """The next message: of one of more parts than are legal only as many as tell that it is none.

    Raises:
        zmq.Again: there is none, or none in time.
    """
    found: list[zmq.Frame] = []
    while True:
        part = socket.recv(flags, copy=False)
        if len(found) < most:
            found.append(part)
        if not part.more:
            return found


def reconnect(socket: zmq.Socket[bytes], address: str) -> None:
    """Connect anew, for after a long silence: libzmq gives a peer up for ever that once broke the protocol, such as
    another program that had the port for a moment."""
    with suppress(zmq.ZMQError):  # given up already
        socket.disconnect(literal(address))
    connect(socket, address)


def bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Listen. An ipc file gets mode 0600 before anybody can connect; the folder must be there.

    Returns:
        The address that was really bound, with the port that was free for port 0.

    Raises:
        ConfigError: no address.
        OutputError: in use, not allowed, or not this machine's.
    """
    check_address(address)
    if address.startswith(IPC):
        ipc.bind(socket, address)
        return address
    socket.setsockopt(zmq.IPV6, host_of(address).startswith("["))
    try:
        socket.bind(literal(address))
    except zmq.ZMQError as error:
        raise OutputError(f"{address}: cannot listen there: {why_not(error)}") from error
    return socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]


def unbind(socket: zmq.Socket[bytes], address: str) -> None:
    """Stop to listen, and remove the file of ipc, if it is still the one that was made. Never raises.

    Args:
        socket: that is bound.
        address: what `bind` returned.
    """
    if address.startswith(IPC):
        ipc.remove(socket, address)  # before it stops: until then nobody takes the file for one that was left behind
    with suppress(zmq.ZMQError):
        socket.unbind(address)


def why_not(error: zmq.ZMQError) -> str:
    """What is in the way of listening, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "another program does; end it, or take another port (0 takes a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not allowed; take a port of 1024 or more"
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return "this machine has no such address; give one that it has, as a number (* is all of them)"
    return error.strerror or f"error {error.errno}"
