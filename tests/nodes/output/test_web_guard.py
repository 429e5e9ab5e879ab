"""Who may see and change what on the page of output.web."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http.cookies import SimpleCookie

import pytest

from nodes.output.web import WebOutput
from tests.nodes.output.web_fakes import FakeRun, get, picture, place, post, served

TOKEN = "correct-horse-battery"
WISH = {"node": "fuse", "control": "blend", "value": 0.25}
PATHS = ["/", "/page.js", "/api/state", "/api/controls", "/api/history", "/metrics", "/readyz", "/stream/fused.mjpg"]


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def page(run: FakeRun) -> Iterator[WebOutput]:
    """For this machine alone."""
    with served(run) as node:
        yield node


@pytest.fixture
def open_page(run: FakeRun) -> Iterator[WebOutput]:
    """On all addresses, with a token."""
    with served(run, host="0.0.0.0", token=TOKEN, names=("Night.Example.org",)) as node:
        node.process(fused=picture())
        yield node


@pytest.mark.parametrize("path", [*PATHS, "/snapshot/fused.png", "/nothing"])
def test_without_the_token_nothing_is_shown(open_page: WebOutput, path: str) -> None:
    for headers in (
        *({}, {"Authorization": "Bearer wrong-horse-battery"}, {"Authorization": f"Basic {TOKEN}"}),
        *({"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Cookie": f"streamfuse_{place(open_page)[1]}={TOKEN}"}),
    ):
        answer = get(open_page, path, headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="streamfuse"')
        assert "?token=TOKEN" in answer.text
        assert answer.headers["Set-Cookie"] is None
    for query in ("?token=", "?token=wrong-horse-battery", "?token=%ff%ed%a0%80", f"?Token={TOKEN}"):
        assert get(open_page, path + query).status == 401


def test_a_wish_needs_the_token(open_page: WebOutput, run: FakeRun) -> None:
    assert post(open_page, WISH).status == 401
    assert run.changes == []
    assert post(open_page, WISH, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert len(run.changes) == 1


def test_being_alive_is_no_secret(open_page: WebOutput) -> None:
    assert get(open_page, "/healthz").status == 200


def test_the_token_opens_everything(open_page: WebOutput) -> None:
    for path in PATHS[:-1]:
        assert get(open_page, path, {"Authorization": f"bearer {TOKEN}"}).status == 200


def test_a_token_in_the_address_is_needed_once(open_page: WebOutput) -> None:
    answer = get(open_page, f"/?token={TOKEN}")
    assert answer.status == 200
    assert TOKEN not in answer.text
    [(name, cookie)] = SimpleCookie(answer.headers["Set-Cookie"]).items()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert TOKEN not in cookie.value
    again = get(open_page, "/api/state", {"Cookie": f"{name}={cookie.value}"})
    assert (again.status, again.headers["Set-Cookie"]) == (200, None)


def test_the_token_is_in_no_log(
    open_page: WebOutput, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    get(open_page, f"/?token={TOKEN}")
    get(open_page, f"/nothing?token={TOKEN}")
    get(open_page, "/api/state", {"Authorization": f"Bearer {TOKEN}"})
    open_page.close()
    open_page.open({})
    out, err = capfd.readouterr()
    assert open_page.address in caplog.text
    assert TOKEN not in caplog.text + out + err + str(open_page.report())


def test_a_token_is_asked_for_on_this_machine_too_if_there_is_one() -> None:
    with served(token=TOKEN) as node:
        assert get(node, "/api/state").status == 401


# Names: who makes a name of their own point here must not come in by a visitor's browser.


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"])
def test_names_of_this_machine_are_let_in(page: WebOutput, host: str) -> None:
    assert get(page, "/api/state", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.org", "evil.org:8080", "127.0.0.1.evil.org", "192.168.1.5", "", "[::1", "a@localhost@evil.org", "::1"],
)
def test_other_names_are_not(page: WebOutput, host: str) -> None:
    answer = get(page, "/api/state", {"Host": host})
    assert answer.status in (400, 421)
    assert b"nodes" not in answer.body
    assert post(page, WISH, {"Host": host, "Origin": f"http://{host}"}).status in (400, 421)


@pytest.mark.parametrize("host", ["192.168.1.5:8080", "[2001:db8::1]", "night.example.org", "localhost"])
def test_a_page_for_others_is_reached_by_its_numbers_and_names(open_page: WebOutput, host: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert get(open_page, "/api/state", headers | {"Host": host}).status == 200
    assert get(open_page, "/api/state", headers | {"Host": "evil.org"}).status == 421


# Wishes from other sites:


def test_a_wish_from_the_page_itself_is_taken(page: WebOutput, run: FakeRun) -> None:
    host = f"127.0.0.1:{place(page)[1]}"
    for headers in ({"Origin": f"http://{host}"}, {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}, {}):
        assert post(page, WISH, headers).status == 200
    assert len(run.changes) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_wish_from_another_site_is_not(page: WebOutput, run: FakeRun, headers: dict[str, str]) -> None:
    assert post(page, WISH, headers).status == 403
    assert run.changes == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_wish_as_a_form_can_send_it_is_not(page: WebOutput, run: FakeRun, kind: str) -> None:
    assert post(page, WISH, {"Content-Type": kind}).status == 415
    assert run.changes == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_do_nothing(page: WebOutput, run: FakeRun, method: str) -> None:
    answer = get(page, "/api/controls", {"Content-Type": "application/json"}, method=method)
    assert answer.status in (400, 405)
    assert run.changes == []


@pytest.mark.parametrize("path", ["/", "/api/state", "/nothing", "/healthz", "/snapshot/fused.png"])
def test_every_answer_is_signed(page: WebOutput, path: str) -> None:
    headers = get(page, path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["Server"] == "streamfuse"
