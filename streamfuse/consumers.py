"""Consumers of lossless delivery, as the publisher knows them. Pure: no socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.wire import WantMessage

GONE_S = 5.0  # who has all and is out of reach for so long will not come again to say so


@dataclass(slots=True)
class Consumer:
    """What is known of one."""

    peer: bytes
    """Routing id of its connection."""
    sequence: int
    """It has all before."""
    room: int = 0
    sent: int = 0
    """All before are there, or were sent over this connection."""
    told: bool = False
    """`bye` was sent over this connection."""
    done: bool = False
    away: bool = False
    """Its connection is gone."""
    silent_s: float = 0.0
    """For how long it was waited for since it said something."""
    former: deque[bytes] = field(default_factory=lambda: deque(maxlen=16))
    """Routing ids of its connections before."""

    def hear(self, peer: bytes, want: WantMessage) -> bool:
        """Follow what it wants; False for a late word over an old connection, which only tells what it had then."""
        self.silent_s = 0.0
        self.sequence = max(self.sequence, want.sequence)
        if peer in self.former:
            return False
        if peer != self.peer:  # it has connected anew, and what was under way is lost
            self.former.append(self.peer)
            self.peer, self.told, self.sent = peer, False, self.sequence
        self.away, self.room = False, want.room
        self.sent = max(self.sent, self.sequence)
        return True

    def has_ended(self, count: int) -> bool:
        """Whether it needs nothing more of a stream of so many frames."""
        return self.done or (self.away and self.sequence == count and self.silent_s > GONE_S)


class Consumers:
    """All that are served.

    Args:
        places: so many are waited for.
        timeout_s: who is waited for for longer is given up.
    """

    def __init__(self, places: int, timeout_s: float) -> None:
        self._places, self._timeout_s = places, timeout_s
        self._by_name: dict[str, Consumer] = {}
        self._missing_s = 0.0  # for how long it was waited for those that have not come yet

    def __iter__(self) -> Iterator[Consumer]:
        return iter(list(self._by_name.values()))  # those of now, for counts are asked for from any thread

    @property
    def full(self) -> bool:
        return len(self._by_name) == self._places

    def named(self, name: str) -> Consumer | None:
        return self._by_name.get(name)

    def admit(self, name: str, consumer: Consumer) -> bool:
        """Give it a place: a free one, or that of one that is away. False: there is none."""
        if self.full:
            gone = [name for name, each in self._by_name.items() if each.away and not each.done]
            if not gone:
                return False
            del self._by_name[gone[0]]
        self._by_name[name] = consumer
        return True

    @property
    def least(self) -> int:
        """All of them have all frames before; 0 until all have come."""
        return min(each.sequence for each in self) if self.full else 0

    def have_ended(self, count: int) -> bool:
        """Whether none of those that came needs anything more of a stream of so many frames."""
        return all(each.has_ended(count) for each in self)

    def pass_time(self, elapsed_s: float, waiting: bool) -> None:
        """Only time in which somebody waits for them counts against them."""
        for each in self:
            each.silent_s = each.silent_s + elapsed_s if waiting else 0.0
        self._missing_s = self._missing_s + elapsed_s if waiting and not self.full else 0.0

    def complaint(self, count: int) -> str | None:
        """Why to wait no longer, of so many frames, in one line without its beginning."""
        if self._missing_s > self._timeout_s:
            return (
                f"{len(self._by_name)} of {self._places} lossless consumers came within {self._timeout_s:g} s; start "
                "them at the same time, or set consumers or timeout_s"
            )
        for each in self:
            if each.silent_s > self._timeout_s and not each.has_ended(count):
                return (
                    f"a lossless consumer {'is gone' if each.away else 'says nothing'} for {self._timeout_s:g} s, at "
                    f"frame {each.sequence} of {count}; its own messages say why, or raise timeout_s"
                )
        return None
