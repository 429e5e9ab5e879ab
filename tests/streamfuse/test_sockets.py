"""Addresses, who can reach them, binding and connecting; with real sockets."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket as system
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline import wire
from pipeline.errors import ConfigError, OutputError
from streamfuse import ipc, sockets
from tests.streamfuse.peers import DISCONNECTED, FAILED, PATIENCE_MS, Peer, dialled, shake_hands


@pytest.fixture
def publisher() -> Iterator[Peer]:
    with Peer(zmq.XPUB) as peer:
        yield peer


@pytest.fixture
def subscriber() -> Iterator[Peer]:
    with Peer(zmq.SUB) as peer:
        yield peer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "s"


def arrives(publisher: Peer, subscriber: Peer) -> bool:
    """Whether what is published is received."""
    while publisher.receive() != [b"\x01"]:
        pass
    publisher.socket.send_multipart([b"topic", b"frame"])
    return subscriber.receive() == [b"topic", b"frame"]


def left_behind(path: Path, kind: int = system.SOCK_STREAM) -> None:
    """A socket's file of a program that was killed."""
    with system.socket(system.AF_UNIX, kind) as dead:
        dead.bind(str(path))


# ------------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:5555",
        "tcp://*:5555",
        "tcp://fusion-box.local:1",
        "tcp://[::1]:65535",
        "tcp://[fe80::1%eth0]:5555",
        "tcp://localhost:0",
        "ipc:///run/streamfuse/fused",
        "ipc://fused.ipc",
    ],
)
def test_an_address_of_tcp_or_ipc_is_one(address: str) -> None:
    sockets.check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "5555",
        "127.0.0.1:5555",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://:5555",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:٥٥٥٥",
        "tcp://::1:5555",
        "tcp://[::g]:5555",
        "tcp://[1.2.3.4]:5555",
        "tcp://a b:5555",
        "tcp://127.0.0.1:5555/path",
        "tcp://127.0.0.1:5555\n",
        "tcp://10.0.0.1:1;127.0.0.1:5555",
        "TCP://127.0.0.1:5555",
        "udp://127.0.0.1:5555",
        "inproc://frames",
        "epgm://eth0;239.0.0.1:5555",
        "rtsp://camera/stream",
    ],
)
def test_what_is_none_is_told_in_one_line_with_what_is_legal(address: str) -> None:
    with pytest.raises(ConfigError, match=r"legal is tcp://HOST:PORT.*or ipc://PATH") as caught:
        sockets.check_address(address)
    assert "\n" not in str(caught.value)


def test_there_are_65536_ports() -> None:
    with pytest.raises(ConfigError, match="there is no port 65536; legal is 0 to 65535"):
        sockets.check_address("tcp://127.0.0.1:65536")


def test_the_password_of_an_address_of_another_kind_is_not_told() -> None:
    with pytest.raises(ConfigError, match=r"'rtsp://\.\.\.@camera/stream' is none") as caught:
        sockets.check_address("rtsp://admin:1@3\n4@camera/stream")
    assert "admin" not in str(caught.value)


@pytest.mark.parametrize("address", ["admin:x7@host:1", "tcp:admin:x7@host:1", "tcp://admin:x://7@host:1"])
def test_a_password_in_an_address_that_is_written_wrong_is_not_told(address: str) -> None:
    with pytest.raises(ConfigError, match=r"\.\.\.@host:") as caught:
        sockets.check_address(address)
    assert not re.search("admin|x7|x:|7@", str(caught.value))


@pytest.mark.parametrize("path", ["", "*", "@abstract", "a\0b", "a\nb", "\ud800"])
def test_a_path_that_is_no_file_or_has_no_mode_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="give the path of a file") as caught:
        sockets.check_address(f"ipc://{path}")
    assert "\n" not in str(caught.value)


def test_a_path_is_as_long_as_the_system_allows_in_bytes() -> None:
    sockets.check_address(f"ipc:///{'x' * 106}")
    sockets.check_address(f"ipc:///{'é' * 53}")
    for path in ("x" * 107, "é" * 54):
        with pytest.raises(ConfigError, match=r"the path has 10[89] bytes; legal are up to 107: take a shorter folder"):
            sockets.check_address(f"ipc:///{path}")


def test_a_path_of_the_longest_length_can_be_bound(publisher: Peer, tmp_path: Path) -> None:
    room = ipc.MOST_PATH_BYTES - len(str(tmp_path)) - 1
    if room < 1:
        pytest.skip("the folder of the tests has too long a path")
    assert sockets.bind(publisher.socket, f"ipc://{tmp_path}/{'x' * room}")


# ------------------------------------------------------------------------------------------------------------- exposure

LOCAL = ["tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://LocalHost:1", "tcp://[::1]:1", "ipc://x"]
EXPOSED = [
    "tcp://*:1",
    "tcp://0.0.0.0:1",
    "tcp://0:1",
    "tcp://[::]:1",
    "tcp://192.168.1.5:1",
    "tcp://camera.local:1",
    "tcp://127.0.0.1.evil.org:1",
    "tcp://localhost.evil.org:1",
    "tcp://127.evil.org:1",
    "tcp://lo:1",
    "tcp://eth0:1",
    "tcp://[fe80::1%lo]:1",
    "tcp://[::ffff:10.0.0.1]:1",
]


@pytest.mark.parametrize("address", LOCAL)
def test_loopback_and_ipc_are_this_machine_alone(address: str) -> None:
    assert sockets.is_local(address)
    sockets.check_exposure(address, None, False, pytest.fail)


@pytest.mark.parametrize("address", EXPOSED)
def test_without_keys_an_address_that_others_reach_is_refused(address: str) -> None:
    assert not sockets.is_local(address)
    with pytest.raises(ConfigError, match=r"others can reach: set 'keys' .*run.py keygen DIR.* or 'insecure: true'"):
        sockets.check_exposure(address, None, False, pytest.fail)


@pytest.mark.parametrize("address", EXPOSED)
def test_it_is_open_when_that_is_wanted_and_said_loudly(address: str) -> None:
    said: list[str] = []
    sockets.check_exposure(address, None, True, said.append)
    assert len(said) == 1
    assert said[0].startswith(f"INSECURE: {address} has no keys")


def test_with_keys_others_may_reach_it(tmp_path: Path) -> None:
    sockets.check_exposure("tcp://*:1", tmp_path, False, pytest.fail)


# ------------------------------------------------------------------------------------------------------------------ tcp


def test_a_process_has_one_context() -> None:
    assert sockets.context() is sockets.context()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_port_is_found_and_told(host: str, publisher: Peer, subscriber: Peer) -> None:
    address = sockets.bind(publisher.socket, f"tcp://{host}:0")
    assert address.startswith("tcp://127.0.0.1:")
    assert int(address.rpartition(":")[2]) > 0
    sockets.connect(subscriber.socket, address.replace("127.0.0.1", host))
    assert arrives(publisher, subscriber)


def test_ipv6_works_where_the_machine_has_it(publisher: Peer, subscriber: Peer) -> None:
    try:
        with system.socket(system.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    sockets.connect(subscriber.socket, sockets.bind(publisher.socket, "tcp://[::1]:0"))
    assert arrives(publisher, subscriber)


def test_a_port_in_use_is_told_in_one_line_and_its_owner_goes_on(publisher: Peer, subscriber: Peer) -> None:
    address = sockets.bind(publisher.socket, "tcp://127.0.0.1:0")
    with Peer(zmq.XPUB) as second:
        wanted = rf"^{address}: cannot listen there: another program does; end it, or take another port.*\Z"
        with pytest.raises(OutputError, match=wanted):
            sockets.bind(second.socket, address)
        assert OutputError.exit_code == 5
        sockets.connect(subscriber.socket, address)
        assert arrives(publisher, subscriber)


def test_an_address_of_another_machine_cannot_be_bound(publisher: Peer) -> None:
    for host in ("192.0.2.1", "no-such-interface"):  # RFC 5737: of nobody
        with pytest.raises(OutputError, match="this machine has no such address; give one that it has, as a number"):
            sockets.bind(publisher.socket, f"tcp://{host}:5555")


def test_a_port_that_is_not_allowed_is_told() -> None:
    assert sockets.why_not(zmq.ZMQError(errno.EACCES)) == "not allowed; take a port of 1024 or more"


@pytest.mark.parametrize("address", ["tcp://*:5555", "tcp://127.0.0.1:0"])
def test_what_only_a_publisher_can_have_is_no_address_to_connect_to(address: str, subscriber: Peer) -> None:
    with pytest.raises(ConfigError, match="one can bind that, but not connect to it; give a host and a port"):
        sockets.connect(subscriber.socket, address)


def test_after_unbind_the_address_is_free(publisher: Peer, subscriber: Peer) -> None:
    address = sockets.bind(publisher.socket, "tcp://127.0.0.1:0")
    sockets.unbind(publisher.socket, address)
    sockets.unbind(publisher.socket, address)  # twice is no harm
    with Peer(zmq.XPUB) as second:
        bind_when_free(second, address)
        sockets.connect(subscriber.socket, address)
        assert arrives(second, subscriber)


def bind_when_free(peer: Peer, address: str) -> None:
    """A thread of libzmq's closes what listened, a moment later."""
    for _ in range(1000):
        try:
            sockets.bind(peer.socket, address)
            return
        except OutputError:
            threading.Event().wait(0.01)
    raise AssertionError("the port did not get free")


def test_a_subscriber_comes_back_after_another_program_had_the_port(subscriber: Peer) -> None:
    with system.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        sockets.connect(subscriber.socket, address)
        connection, _ = other.accept()
        with connection:
            connection.sendall(b"\xff" * 64)  # begins as ZMTP does, and is none
            subscriber.wait_for(FAILED)
    with Peer(zmq.XPUB) as publisher:
        bind_when_free(publisher, address)
        sockets.reconnect(subscriber.socket, address)
        assert arrives(publisher, subscriber)


# ----------------------------------------------------------------------------------------------------------------- tune


def test_all_sockets_close_at_once_notice_the_dead_and_take_no_more_than_a_frame(publisher: Peer) -> None:
    sockets.tune(publisher.socket)
    wanted = {zmq.LINGER: 0, zmq.HANDSHAKE_IVL: 5000, zmq.HEARTBEAT_IVL: 2000, zmq.MAXMSGSIZE: wire.MOST_PAYLOAD_BYTES}
    assert {option: publisher.socket.getsockopt(option) for option in wanted} == wanted


def test_who_sends_more_than_allowed_is_put_out() -> None:
    with Peer(zmq.ROUTER, most_bytes=1000) as bound, Peer(zmq.DEALER) as greedy, Peer(zmq.DEALER) as modest:
        address = sockets.bind(bound.socket, "tcp://127.0.0.1:0")
        sockets.connect(greedy.socket, address)
        greedy.socket.send(bytes(1001))
        bound.wait_for(DISCONNECTED)
        sockets.connect(modest.socket, address)
        modest.socket.send(bytes(1000))
        assert bound.receive()[1:] == [bytes(1000)]


def test_who_says_that_a_huge_message_comes_is_put_out_before_it_does() -> None:
    with Peer(zmq.ROUTER, most_bytes=1000) as bound:
        with dialled(sockets.bind(bound.socket, "tcp://127.0.0.1:0")) as raw:
            shake_hands(raw, b"DEALER")
            raw.sendall(b"\x02" + (1 << 60).to_bytes(8, "big"))  # a long frame of so many bytes
            bound.wait_for(DISCONNECTED)
        assert bound.has_nothing


def test_who_connects_and_says_nothing_is_put_out(publisher: Peer) -> None:
    with dialled(sockets.bind(publisher.socket, "tcp://127.0.0.1:0")) as silent:
        while silent.recv(1000):  # what libzmq says at first, and then the end
            pass


# ------------------------------------------------------------------------------------------------------------------ ipc


def test_only_this_user_can_open_an_ipc_file_whatever_the_umask(
    publisher: Peer, subscriber: Peer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    listen = system.socket.listen

    def look(self: system.socket, backlog: int) -> None:
        seen.append(file.stat().st_mode)
        listen(self, backlog)

    monkeypatch.setattr(system.socket, "listen", look)
    before = os.umask(0)
    try:
        address = sockets.bind(publisher.socket, f"ipc://{file}")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(mode) for mode in (*seen, file.stat().st_mode)]
    assert modes == [0o600, 0o600]  # the first is before anybody can connect
    sockets.connect(subscriber.socket, address)
    assert arrives(publisher, subscriber)


def test_an_ipc_file_is_removed_and_can_be_made_anew(publisher: Peer, subscriber: Peer, file: Path) -> None:
    address = sockets.bind(publisher.socket, f"ipc://{file}")
    sockets.unbind(publisher.socket, address)
    assert not file.exists()
    sockets.bind(publisher.socket, address)
    sockets.connect(subscriber.socket, address)
    assert arrives(publisher, subscriber)


def test_a_live_ipc_file_is_not_stolen(publisher: Peer, subscriber: Peer, file: Path) -> None:
    address = sockets.bind(publisher.socket, f"ipc://{file}")
    with Peer(zmq.XPUB) as thief:
        wanted = rf"^{address}: cannot listen there: another program does; end it, or take another path\Z"
        with pytest.raises(OutputError, match=wanted):
            sockets.bind(thief.socket, address)
        sockets.unbind(thief.socket, "ipc://elsewhere")
        sockets.connect(subscriber.socket, address)
        assert arrives(publisher, subscriber)


def test_an_ipc_file_with_more_waiting_than_its_program_takes_is_live(publisher: Peer, file: Path) -> None:
    with system.socket(system.AF_UNIX) as busy, system.socket(system.AF_UNIX) as first:
        busy.bind(str(file))
        busy.listen(0)
        first.connect(str(file))
        with pytest.raises(OutputError, match="another program does"):
            sockets.bind(publisher.socket, f"ipc://{file}")
        assert file.exists()


def test_a_socket_of_another_kind_is_not_taken(publisher: Peer, file: Path) -> None:
    with system.socket(system.AF_UNIX, system.SOCK_DGRAM) as logger:
        logger.bind(str(file))
        with pytest.raises(OutputError, match="another program does"):
            sockets.bind(publisher.socket, f"ipc://{file}")
        assert file.exists()


def test_an_ipc_file_that_was_left_behind_is_taken_over(publisher: Peer, subscriber: Peer, file: Path) -> None:
    left_behind(file)
    sockets.connect(subscriber.socket, sockets.bind(publisher.socket, f"ipc://{file}"))
    assert arrives(publisher, subscriber)


def test_of_several_that_start_at_once_one_gets_the_file(file: Path) -> None:
    left_behind(file)
    peers, won, lost, start = [Peer(zmq.XPUB) for _ in range(8)], [], [], threading.Barrier(8)

    def run(peer: Peer) -> None:
        start.wait(PATIENCE_MS / 1000)
        try:
            sockets.bind(peer.socket, f"ipc://{file}")
            won.append(peer)
        except OutputError:
            lost.append(peer)

    threads = [threading.Thread(target=run, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Peer(zmq.SUB) as subscriber:
        sockets.connect(subscriber.socket, f"ipc://{file}")
        assert (len(won), len(lost)) == (1, 7)
        assert arrives(won[0], subscriber)
    for peer in peers:
        peer.__exit__(None, None, None)


@pytest.mark.parametrize("what", ["file", "folder", "link", "broken link"])
def test_what_is_no_socket_is_never_deleted(what: str, publisher: Peer, file: Path) -> None:
    target = file.with_name("precious")
    if what == "file":
        file.write_text("precious")
    elif what == "folder":
        file.mkdir()
    else:
        if what == "link":
            left_behind(target)
        file.symlink_to(target)
    before = file.lstat()
    with pytest.raises(OutputError, match=r"that is a file and no socket; remove it, or take another path\Z"):
        sockets.bind(publisher.socket, f"ipc://{file}")
    assert file.lstat().st_ino == before.st_ino
    assert target.exists() == (what == "link")


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_missing_folder_is_told(folder: str, publisher: Peer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / folder
    with pytest.raises(OutputError, match=rf"there is no folder {place}; make it first\Z"):
        sockets.bind(publisher.socket, f"ipc://{place}/s")


def test_a_folder_that_cannot_be_written_is_told(publisher: Peer, tmp_path: Path) -> None:
    folder = tmp_path
    if os.geteuid() == 0:  # who may write everywhere but there
        folder = Path("/sys")
        if not folder.is_dir():
            pytest.skip("this user may write everywhere")
    else:
        folder.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=rf"not allowed; take a folder that you may write to, not {folder}\Z"):
            sockets.bind(publisher.socket, f"ipc://{folder}/s")
    finally:
        if folder == tmp_path:
            folder.chmod(0o700)


def test_a_folder_that_somebody_keeps_locked_keeps_nobody_out(
    publisher: Peer, subscriber: Peer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can look into it can do that."""
    monkeypatch.setattr(ipc, "LOCK_PATIENCE_S", 0.05)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        sockets.connect(subscriber.socket, sockets.bind(publisher.socket, f"ipc://{file}"))
        assert arrives(publisher, subscriber)
        with Peer(zmq.XPUB) as other, pytest.raises(OutputError, match=r"another program does"):
            sockets.bind(other.socket, f"ipc://{file}")
    finally:
        os.close(descriptor)


def test_another_programs_file_is_not_removed_at_the_end(publisher: Peer, subscriber: Peer, file: Path) -> None:
    address = sockets.bind(publisher.socket, f"ipc://{file}")
    file.unlink()  # by somebody who tidies up
    with Peer(zmq.XPUB) as other:
        sockets.bind(other.socket, address)
        sockets.unbind(publisher.socket, address)
        sockets.connect(subscriber.socket, address)
        assert arrives(other, subscriber)
