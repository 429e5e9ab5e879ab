"""Graph: the nodes of a pipeline with the arrows between them, checked before anything opens."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pipeline.channel import Channel
from pipeline.control import Control
from pipeline.errors import ConfigError, did_you_mean
from pipeline.frame import Frame
from pipeline.node import Later, Made, Node
from pipeline.stats import NodeStats

log = logging.getLogger("streamfuse")

T = TypeVar("T")

Mode = Literal["recorded", "live"]
QUEUE_SIZE: Mapping[Mode, int] = {"recorded": 8, "live": 2}  # live: what waits is late
MOST_CHANGES = 256  # that wait for a node to which no frames come; older ones are forgotten


@dataclass
class Step:
    """A node with its place in the pipeline."""

    node: Node
    sources: dict[str, str]
    """Node that feeds each input, by input; without the name of its output."""
    channel: Channel | None
    """None for a source."""
    consumers: list[tuple[Channel, str, str]] = field(default_factory=list)
    """Where its frames go: channel, name of the input, and name of the output that goes there ("" for the only one)."""
    changes: deque[tuple[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_CHANGES))
    """Of controls, to be taken over by the node's thread: name and value."""
    stats: NodeStats = field(default_factory=NodeStats)
    thread: threading.Thread | None = None
    touched: bool = False
    """`open` was called, so `close` must be."""
    ready: threading.Event = field(default_factory=threading.Event)
    """Open, or never will be."""
    waiting: bool = False
    """For frames to come."""
    blocked: bool = False
    """For room to send one."""
    in_work: int = 0
    """Frames begun, of a node that works on several at once."""
    failed_in_a_row: int = 0
    failed: int = 0
    speechless: set[str] = field(default_factory=set)
    """Methods with which the node failed to tell how it does."""

    @property
    def alive(self) -> bool:
        """Its thread is at work."""
        return self.thread is not None and self.thread.is_alive()

    @property
    def stuck(self) -> bool:
        """It does nothing until another node does something."""
        return self.blocked or (self.waiting and not self.in_work)

    # From anywhere:

    def gauges(self) -> dict[str, float]:
        return self._asked("gauges", self.node.gauges)

    def controls(self) -> dict[str, Control]:
        return self._asked("controls", self.node.controls)

    def _asked(self, what: str, question: Callable[[], dict[str, T]]) -> dict[str, T]:
        """What the node says of itself; a mistake in that is told once, and ends no run."""
        try:
            return question()
        except Exception as error:
            if what not in self.speechless:
                self.speechless.add(what)
                log.warning("%s: cannot tell its %s: %s: %s", self.node.name, what, type(error).__name__, error)
            return {}

    # In its own thread:

    def take(self) -> Mapping[str, Frame] | None:
        """The next frames to work on, waiting for them; None when there will be no more."""
        if self.channel is None:
            return {}
        self.waiting = True
        match = self.channel.take()
        self.waiting = False
        if match is None:
            return None
        self.stats.taken += 1
        self.node.held, self.node.driver = match.held, match.driver
        return match.items

    def work(self, inputs: Mapping[str, Frame]) -> Made | Later:
        """Let the node take over what was changed, then work."""
        while self.changes:
            control, value = self.changes.popleft()
            try:
                self.node.change(control, value)
            except Exception as error:  # a frame shall not be lost for it
                log.warning("%s: %s: %s", self.node.name, control, error)
        return self.node.process(**inputs)

    def note_age(self, inputs: Mapping[str, Frame], made: Made) -> None:
        """How long after its capture a frame was made or, at the end, dealt with."""
        frames = inputs if made is None else {"": made} if isinstance(made, Frame) else made
        if frames and (made is not None or not self.consumers):
            newest_ns = max(frame.timestamp_ns for frame in frames.values())
            self.stats.age_ms.append((time.monotonic_ns() - newest_ns) / 1e6)

    def hand_on(self, made: Made) -> None:
        """Send what was made to whom it goes, waiting for room where that is the policy."""
        if self.channel is None:
            self.stats.taken += made is not None  # a source may have nothing yet
        elif made is None and self.consumers:
            self.stats.dropped["no_result"] += 1
        if made is None and (self.channel is None or self.consumers):
            return
        self.stats.emitted += 1
        for channel, name, output in self.consumers:
            assert made is not None
            self.blocked = True
            channel.put(name, made if isinstance(made, Frame) else made[output])
            self.blocked = False


def connect(
    nodes: Mapping[str, Node], inputs: Mapping[str, Mapping[str, str]], queue_sizes: Mapping[str, int], mode: Mode
) -> dict[str, Step]:
    """The nodes with channels between them.

    Raises:
        ConfigError: an input missing, unknown or in a circle; a queue_size, reference or max_skew_ms that cannot be.
    """
    check_arrows(nodes, inputs)
    steps = {}
    for name, node in nodes.items():
        size = queue_sizes.get(name)
        channel = make_channel(node, QUEUE_SIZE[mode] if size is None else size, mode) if node.inputs() else None
        if channel is None and size is not None:
            raise ConfigError(f"Node {name!r} has no queue, for it has no inputs: leave out 'queue_size'")
        steps[name] = Step(node, nodes_of(inputs.get(name, {})), channel)
    for name, step in steps.items():
        for key, source in inputs.get(name, {}).items():
            assert step.channel is not None
            before, _, output = source.partition(".")
            steps[before].consumers.append((step.channel, key, output))
    return steps


def nodes_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """Without the names of outputs: `camera.under` is of the node `camera`."""
    return {key: source.partition(".")[0] for key, source in inputs.items()}


def make_channel(node: Node, capacity: int, mode: Mode) -> Channel:
    """The arrow into a node, as the mode and the node want it."""
    names, reference, skew = node.inputs(), node.reference, node.max_skew_ms
    if reference is not None and reference not in names:
        hint = did_you_mean(reference, names)
        raise ConfigError(f"Node {node.name!r}: 'reference' is {reference!r}, which is none of its inputs.{hint}")
    for setting in ("max_skew_ms", "max_hold_ms"):
        value = getattr(node, setting)
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"Node {node.name!r}: {setting!r} is {value!r}; legal is 0 and more")
    return Channel(
        names,
        capacity=capacity,
        when_full="drop_oldest" if mode == "live" else "wait",
        reference=reference,
        max_skew_ns=None if skew is None else round(skew * 1e6),
        max_hold_ns=None if node.max_hold_ms is None else round(node.max_hold_ms * 1e6),
        partial=node.partial,
    )


def common_mode(nodes: Mapping[str, Node]) -> Mode:
    """Live or recorded, as all the sources are."""
    sources = {name: node for name, node in nodes.items() if not node.inputs()}
    live = [name for name, node in sources.items() if node.live]
    recorded = [name for name, node in sources.items() if not node.live]
    if live and recorded:
        raise ConfigError(
            f"Node {live[0]!r} is live and node {recorded[0]!r} is recorded: a pipeline is the one or the other "
            "(a recording becomes live with 'pace: realtime')"
        )
    return "live" if live else "recorded"


def check_arrows(nodes: Mapping[str, Node], inputs: Mapping[str, Mapping[str, str]]) -> None:
    """Every input is fed by a node that gives frames, no input is unknown, and nothing goes round in circles."""
    for name, node in nodes.items():
        wanted, given = node.inputs(), inputs.get(name, {})
        for key in given:
            if key not in wanted:
                hint = did_you_mean(key, wanted) or " It has none."
                raise ConfigError(f"Node {name!r} has no input {key!r}.{hint}")
        for key in wanted:
            if key not in given:
                raise ConfigError(f"Node {name!r} needs its input {key!r}: write inputs: {{{key}: NODE}}")
        for key, source in given.items():
            check_source(f"Node {name!r}: input {key!r}", source, nodes)
    if circle := find_circle({name: nodes_of(given) for name, given in inputs.items()}):
        raise ConfigError(f"Nodes feed each other in a circle: {' -> '.join(circle)}")


def check_source(where: str, source: str, nodes: Mapping[str, Node]) -> None:
    """`camera`, or `camera.under` of a node with several outputs."""
    name, _, output = source.partition(".")
    if name not in nodes:
        raise ConfigError(f"{where} is from {source!r}, which is no node.{did_you_mean(name, nodes)}")
    outputs = nodes[name].outputs()
    if not gives_frames(nodes[name]):
        raise ConfigError(f"{where} is from {source!r}, which gives no frames")
    if outputs and output not in outputs:
        legal = " or ".join(f"{name}.{each}" for each in outputs)
        raise ConfigError(f"{where} is from {source!r}; node {name!r} has several outputs: write {legal}")
    if output and not outputs:
        raise ConfigError(f"{where} is from {source!r}; node {name!r} has one output: write {name}")


def gives_frames(node: Node) -> bool:
    """Whether others can be fed by a node: not if its `process` is declared to return None."""
    return node.process.__annotations__.get("return", Frame) not in (None, "None")


def find_circle(inputs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Names of nodes of which each feeds the next, the last being the first again; empty if there is no such circle."""
    left = dict.fromkeys(inputs)
    while ready := [name for name in left if not any(source in left for source in inputs[name].values())]:
        for name in ready:
            del left[name]
    if not left:
        return []
    walk = [next(iter(left))]
    while walk[-1] not in walk[:-1]:
        walk.append(next(source for source in inputs[walk[-1]].values() if source in left))
    return walk[walk.index(walk[-1]) :][::-1]


def in_order(steps: Mapping[str, Step]) -> list[Step]:
    """Steps, each after those that feed it."""
    ordered: dict[str, Step] = {}
    while len(ordered) < len(steps):
        for name, step in steps.items():
            if name not in ordered and all(source in ordered for source in step.sources.values()):
                ordered[name] = step
    return list(ordered.values())
