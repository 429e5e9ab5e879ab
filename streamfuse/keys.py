"""Keys: who may read what is published, by CURVE (https://rfc.zeromq.org/spec/26/); `SECURITY.md` has what it protects.

A folder of keys, made by `python run.py keygen DIR`:

    server.key         public: clients need it, to know that the publisher is the right one
    server.key_secret  the publisher's alone
    client.key         public
    client.key_secret  the client's alone, with server.key beside it
    clients/           public keys of who may connect, NAME.key each: read anew at each connection

in the format of pyzmq's `zmq.auth`. A secret is 40 characters of Z85 (https://rfc.zeromq.org/spec/32/), and is never in
a message of ours.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import struct
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils import z85

from pipeline.errors import ConfigError, OutputError
from streamfuse.gate import Gate

log = logging.getLogger("streamfuse")

SERVER, CLIENT, CLIENTS = "server", "client", "clients"
PUBLIC, SECRET = ".key", ".key_secret"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LINE = re.compile(r'^[ \t]*(public|secret)-key[ \t]*=[ \t]*"([0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40})"[ \t\r]*$', re.M)
MOST_FILE_BYTES = 4096
MOST_TOLD = 100
HOW_TO = "`python run.py keygen DIR` makes keys"


# ----------------------------------------------------------------------------------------------------------------- make


def make(folder: Path, client: str = CLIENT) -> list[Path]:
    """Make keys of a client, and before the first one those of the server; secrets have mode 0600, the folder 0700.

    Args:
        folder: for them; made if it is not there.
        client: its name: up to 64 letters, digits, `_`, `.` and `-`. It goes onto the allow-list.

    Returns:
        The files that were made.

    Raises:
        ConfigError: no such name.
        OutputError: it has keys already, or cannot be written. Then nothing was.
    """
    check_curve()
    check_name(client)
    made: list[Path] = []
    try:
        for place in (folder, folder / CLIENTS):
            place.mkdir(mode=0o700, parents=place == folder, exist_ok=True)
            if others_may(place, 0o022):
                raise OutputError(f"{place}: others may write to it, and so put keys of theirs there: chmod go-w it")
        refuse_existing(folder, client)
        if not (folder / f"{SERVER}{SECRET}").exists():
            write_pair(folder, SERVER, made)
        public = write_pair(folder, client, made)
        write(folder / CLIENTS / f"{client}{PUBLIC}", public, None, made)
    except (OSError, OutputError) as error:
        for file in made:
            with suppress(OSError):
                file.unlink()
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return made


def check_curve() -> None:
    if not zmq.has("curve"):
        raise ConfigError("keys: this build of libzmq has no CURVE; take the pyzmq of PyPI: pip install pyzmq")


def check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name.lower() == SERVER:
        raise ConfigError(
            f"{name!r} is no name of a client: give up to 64 letters, digits, _, . and -, and not {SERVER!r}"
        )


def refuse_existing(folder: Path, client: str) -> None:
    """Raise OutputError before a key is written over, or made that would not fit to those that are there."""
    server = [folder / f"{SERVER}{kind}" for kind in (PUBLIC, SECRET)]
    there = [file for file in server if os.path.lexists(file)]
    if len(there) == 1:
        raise OutputError(f"{there[0]}: is there without its other half; make clients' keys where the server's two are")
    for file in (folder / f"{client}{PUBLIC}", folder / f"{client}{SECRET}", folder / CLIENTS / f"{client}{PUBLIC}"):
        if os.path.lexists(file):
            raise OutputError(
                f"{file}: is there already, and a key is never written over; `keygen {folder} --client NAME` adds "
                "another client"
            )


def write_pair(folder: Path, name: str, made: list[Path]) -> str:
    """Both halves of a new key, the secret one first; the public one."""
    public, secret = (half.decode() for half in zmq.curve_keypair())
    write(folder / f"{name}{SECRET}", public, secret, made)
    write(folder / f"{name}{PUBLIC}", public, None, made)
    return public


def write(file: Path, public: str, secret: str | None, made: list[Path]) -> None:
    """As `zmq.auth` has it, but never for a moment with a secret that others can read."""
    text = f"#   CURVE key of streamfuse: {'SECRET, show it to nobody' if secret else 'public'}\ncurve\n"
    text += f'    public-key = "{public}"\n' + (f'    secret-key = "{secret}"\n' if secret else "")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    made.append(file)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(text)


# ------------------------------------------------------------------------------------------------------------------ use


def serve(socket: zmq.Socket[bytes], folder: Path) -> None:
    """Let only clients in whose keys are in `folder/clients/`; call it before `bind`.

    The folder is read at each connection: a key that is added counts from the next one on, within a few seconds also
    for a client that was refused before. One that is removed keeps the connections that it has.

    Raises:
        ConfigError: a key is missing, damaged or open to others.
    """
    check_curve()
    public, secret = read_secret(folder / f"{SERVER}{SECRET}")
    check_allow_list(folder)
    domain = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32].encode()
    Gate.of(socket.context).ask(domain, AllowList(folder))
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.zap_domain = domain
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a gate nobody comes in; libzmq's default is everybody


def use(socket: zmq.Socket[bytes], folder: Path, name: str | None = None) -> None:
    """Connect as a client, and only to the server whose key is there; call it before `connect`.

    Args:
        socket: of a client.
        folder: holds `server.key` and `NAME.key_secret`.
        name: of the client; without one `client`, or else the only one that is there.

    Raises:
        ConfigError: a key is missing, damaged or open to others.
    """
    check_curve()
    if name is not None:
        check_name(name)
    if folder.is_dir() and others_may(folder, 0o022):
        raise ConfigError(f"{folder}: others may write to it, and so play the publisher: chmod go-w it")
    server = read_key(folder / f"{SERVER}{PUBLIC}")
    public, secret = read_secret(folder / f"{name or only_client(folder)}{SECRET}")
    socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = server, public, secret


def only_client(folder: Path) -> str:
    """Whose secret is there, besides the server's."""
    names = sorted({file.name.removesuffix(SECRET) for file in folder.glob(f"*{SECRET}")} - {SERVER})
    if CLIENT in names or not names:
        return CLIENT  # and if it is not there, reading it says so
    if len(names) > 1:
        raise ConfigError(f"{folder}: has keys of several clients ({', '.join(names)}); a folder for a client has one")
    return names[0]


def check_allow_list(folder: Path) -> None:
    clients = folder / CLIENTS
    if not clients.is_dir():
        raise ConfigError(f"{clients}: there is no such folder, which has the keys of who may connect; {HOW_TO}")
    if not os.access(clients, os.R_OK | os.X_OK):
        raise ConfigError(f"{clients}: this user may not read it, and so nobody could connect")
    for place in (folder, clients):
        if others_may(place, 0o022):
            raise ConfigError(f"{place}: others may write to it, and so let themselves in: chmod go-w it")


class AllowList:
    """Whether a key is in `folder/clients/` now. A file that is no key counts for nothing, and is told once."""

    def __init__(self, folder: Path) -> None:
        self._clients = folder.absolute() / CLIENTS
        self._told: set[Path] = set()

    def __str__(self) -> str:
        return str(self._clients)

    def __call__(self, public: bytes) -> bool:
        return any(self._read(file) == public for file in sorted(self._clients.glob(f"*{PUBLIC}")))

    def _read(self, file: Path) -> bytes | None:
        try:
            return read_key(file)
        except ConfigError as error:
            if file not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(file)
                log.warning("%s", error)
            return None


# ---------------------------------------------------------------------------------------------------------------- files


def read_key(file: Path) -> bytes:
    """The public half.

    Raises:
        ConfigError: it is missing, damaged, or can be replaced by others.
    """
    text, mode = read_text(file)
    if os.name == "posix" and mode & 0o022:
        raise ConfigError(f"{file}: others may write to it, and so put a key of theirs there: chmod go-w it")
    return half(text, "public", file)


def read_secret(file: Path) -> tuple[bytes, bytes]:
    """Both halves, public and secret, which fit.

    Raises:
        ConfigError: it is missing, damaged or open to others.
    """
    text, mode = read_text(file)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"{file}: others may read or write it, and it is secret: chmod 600 it")
    public, secret = half(text, "public", file), half(text, "secret", file)
    try:
        fits = zmq.curve_public(secret) == public
    except zmq.ZMQError:
        fits = False
    if not fits:
        raise ConfigError(f"{file}: is damaged, its two halves do not fit; {HOW_TO}")
    return public, secret


def half(text: str, wanted: str, file: Path) -> bytes:
    """Of a key, 40 characters of Z85 that stand for 32 bytes."""
    found = [value for which, value in LINE.findall(text) if which == wanted]
    try:
        if len(found) == 1 and len(z85.decode(found[0])) == 32:
            return str(found[0]).encode("ascii")
    except (ValueError, KeyError, struct.error):  # five characters can be more than 32 bits
        pass
    raise ConfigError(f"{file}: is damaged, there is no {wanted} key in it; {HOW_TO}")


def read_text(file: Path) -> tuple[str, int]:
    """What is in it, and its mode. Never waits, and never reads much, whatever somebody put there.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            mode = os.fstat(descriptor).st_mode
            content = os.read(descriptor, MOST_FILE_BYTES) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such key; {HOW_TO}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    return content.decode("ascii", "replace"), stat.S_IMODE(mode)


def others_may(path: Path, what: int) -> bool:
    """Whether the mode has one of these bits."""
    return os.name == "posix" and bool(path.stat().st_mode & what)
