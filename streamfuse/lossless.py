"""Lossless delivery, for recorded work: nothing dropped, nothing twice, and the end is told. `docs/wire.md` has it too.

A publisher (`Giver`, a ROUTER that binds) and its consumers (`Taker`, a DEALER that connects) exchange the messages of
`pipeline/wire.py`: frame, stats and bye one way, `want` the other.

**Credit.** A `want` says "I have all before `sequence`, and `room` more fit". It is cumulative, so a later one replaces
all before it, and saying it twice changes nothing: it may be lost, repeated or come late. The publisher keeps what some
consumer has not got yet (its window), sends each consumer what it has room for, and takes no new frame while the
window is full: that is the back-pressure. Neither end holds more than its window or, of what is new, its room.

**Broken connections.** ZeroMQ delivers in order while a connection lasts and loses what was under way when it breaks;
it joins the DEALER anew by itself, and to the ROUTER that is a stranger: each connection has a routing id of its own.
So a `want` of a known consumer from a new routing id is a reconnection, and sending begins again at its `sequence`.
What then comes twice the consumer knows by its number and drops. Wants of an old connection may be read after those of
the new one (the ROUTER takes turns), so old routing ids are remembered: such a want is news of what has arrived, and
no reason to send to a connection that is gone. A number above the expected one cannot come about this way, but if one
does (a broken publisher, a proxy), the consumer opens a new connection, which rewinds.

**Presence.** The publisher waits for all its consumers: nothing leaves the window before each of them has it, so
nobody comes too late for the first frame. Who finds no place or not its frames gets a `bye` of reason `refused`.
A place is free again when its connection is gone (a message to it cannot be sent: EHOSTUNREACH). Who says nothing for
`timeout_s` while the other waits for it is given up with one line. Only time spent waiting counts: neither a process
that was stopped (SIGSTOP) nor one that was long at its frame takes its own absence for the other's.

**The end.** `bye` follows the last frame in the same queue. Its `sequence` is the number of frames, so that a consumer
can tell a whole stream from one cut short. Then three messages, as closing needs: `bye`, `want` with `done`, and `bye`
once more.
 - The publisher must not close before `bye` has arrived: it waits for `done`, and on a new connection it says `bye`
   again. A socket that is closed throws away what it has not sent, and so does a process that exits.
 - The consumer must not go before `done` has arrived: it repeats `done` until the second `bye` comes. If that does not
   come for some seconds then the publisher went first, which it does only when it has `done`; or it died when all
   frames were here. Either way the consumer has all of the stream: that is a good end.
 - The last message of all can always be lost. So the publisher looks for a moment whether its consumers leave, as they
   do at the second `bye`; and if it is lost nevertheless, that costs the consumer those seconds and nothing else.
 - A consumer that has told that all frames are there and is gone, without `done`, lost it on its way out: a good end.
 - `bye` of reason `failed` or `stopped` is sent at once, whatever the window holds, and waited for for 0.3 s: who stops
   does not wait for others. If it is lost, the consumer's `timeout_s` ends it.

**A publisher that was started anew** has another session: its frames are not the continuation of the ones before, so
that is an error at the consumer. The publisher refuses wants of other sessions.
"""

from __future__ import annotations

from streamfuse.giver import Giver
from streamfuse.taker import Ended, Taker

__all__ = ["Ended", "Giver", "Taker"]
