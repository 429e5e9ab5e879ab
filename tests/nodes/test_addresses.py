from __future__ import annotations

import errno

import av
import pytest

from nodes.addresses import check_address, why_not, without_credentials
from pipeline.errors import ConfigError

SCHEMES = ("rtsp", "udp", "srt", "http")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://admin:pw@cam:554/live", "rtsp://cam:554/live"),
        ("rtsp://admin@cam/live", "rtsp://cam/live"),
        ("rtsp//admin:pw@cam/live", "...@cam/live"),
        ("admin:pw@cam/live", "...@cam/live"),
        ("rtsp://admin:p@ss@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:p/ss@cam/live", "rtsp://cam/live"),
        ("http://cam/live?token=abc&x=1", "http://cam/live?..."),
        ("http://cam/live#token=abc", "http://cam/live"),
        ("srt://[::1]:9000?passphrase=0123456789", "srt://[::1]:9000?..."),
        ("rtsp://cam/user=admin&password=pw&channel=1", "rtsp://cam/user=...&password=...&channel=1"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:p@cam/x",
        "udp://@239.0.0.1:1234",
        "udp://:5000",
        "srt://cam:9000?mode=caller",
        "srt://:9000?mode=listener",
        "rtsp://[fe80::1]:554/x",
        "RTSP://cam/x",
    ],
)
def test_addresses_as_people_write_them_are_legal(url: str) -> None:
    check_address(url, SCHEMES)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("camera.local", "not an address"),
        ("/dev/video0", "not an address"),
        ("rstp://u:geheim@cam/x", "cannot work with 'rstp'. Did you mean 'rtsp'?"),
        ("rtsp:///x", "there is no host in it"),
        ("rtsp://u:geheim@/x", "there is no host in it"),
        ("rtsp://u:geheim@cam:99999/x", "the host or the port is none"),
        ("rtsp://u:gehe/im@cam/x", "the host or the port is none"),
        ("rtsp://[::1/x", "the host or the port is none"),
        ("udp://239.0.0.1", "there is no port in it"),
    ],
)
def test_what_is_no_address_is_told_without_the_password(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(url, SCHEMES)
    assert message in str(caught.value)
    assert "gehe" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (av.error.HTTPForbiddenError(403, "x", "rtsp://u:geheim@cam"), "not accepted (403)"),
        (av.error.HTTPServerError(500, "Server error", "rtsp://u:geheim@cam"), "does not give it (Server error)"),
        (ConnectionResetError(104, "reset"), "the connection broke"),
        (av.error.ExitError(1, "exit", "rtsp://u:geheim@cam"), "no answer in time"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (RuntimeError("rtsp://u:geheim@cam"), "RuntimeError"),
    ],
)
def test_the_reason_is_in_plain_words_without_the_address(error: Exception, reason: str) -> None:
    said = why_not(error, "127.0.0.1")
    assert reason in said
    assert "geheim" not in said
