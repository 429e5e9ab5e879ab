"""Who may see and change what on the page of output.web.

Without a token the page is for this machine alone, and a web site that a browser on it visits must not reach it either:
neither by a request from there (Origin), nor under a name of its own for this address (DNS rebinding: Host).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = {"/healthz"}
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "streamfuse",
}


class Guard:
    """Looks at each request before it is answered.

    Args:
        host: the address that is listened on.
        token: what a client must know; None lets all in that come by a name that is ours.
        names: further names that this machine is reached by.
        port: that is listened on; browsers keep one set of cookies for all ports of a host.
    """

    def __init__(self, host: str, token: str | None, names: tuple[str, ...] = (), port: int = 0) -> None:
        self._token, self.cookie_name = token, f"streamfuse_{port}"
        self._names = LOOPBACK_NAMES | {name.lower() for name in (host, *names)}
        self._any_address = not is_loopback(host)
        # The browser keeps a word made of the token, not the token.
        self._cookie = hmac.digest((token or "").encode(), b"streamfuse cookie", hashlib.sha256).hex()

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, or say why not."""
        return self._refusal(request) or await handler(request)

    async def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put what each answer must have on it."""
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        if self._token is not None and self._knows(request.query.get("token"), self._token):
            cookie = f"{self.cookie_name}={self._cookie}; HttpOnly; Path=/; SameSite=Strict"
            response.headers.add("Set-Cookie", cookie)  # at this moment it is too late for set_cookie

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Why not, if not."""
        if request.path in OPEN_PATHS:
            return None
        if not self._is_ours(request.headers.get("Host", "")):
            return refuse(421, "this machine is not known under that name; see the setting 'names' of output.web")
        if not self._may_enter(request):
            answer = refuse(401, "a token is needed: open the page once as http://ADDRESS/?token=TOKEN")
            answer.headers["WWW-Authenticate"] = 'Bearer realm="streamfuse"'
            return answer
        if request.method not in ("GET", "HEAD"):
            return self._foreign(request)
        return None

    def _foreign(self, request: web.Request) -> web.Response | None:
        """A page of another origin can neither send this Origin nor, without being asked before, this content type."""
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2].lower() != request.headers["Host"].lower():
            return refuse(403, "changes are taken from the page itself, not from another site")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return refuse(403, "changes are taken from the page itself, not from another site")
        if request.content_type != "application/json":
            return refuse(415, "send JSON with Content-Type: application/json")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        # Who comes by a number comes by no name of an attacker's.
        return name in self._names or (self._any_address and is_address(name))

    def _may_enter(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        return (
            (scheme.lower() == "bearer" and self._knows(bearer.strip(), self._token))
            or self._knows(request.query.get("token"), self._token)
            or self._knows(request.cookies.get(self.cookie_name), self._cookie)
        )

    @staticmethod
    def _knows(given: str | None, wanted: str) -> bool:
        """In a time that tells nothing of how much of it is right."""
        return given is not None and hmac.compare_digest(
            given.encode(errors="surrogatepass"), wanted.encode(errors="surrogatepass")
        )


def refuse(status: int, why: str) -> web.Response:
    return web.Response(status=status, text=f"{why}\n")


def is_address(host: str) -> bool:
    """A number, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Reached from this machine alone."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
