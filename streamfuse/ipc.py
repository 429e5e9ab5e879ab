"""ipc: sockets in the file system that only this user can open, and that take no running program's place.

libzmq alone would delete whatever has the name, a running program's socket included, and let everybody connect until
the mode is set. So the file is made here, and libzmq gets a socket that listens already (ZMQ_USE_FD).
"""

from __future__ import annotations

import errno
import os
import socket as system
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import zmq

from pipeline.errors import ConfigError, OutputError

IPC = "ipc://"
MOST_PATH_BYTES = 107  # sun_path of unix(7) has 108, the last of them 0
LOCK_PATIENCE_S = 2.0

Identity = tuple[int, int, int]
"""Of a file: device, inode, and when it was made, for inodes are used again."""

_made: WeakKeyDictionary[zmq.Socket[bytes], dict[str, Identity]] = WeakKeyDictionary()
"""Of sockets that are bound: the files of their addresses, for they alone are ours to remove."""


def check(address: str) -> None:
    """Raise ConfigError unless `ipc://PATH` can be one."""
    path = address.removeprefix(IPC)
    if not zmq.has("ipc"):
        raise ConfigError(f"address {address!r}: this system has no ipc; take tcp://127.0.0.1:PORT")
    if path in ("", "*") or not path.isprintable():
        raise ConfigError(f"address {address!r}: give the path of a file")
    if path.startswith("@"):  # Linux: a name beside the file system, that no mode protects
        raise ConfigError(f"address {address!r}: everybody on this machine could open that; give the path of a file")
    size = len(os.fsencode(path))
    if size > MOST_PATH_BYTES:
        raise ConfigError(
            f"address {address!r}: the path has {size} bytes; legal are up to {MOST_PATH_BYTES}: take a shorter folder"
        )


def bind(socket: zmq.Socket[bytes], address: str) -> None:
    """Listen at `ipc://PATH`.

    Raises:
        OutputError: in use, not allowed, no folder, or a file that is no socket.
    """
    path = Path(address.removeprefix(IPC))
    try:
        with locked(path.parent):
            make_way(path)
            listener = listen(path)
            _made.setdefault(socket, {})[address] = identity(path)
    except OSError as error:
        raise OutputError(f"{address}: cannot listen there: {why_not(error, path)}") from error
    descriptor = listener.detach()
    try:
        socket.setsockopt(zmq.USE_FD, descriptor)
        socket.bind(address)
    except zmq.ZMQError as error:
        os.close(descriptor)
        remove(socket, address)
        raise OutputError(f"{address}: cannot listen there: {error.strerror}") from error
    finally:
        socket.setsockopt(zmq.USE_FD, -1)


def remove(socket: zmq.Socket[bytes], address: str) -> None:
    """Remove the file, if it is still the one that was made. Never raises."""
    ours, path = _made.get(socket, {}).pop(address, None), Path(address.removeprefix(IPC))
    with suppress(OSError):
        if ours is not None and ours == identity(path):
            path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While one looks at a file there and takes its place, no other of us does.

    Everybody who can look into the folder can lock it, for as long as he likes; after a moment it is done without.
    """
    import fcntl  # not on every system, and those without it have no ipc

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + LOCK_PATIENCE_S
        while time.monotonic() <= until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def make_way(path: Path) -> None:
    """Remove a socket that nobody listens to any more.

    Raises:
        OSError: somebody does (EADDRINUSE), or it is no socket (EEXIST).
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "no socket")
    with system.socket(system.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:  # EAGAIN: too many wait to be let in; EPROTOTYPE: of another kind
            if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                raise
    raise OSError(errno.EADDRINUSE, "in use")


def listen(path: Path) -> system.socket:
    """A socket that listens at a path that is free, and that only this user can open."""
    listener = system.socket(system.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with the mode that the socket has
        listener.bind(os.fspath(path))
        if stat.S_IMODE(path.lstat().st_mode) & 0o177:  # another system; nobody can connect before `listen`
            path.chmod(0o600)
        listener.listen(100)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def identity(path: Path) -> Identity:
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def why_not(error: OSError, path: Path) -> str:
    """What is in the way of an ipc file, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "another program does; end it, or take another path"
    if error.errno == errno.EEXIST:
        return "that is a file and no socket; remove it, or take another path"
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
        return f"there is no folder {path.parent}; make it first"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return f"not allowed; take a folder that you may write to, not {path.parent}"
    return error.strerror or type(error).__name__
