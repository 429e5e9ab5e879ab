"""output.web: settings, opening, closing, and what may be changed."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from typing import Any

import pytest

import nodes
from nodes.output.web import WebOutput, address_of
from pipeline.config import make_node
from pipeline.errors import ConfigError, OutputError
from tests.nodes.output.web_fakes import FakeRun, Watcher, get, picture, place, post, served, wait_for

TOKEN = "correct-horse-battery"


def made(**settings: Any) -> WebOutput:
    """From YAML."""
    node = make_node("web", {"type": "output.web", **settings}, nodes.TYPES)
    assert isinstance(node, WebOutput)
    return node


def test_alone_it_shows_what_is_fused() -> None:
    node = made(inputs="fuse")
    assert (node.inputs(), node.reference, node.host, node.port) == (("fused",), "fused", "127.0.0.1", 8080)


def test_its_views_are_its_inputs_and_the_first_is_the_reference() -> None:
    node = made(views=["fused", "infrared", "visible"])
    assert (node.inputs(), node.reference, node.partial) == (("fused", "infrared", "visible"), "fused", True)


@pytest.mark.parametrize("views", [[], ["a", "a"], ["a/b"], [""], ["a b"]])
def test_views_have_names_that_can_stand_in_an_address(views: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"'views' is .*at least one name of letters, digits"):
        made(views=views)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "camera.local", "127.0.0.1.evil.org"])
def test_others_are_let_in_only_with_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match=r"'host' is .*which others can reach: set a 'token' too.*secrets") as caught:
        made(host=host)
    assert "\n" not in str(caught.value)
    assert made(host=host, token=TOKEN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    assert made(host=host).token is None


@pytest.mark.parametrize("token", ["fifteen-letters", "has spaces in it, many", "naïve-but-long-enough"])
def test_a_weak_token_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(ConfigError, match=r"'token' has \d+ characters; it needs at least 16") as caught:
        made(token=token)
    assert token not in str(caught.value)


def test_a_token_of_digits_is_one() -> None:
    assert made(token=12345678901234567890).token == "12345678901234567890"


def test_a_port_in_use_is_told_in_one_line() -> None:
    with served() as first:
        second = WebOutput(port=place(first)[1])
        second.name = "web"
        with pytest.raises(OutputError, match=r"^web: cannot listen on 127.0.0.1 port \d+: another program does; .*\Z"):
            second.open({})
        second.close()
        assert get(first, "/healthz").status == 200


@pytest.mark.parametrize(
    ("host", "message"),
    [("203.0.113.7", "no such address; set another 'host'"), ("nowhere.invalid", "there is no host 'nowhere.invalid'")],
)
def test_a_host_that_is_not_this_machine_is_told_in_one_line(host: str, message: str) -> None:
    node = WebOutput(port=0, host=host, token=TOKEN)
    node.name = "web"
    with pytest.raises(OutputError, match=message):
        node.open({})
    node.close()


def test_a_port_that_needs_rights_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    class Refused(socket.socket):
        pass

    monkeypatch.setattr(Refused, "bind", bind, raising=False)
    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(OutputError, match="port 80: not allowed; set a 'port' of 1024 or more"):
        WebOutput(port=80).open({})


def test_a_free_port_is_taken_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with served() as node:
        assert node.address is not None
        assert node.address.startswith("http://127.0.0.1:")
        assert place(node)[1] > 0
        assert node.address in caplog.text
    assert node.address is None


def test_an_address_is_one_that_can_be_opened() -> None:
    assert address_of("::1", 80) == "http://[::1]:80"
    assert address_of("0.0.0.0", 80) == f"http://{socket.gethostname()}:80"


def test_the_page_and_all_it_needs_come_from_here_alone() -> None:
    with served() as node:
        page = get(node, "/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        texts = [page.text]
        for path, kind in (("/page.css", "text/css"), *((f"/{n}.js", "text/javascript") for n in SCRIPTS)):
            answer = get(node, path)
            assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
            texts.append(answer.text)
        assert not any("://" in text for text in texts)
        assert get(node, "/icon.svg").headers["Content-Type"].startswith("image/svg+xml")
        for script in SCRIPTS:
            assert any(f"/{script}.js" in text for text in texts)


SCRIPTS = ("page", "controls", "plot", "stream")


def test_it_closes_with_clients_connected(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.active_count()
    with served() as node:
        node.process(fused=picture())
        idle, waiting = http.client.HTTPConnection(*place(node)), Watcher(node)
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"alive\n"
        assert waiting.next().sequence == 0
        stuck = Watcher(node, buffer=4096)
        node.process(fused=picture(1, size=(640, 480)))
        node.close()
        assert waiting.ended()
        assert stuck.ended()
        for client in (idle, waiting, stuck):
            client.close()
    assert "did not stop" not in caplog.text
    wait_for(lambda: threading.active_count() == before)


def test_it_opens_again_after_it_was_closed() -> None:
    with served() as node:
        node.close()
        node.close()
        node.open({})
        node.process(fused=picture(3))
        with Watcher(node) as watcher:
            assert watcher.next().sequence == 3


def test_frames_after_the_server_has_gone_do_no_harm() -> None:
    with served() as node:
        with Watcher(node):
            pass
        assert node._server is not None
        assert node._server.stop(patience_seconds=20)
        node._views["fused"].watchers = 1
        node.process(fused=picture())


def test_views_without_a_frame_are_left_as_they_are() -> None:
    with served(views=("fused", "infrared")) as node:
        node.process(infrared=picture(1), fused=picture(1))
        node.process(fused=picture(2))
        node.process(infrared=picture(3))
        assert get(node, "/api/state").json["views"].keys() == {"fused", "infrared"}
        for view, number in (("fused", 2), ("infrared", 3)):
            with Watcher(node, view) as watcher:
                assert watcher.next().sequence == number


# What may be changed:


def test_controls_are_listed_with_their_limits_and_values() -> None:
    run = FakeRun()
    run.own["web"] = {}
    with served(run) as node:
        controls = get(node, "/api/controls").json
    assert controls.keys() == {"fuse", "record"}  # a node without any is not there
    assert controls["fuse"]["offset_ms"] == {
        **{"kind": "number", "label": "Infrared offset", "value": 0, "unit": "ms", "choices": []},
        **{"least": -500, "most": 500, "step": 1},
    }
    assert controls["fuse"]["palette"]["choices"] == ["white-hot", "black-hot", "ironbow"]
    assert controls["record"]["cut"]["least"] is None  # JSON has no infinity


@pytest.mark.parametrize(
    ("node", "control", "value"),
    [("fuse", "blend", 0.25), ("fuse", "palette", "ironbow"), ("record", "recording", True), ("record", "cut", None)],
)
def test_a_wish_reaches_the_run(node: str, control: str, value: Any) -> None:
    run = FakeRun()
    with served(run) as page:
        assert post(page, {"node": node, "control": control, "value": value}).status == 200
    assert run.changes == [(node, control, value)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"node": "fuse", "control": "blend", "value": 2}, "Blend is 2; legal is 0 to 1"),
        ({"node": "fuse", "control": "blend", "value": "NaN"}, "Blend is 'NaN'; legal is 0 to 1"),
        (b'{"node": "fuse", "control": "blend", "value": NaN}', "Blend is nan; legal is 0 to 1"),
        (b'{"node": "fuse", "control": "blend", "value": 1' + b"0" * 400 + b"}", "legal is 0 to 1"),
        ({"node": "fuse", "control": "palette", "value": "ironbw"}, "Did you mean 'ironbow'?"),
        ({"node": "fuse", "control": "nothing", "value": 1}, "has no control 'nothing'"),
        ({"node": "fuse"}, "'node' and 'control' are names"),
        ({"node": 1, "control": ["x"]}, "'node' and 'control' are names"),
        ([1], "no JSON object"),
        (b"{", "no JSON object"),
        (b"[" * 4000, "no JSON object"),
        (b"\xff\xfe", "no JSON object"),
        (b"", "no JSON object"),
    ],
)
def test_a_wish_that_is_none_is_answered_in_one_line(wanted: Any, message: str) -> None:
    run = FakeRun()
    with served(run) as node:
        answer = post(node, wanted)
    assert (answer.status, answer.text.count("\n")) == (400, 1 if answer.text.endswith("\n") else 0)
    assert message in answer.text
    assert run.changes == []


def test_a_wish_as_long_as_a_book_is_not_read() -> None:
    with served() as node:
        assert post(node, b'{"node": "' + b"x" * 5000 + b'"}').status == 413


def test_a_fault_of_a_node_is_told_in_one_line_and_the_page_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    run = FakeRun()
    run.own["fuse"]["blend"] = None  # type: ignore[assignment]
    with served(run) as node:
        answer = get(node, "/api/controls")
        assert (answer.status, answer.text.count("\n")) == (500, 1)
        assert get(node, "/healthz").status == 200
    assert "/api/controls of the page failed" in caplog.text
    assert "Traceback" not in caplog.text


def test_what_is_not_there_is_said() -> None:
    with served() as node:
        for path in ("/stream/visble.mjpg", "/snapshot/visble.png"):
            answer = get(node, path)
            assert (answer.status, answer.text) == (404, "there is no view 'visble'; there is: fused\n")
        for path in ("/nothing", "/snapshot/fused.gif", "/../pyproject.toml", "/web.py"):
            assert get(node, path).status == 404
