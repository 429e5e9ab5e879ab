"""Keys: making and reading them, who is let in by them and who is not; with real sockets."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zmq
import zmq.auth

from pipeline.errors import ConfigError, OutputError
from streamfuse import keys, sockets
from streamfuse.gate import Gate
from tests.streamfuse.peers import FAILED, PATIENCE_MS, SUCCEEDED, Peer, dialled

ROOT = Path(__file__).resolve().parents[2]
AUTH, PROTOCOL = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
NO_DETAIL = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.make(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture(params=["tcp", "ipc"])
def publisher(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Publisher]:
    with Publisher(folder, "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path}/s") as made:
        yield made


class Publisher(Peer):
    """Has keys."""

    def __init__(self, folder: Path, address: str = "tcp://127.0.0.1:0") -> None:
        super().__init__(zmq.XPUB)
        keys.serve(self.socket, folder)
        self.address = sockets.bind(self.socket, address)

    def publish(self, *to: Peer) -> None:
        """A frame, that those get who have subscribed."""
        self.socket.send_multipart([b"topic", b"frame"])
        for peer in to:
            assert peer.receive() == [b"topic", b"frame"]


@contextmanager
def subscriber(address: str, folder: Path | None, name: str | None = None) -> Iterator[Peer]:
    """Connects, with keys or without."""
    with Peer(zmq.SUB) as peer:
        if folder is not None:
            keys.use(peer.socket, folder, name)
        sockets.connect(peer.socket, address)
        yield peer


def secrets_of(*folders: Path) -> list[str]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    texts = [file.read_text().partition("secret-key = ")[2] for file in files]
    return [text.strip().strip('"') for text in texts if text]


# ------------------------------------------------------------------------------------------------------------- sockets


def test_with_the_right_key_frames_come(publisher: Publisher, folder: Path) -> None:
    with subscriber(publisher.address, folder) as friend:
        assert publisher.receive() == [b"\x01"]
        publisher.publish(friend)
        assert friend.wait_for(SUCCEEDED | FAILED) == SUCCEEDED


def unknown_key(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    keys.use(stranger.socket, copy(folder, folder.with_name("unknown"), client=False))


def servers_own_public_key(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    """What everybody knows is no key to come in with."""
    stranger.socket.curve_serverkey = stranger.socket.curve_publickey = keys.read_key(folder / "server.key")
    stranger.socket.curve_secretkey = zmq.curve_keypair()[1]


def anothers_public_key(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    """On the list, but without its secret half."""
    stranger.socket.curve_serverkey = keys.read_key(folder / "server.key")
    stranger.socket.curve_publickey = keys.read_key(folder / "client.key")
    stranger.socket.curve_secretkey = zmq.curve_keypair()[1]


def another_servers_key(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    keys.make(folder.with_name("elsewhere"))
    keys.use(stranger.socket, folder.with_name("elsewhere"))


def no_key(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    pass


def password(publisher: Publisher, folder: Path, stranger: Peer) -> None:
    stranger.socket.plain_username, stranger.socket.plain_password = b"admin", b"admin"


STRANGERS: dict[Callable[[Publisher, Path, Peer], None], int] = {
    unknown_key: AUTH,
    servers_own_public_key: PROTOCOL,
    anothers_public_key: PROTOCOL,
    another_servers_key: PROTOCOL,
    no_key: PROTOCOL,
    password: PROTOCOL,
}


@pytest.mark.parametrize("prepare", STRANGERS, ids=lambda prepare: prepare.__name__)
def test_a_stranger_gets_nothing_and_disturbs_nobody(
    prepare: Callable[[Publisher, Path, Peer], None], publisher: Publisher, folder: Path
) -> None:
    with subscriber(publisher.address, folder) as friend, Peer(zmq.SUB) as stranger:
        assert publisher.receive() == [b"\x01"]
        publisher.wait_for(SUCCEEDED)
        prepare(publisher, folder, stranger)
        sockets.connect(stranger.socket, publisher.address)
        assert publisher.wait_for(SUCCEEDED | FAILED) == STRANGERS[prepare]
        publisher.publish(friend)
        assert stranger.has_nothing
        assert publisher.has_nothing  # not even that somebody subscribed


@pytest.mark.parametrize(
    "greeting",
    [
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32),
        b"\x01\x00\x01\x01",  # ZMTP 1.0, which has no security: no identity, then a subscription
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x02\x00\x00\x00\x01\x01",  # ZMTP 2.0, likewise
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["null", "zmtp1", "zmtp2", "http"],
)
def test_a_plaintext_client_is_put_out_and_told_nothing(greeting: bytes, folder: Path) -> None:
    with Publisher(folder) as publisher, subscriber(publisher.address, folder) as friend:
        assert publisher.receive() == [b"\x01"]
        with dialled(publisher.address) as raw:
            raw.sendall(greeting)
            publisher.publish(friend)
            answer = b""
            while more := received(raw):
                answer += more
        assert b"topic" not in answer
        assert publisher.has_nothing
        publisher.publish(friend)


def received(raw: socket.socket) -> bytes:
    try:
        return raw.recv(1000)
    except ConnectionResetError:
        return b""


def test_many_that_connect_and_say_nothing_keep_nobody_out(folder: Path) -> None:
    with Publisher(folder) as publisher, ExitStack() as stack:
        silent = [stack.enter_context(dialled(publisher.address)) for _ in range(50)]
        friend = stack.enter_context(subscriber(publisher.address, folder))
        assert publisher.receive() == [b"\x01"]
        publisher.publish(friend)
        for one in silent:  # each is put out
            while received(one):
                pass
        publisher.publish(friend)


def test_a_publisher_with_another_key_is_believed_nothing(folder: Path, tmp_path: Path) -> None:
    """Who puts up a publisher of his own in place of ours, even one that lets everybody in."""
    keys.make(tmp_path / "impostor")
    known = (folder / "clients" / "client.key").read_text()
    (tmp_path / "impostor" / "clients" / "client.key").write_text(known)
    with Publisher(tmp_path / "impostor") as impostor, subscriber(impostor.address, folder) as client:
        impostor.wait_for(FAILED)
        impostor.publish()
        assert client.wait_for(SUCCEEDED | FAILED) == NO_DETAIL
        assert client.has_nothing


def test_a_publisher_without_keys_is_believed_nothing(folder: Path) -> None:
    with Peer(zmq.XPUB) as plain:
        address = sockets.bind(plain.socket, "tcp://127.0.0.1:0")
        with subscriber(address, folder) as client:
            plain.wait_for(FAILED)
            plain.socket.send_multipart([b"topic", b"frame"])
            client.wait_for(FAILED)
            assert client.has_nothing


def test_who_is_put_on_the_list_comes_in_without_a_restart(publisher: Publisher, folder: Path) -> None:
    other = copy(folder, folder.with_name("other"), client=False)
    with subscriber(publisher.address, other) as client:
        publisher.wait_for(AUTH)
        (folder / "clients" / "other.key").write_text((other / "client.key").read_text())
        client.wait_for(SUCCEEDED)
        assert publisher.receive() == [b"\x01"]
        publisher.publish(client)


def test_who_is_taken_off_the_list_keeps_its_connection_and_gets_no_other(publisher: Publisher, folder: Path) -> None:
    with subscriber(publisher.address, folder) as client:
        assert publisher.receive() == [b"\x01"]
        (folder / "clients" / "client.key").unlink()
        publisher.wait_for(SUCCEEDED)
        publisher.publish(client)
        with subscriber(publisher.address, folder) as late:
            assert publisher.wait_for(SUCCEEDED | FAILED) == AUTH
            publisher.publish(client)
            assert late.has_nothing


def test_two_publishers_have_lists_of_their_own(folder: Path, tmp_path: Path) -> None:
    keys.make(tmp_path / "second")
    first_to_second = copy(tmp_path / "second", tmp_path / "mixed", client=False)
    (first_to_second / "client.key_secret").write_text((folder / "client.key_secret").read_text())
    with Publisher(folder) as first, Publisher(tmp_path / "second") as second, ExitStack() as stack:
        stranger = stack.enter_context(subscriber(second.address, first_to_second))
        assert second.wait_for(SUCCEEDED | FAILED) == AUTH
        ours = (first, folder), (second, tmp_path / "second")
        friends = [stack.enter_context(subscriber(server.address, place)) for server, place in ours]
        assert first.receive() == second.receive() == [b"\x01"]
        first.publish(friends[0])
        second.publish(friends[1])
        assert stranger.has_nothing


def test_rubbish_on_the_list_is_told_once_and_harms_nobody(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    clients = folder / "clients"
    (clients / "a-empty.key").write_text("")
    (clients / "b-binary.key").write_bytes(bytes(range(256)) * 100)
    (clients / "c-folder.key").mkdir()
    os.mkfifo(clients / "d-pipe.key")  # whoever reads it waits for ever
    (clients / "e-long.key").write_text("x" * 5000 + (clients / "client.key").read_text())
    (clients / "f-link.key").symlink_to("nowhere")
    (clients / "client.key").rename(clients / "z.key")
    allowed = keys.AllowList(folder)
    for _ in range(3):
        assert allowed(keys.read_key(folder / "client.key"))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 6
    assert all(" is damaged, " in line or "there is no such key" in line for line in told)
    with Publisher(folder) as publisher, subscriber(publisher.address, folder) as friend:
        assert publisher.receive() == [b"\x01"]
        publisher.publish(friend)


def test_without_a_gate_nobody_comes_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq's default is that everybody does who knows the server's public key."""

    class NoGate:
        def ask(self, domain: bytes, ask: object) -> None:
            pass

    monkeypatch.setattr(Gate, "of", lambda context: NoGate())
    with zmq.Context() as context, Peer(zmq.XPUB, context=context) as publisher:
        keys.serve(publisher.socket, folder)
        with subscriber(sockets.bind(publisher.socket, "tcp://127.0.0.1:0"), folder) as client:
            assert publisher.wait_for(SUCCEEDED | FAILED) == NO_DETAIL
            publisher.socket.send_multipart([b"topic", b"frame"])
            assert client.has_nothing


# ---------------------------------------------------------------------------------------------------------------- gate


def request(domain: bytes = b"here", key: bytes = bytes(32), **other: bytes) -> list[bytes]:
    """As libzmq asks; `other` in place of what is right."""
    parts = {"version": b"1.0", "id": b"7", "domain": domain, "address": b"10.0.0.9", "identity": b""}
    return list({**parts, "mechanism": b"CURVE", "key": key, **other}.values())


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Of a context of its own; asks nobody and lets all in at `here`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Gate.of(context)
    made.ask(b"here", lambda key: True)
    yield made
    context.term()


def test_the_gate_says_yes_to_who_is_welcome(gate: Gate) -> None:
    assert gate.answer(request())[:3] == [b"1.0", b"7", b"200"]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"1.0"],
        [b"1.0", b"7"],
        request()[:-1],
        [*request(), b"more"],
        request(domain=b"elsewhere"),
        request(domain=b""),
        request(version=b"2.0"),
        request(mechanism=b"NULL"),
        request(mechanism=b"PLAIN"),
        request(key=b""),
        request(key=bytes(31)),
        request(address=b"\xff\xfe"),
    ],
)
def test_the_gate_says_no_to_all_else_and_always_says_something(parts: list[bytes], gate: Gate) -> None:
    gate.ask(b"here", lambda key: False)
    answer = gate.answer(parts)
    assert len(answer) == 6
    assert (answer[1], answer[2]) == (parts[1] if len(parts) > 1 else b"", b"300")


@pytest.mark.parametrize("parts", [request()[:-1], request(domain=b"elsewhere"), request(mechanism=b"NULL")])
def test_the_gate_does_not_say_yes_because_it_says_yes_to_others(parts: list[bytes], gate: Gate) -> None:
    assert gate.answer(parts)[2] == b"300"


def test_a_list_that_breaks_lets_nobody_in_and_the_gate_goes_on(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def broken(key: bytes) -> bool:
        raise OSError("the disk is gone")

    gate.ask(b"broken", broken)
    assert gate.answer(request(domain=b"broken"))[2] == b"300"
    assert "a client is not let in: OSError: the disk is gone" in caplog.text
    assert gate.answer(request())[2] == b"200"


def test_strangers_cannot_fill_the_log(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    gate.ask(b"here", lambda key: False)
    for _ in range(100):
        gate.answer(request())
    assert [record.getMessage()[:38] for record in caplog.records] == ["a client from 10.0.0.9 was not let in:"]


def test_a_context_has_one_gate_which_ends_with_it_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    assert Gate.of(context) is Gate.of(context)
    ending = threading.Thread(target=context.term)
    ending.start()
    ending.join(PATIENCE_MS / 1000)
    assert not ending.is_alive()
    assert context not in Gate._all
    assert caplog.text == ""


def test_another_authenticator_in_the_program_is_told() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as other:
        other.bind("inproc://zeromq.zap.01")
        with pytest.raises(OutputError, match="has an authenticator of ZeroMQ already, and there can be only one"):
            Gate.of(context)


PUBLISHES_AND_ENDS = """
import sys, zmq
from pathlib import Path
from streamfuse import keys, sockets
socket = sockets.context().socket(zmq.XPUB)
keys.serve(socket, Path(sys.argv[1]))
sockets.bind(socket, "tcp://127.0.0.1:0")
socket.close(0)
"""


def test_keys_do_not_keep_a_program_from_ending(folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PUBLISHES_AND_ENDS, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_MS / 1000)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------------------------------------------------------- make


def test_secrets_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = keys.make(tmp_path / "a" / "keys")
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "keys"
    names = ["server.key_secret", "server.key", "client.key_secret", "client.key", "clients/client.key"]
    assert [str(file.relative_to(folder)) for file in made] == names
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (*made, folder, folder / "clients")}
    assert modes["server.key_secret"] == modes["client.key_secret"] == 0o600
    assert modes["keys"] == modes["clients"] == 0o700


def test_keys_are_read_by_pyzmq(folder: Path) -> None:
    public, secret = zmq.auth.load_certificate(folder / "client.key_secret")
    assert (public, secret) == keys.read_secret(folder / "client.key_secret")
    assert zmq.auth.load_certificate(folder / "client.key") == (public, None)
    assert zmq.auth.load_certificates(folder / "clients") == {public: True}


def test_keys_of_pyzmq_are_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "clients").mkdir()
    for name in ("server", "client"):
        zmq.auth.create_certificates(tmp_path, name)
        (tmp_path / f"{name}.key_secret").chmod(0o600)
    (tmp_path / "clients" / "client.key").write_bytes((tmp_path / "client.key").read_bytes())
    with Publisher(tmp_path) as publisher, subscriber(publisher.address, tmp_path) as client:
        assert publisher.receive() == [b"\x01"]
        publisher.publish(client)


def test_a_further_client_is_added_and_let_in(publisher: Publisher, folder: Path) -> None:
    server = (folder / "server.key_secret").read_bytes()
    made = keys.make(folder, "wall-2")
    assert [file.name for file in made] == ["wall-2.key_secret", "wall-2.key", "wall-2.key"]
    assert (folder / "server.key_secret").read_bytes() == server
    assert len(set(secrets_of(folder))) == 3
    with subscriber(publisher.address, folder, "wall-2") as client:
        assert publisher.receive() == [b"\x01"]
        publisher.publish(client)


@pytest.mark.parametrize("there", ["client.key", "client.key_secret", "clients/client.key"])
def test_a_key_is_never_written_over(there: str, folder: Path) -> None:
    for file in ("client.key", "client.key_secret", "clients/client.key"):
        if file != there:
            (folder / file).unlink()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    wanted = rf"{folder}/{there}: is there already, and a key is never written over; .*--client NAME"
    with pytest.raises(OutputError, match=wanted):
        keys.make(folder)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_broken_link_in_place_of_a_key_is_not_followed(tmp_path: Path) -> None:
    keys.make(tmp_path / "keys", "first")
    (tmp_path / "keys" / "client.key_secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is there already"):
        keys.make(tmp_path / "keys")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("half", ["server.key", "server.key_secret"])
def test_where_half_a_server_is_no_other_is_made(half: str, folder: Path) -> None:
    (folder / half).unlink()
    with pytest.raises(OutputError, match=r"is there without its other half; make clients' keys where the server's"):
        keys.make(folder, "new")
    assert not list(folder.glob("new*"))


def test_where_others_may_write_no_keys_are_made(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(OutputError, match=rf"{tmp_path}/keys: others may write to it.*chmod go-w it"):
        keys.make(tmp_path / "keys")
    assert not list((tmp_path / "keys").iterdir())


def test_when_the_disk_is_full_no_half_keys_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.open, iter(range(100))

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        if next(count) == 3:
            raise OSError(28, "No space left on device", str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(OutputError, match=r"client\.key: cannot be written: No space left on device"):
        keys.make(tmp_path / "keys")
    monkeypatch.undo()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("name", ["", "..", ".hidden", "-x", "a/b", "../x", "a b", "é", "x" * 65, "server", "Server"])
def test_a_client_has_a_name_that_is_a_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of a client"):
        keys.make(tmp_path / "keys", name)
    with pytest.raises(ConfigError, match="is no name of a client"), Peer(zmq.SUB) as peer:
        keys.use(peer.socket, tmp_path, name)
    assert not (tmp_path / "keys").exists()


# --------------------------------------------------------------------------------------------------------------- files


def copy(folder: Path, to: Path, client: bool = True) -> Path:
    """A folder for a client: the server's public key, and the client's own or a new one."""
    to.mkdir(mode=0o700)
    if not client:
        keys.make(to)
        (to / "server.key_secret").unlink()
        (to / "server.key").unlink()
    for name in ("server.key", *(("client.key_secret",) if client else ())):
        (to / name).write_bytes((folder / name).read_bytes())
        (to / name).chmod(0o600)
    return to


def serve(folder: Path) -> None:
    with Peer(zmq.XPUB) as peer:
        keys.serve(peer.socket, folder)


def use(folder: Path) -> None:
    with Peer(zmq.SUB) as peer:
        keys.use(peer.socket, folder)


def test_a_client_needs_only_its_secret_and_the_servers_public_key(folder: Path, tmp_path: Path) -> None:
    use(copy(folder, tmp_path / "client"))


def test_the_only_client_of_a_folder_needs_no_name(folder: Path, tmp_path: Path) -> None:
    place = copy(folder, tmp_path / "client")
    (place / "client.key_secret").rename(place / "wall.key_secret")
    use(place)
    (place / "other.key_secret").write_text("")
    with pytest.raises(ConfigError, match=r"has keys of several clients \(other, wall\); a folder for a client"):
        use(place)


def missing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_text("")


def cut(file: Path) -> None:
    file.write_text(file.read_text()[:-10])


def binary(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00" * 50)


def too_big(file: Path) -> None:
    file.write_text('public-key = "' + "#" * 40 + '"\nsecret-key = "' + "#" * 40 + '"\n')


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o700)


def pipe_instead(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


@pytest.mark.parametrize("spoil", [missing, empty, cut, binary, too_big, folder_instead, pipe_instead])
@pytest.mark.parametrize(
    ("file", "do"), [("server.key_secret", serve), ("client.key_secret", use), ("server.key", use)]
)
def test_a_missing_or_damaged_key_is_told_in_one_line(
    spoil: Callable[[Path], None], file: str, do: Callable[[Path], None], folder: Path
) -> None:
    secrets = secrets_of(folder)
    spoil(folder / file)
    with pytest.raises(ConfigError, match=rf"^{folder}/{file}: .*`python run.py keygen DIR` makes keys\Z") as caught:
        do(folder)
    assert not any(secret[:8] in str(caught.value) for secret in secrets)


def test_no_file_is_left_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = os.open

    def noting(path: Path, flags: int) -> int:
        opened.append(real(path, flags))
        return opened[-1]

    (folder / "server.key").unlink()
    (folder / "server.key").mkdir()
    monkeypatch.setattr(os, "open", noting)
    with pytest.raises(ConfigError):
        keys.read_key(folder / "server.key")
    keys.read_key(folder / "client.key")
    assert len(opened) == 2
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize(("file", "do"), [("server.key_secret", serve), ("client.key_secret", use)])
def test_halves_that_do_not_fit_are_told(file: str, do: Callable[[Path], None], folder: Path) -> None:
    text = (folder / file).read_text()
    other = zmq.curve_keypair()[1].decode()
    (folder / file).write_text(text[: text.index("secret-key")] + f'secret-key = "{other}"\n')
    with pytest.raises(ConfigError, match=r"is damaged, its two halves do not fit") as caught:
        do(folder)
    assert other not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
@pytest.mark.parametrize(("file", "do"), [("server.key_secret", serve), ("client.key_secret", use)])
def test_a_secret_that_others_may_read_is_refused(
    mode: int, file: str, do: Callable[[Path], None], folder: Path
) -> None:
    (folder / file).chmod(mode)
    with pytest.raises(ConfigError, match=rf"{file}: others may read or write it, and it is secret: chmod 600 it"):
        do(folder)


@pytest.mark.parametrize("place", [".", "clients"])
def test_a_list_that_others_may_write_to_is_refused(place: str, folder: Path) -> None:
    (folder / place).chmod(0o770)
    with pytest.raises(ConfigError, match=r"others may write to it, and so let themselves in: chmod go-w it"):
        serve(folder)


@pytest.mark.parametrize(("place", "mode"), [(".", 0o770), (".", 0o702), ("server.key", 0o664), ("server.key", 0o646)])
def test_a_client_whose_publisher_others_can_exchange_is_told(place: str, mode: int, folder: Path) -> None:
    (folder / place).chmod(mode)
    with pytest.raises(ConfigError, match=rf"{folder / place}: others may write to it, and so .*: chmod go-w it"):
        use(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_key_on_the_list_that_others_may_write_over_lets_nobody_in(
    mode: int, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "clients" / "client.key"
    public, allowed = keys.read_key(file), keys.AllowList(folder)
    assert allowed(public)
    file.chmod(mode)
    assert not allowed(public)
    assert not allowed(public)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: others may write to it, and so put a key of theirs there: chmod go-w it"
    ]


def test_a_folder_without_a_list_is_told(folder: Path) -> None:
    (folder / "clients" / "client.key").unlink()
    serve(folder)  # an empty list is one
    (folder / "clients").rmdir()
    with pytest.raises(ConfigError, match=r"keys/clients: there is no such folder, which has the keys of who may"):
        serve(folder)
