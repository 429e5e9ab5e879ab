"""Measure what frames over ZeroMQ cost on this machine: `docs/zmq_figures.json`, and the tables of `docs/zmq.md`.

python docs/zmq_figures.py [--seconds S] [--size WxH]     measure, then write both; about two minutes
python docs/zmq_figures.py --from-json                    write the tables anew from the figures

All is measured in one run, beside bare pyzmq; leave the machine alone meanwhile. Not in a file named zmq.py, which an
example in this folder would import in place of the package.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, this file sees its own folder only

import zmq  # noqa: E402

from docs import zmq_ends as ends  # noqa: E402
from docs.zmq_links import Route  # noqa: E402
from docs.zmq_page import fill  # noqa: E402
from nodes.commands import parse_size  # noqa: E402
from nodes.doctor import Machine, processor  # noqa: E402
from pipeline.errors import StreamfuseError  # noqa: E402
from pipeline.stats import percentile  # noqa: E402
from streamfuse import keys as curve  # noqa: E402

FIGURES = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).with_name("zmq.md")
TCP = "tcp://127.0.0.1:0"
RATE, SLOW_S = 30.0, 0.1  # frames a second; what the slow reader takes for one
WARM_TURNS = 5
PATIENCE_S = 180.0  # for an end to answer

Target = Callable[..., None]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="of freshness; the rest in proportion")
    parser.add_argument("--size", type=parse_size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--from-json", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    try:
        if not options.from_json:
            figures = measure(options.size, options.seconds)
            FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if not FIGURES.exists():
            raise ValueError(f"{FIGURES}: there is none yet; measure first, without --from-json")
        figures = json.loads(FIGURES.read_text(encoding="utf-8"))
        page = fill(PAGE.read_text(encoding="utf-8"), figures)
    except (ValueError, StreamfuseError) as error:
        sys.exit(f"error: {error}")
    PAGE.write_text(page, encoding="utf-8")
    print(fill("<!-- figures -->\n<!-- /figures -->\n", figures))


def measure(size: ends.Size, seconds: float) -> dict[str, Any]:
    """All figures.

    Args:
        size: (width, height) of the frames, which are yuv420p.
        seconds: of each part of freshness, and of the pipelines half as long; for the rest a measure of how much.
    """
    turns, frames = max(3, round(10 * seconds)), max(4, round(5 * seconds))
    with tempfile.TemporaryDirectory() as folder:
        keys, ipc = Path(folder) / "keys", f"ipc://{folder}/"
        curve.make(keys)
        return {
            "conditions": describe_machine(),
            "size": list(size),
            "rate": RATE,
            "freshness": freshness(size, seconds),
            "hop": hops(size, turns, keys, ipc),
            "throughput": throughput(size, frames, keys),
            "pipeline": {name: split(size, seconds / 2, to) for name, to in (("tcp", TCP), ("ipc", f"{ipc}split"))},
        }


def describe_machine() -> dict[str, Any]:
    return {
        "processor": next(processor(Machine())).found,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "load": round(os.getloadavg()[0], 1),
    }


# Ends in processes:


class End:
    """A function of `zmq_ends` at work in a process of its own.

    Args:
        target: the function; its first argument is the line to here.
        given: its other arguments.
    """

    def __init__(self, target: Target, *given: Any) -> None:
        self._line, other = multiprocessing.Pipe()
        self._process = start(target, other, *given)
        self._name = target.__name__

    def answer(self) -> Any:
        """What it says next.

        Raises:
            ValueError: it has failed.
        """
        with suppress(EOFError):
            if self._line.poll(PATIENCE_S):
                return self._line.recv()
        raise ValueError(f"{self._name} has failed, or is stuck; see above")

    def say(self, word: str) -> None:
        """To one that has failed, too: its answer tells."""
        with suppress(OSError):
            self._line.send(word)

    def close(self) -> None:
        self._process.join(PATIENCE_S)
        self._line.close()


def start(target: Target, *given: Any) -> Any:
    """A process in which a function runs; the end of the line that went there is closed here."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=given, daemon=True)
    process.start()
    for each in given:
        if isinstance(each, Connection):
            each.close()
    return process


@contextmanager
def pair(sender: Target, receiver: Target, sender_gets: Sequence[Any], receiver_gets: Sequence[Any]) -> Iterator[End]:
    """Two ends with a line between them; gives the receiver."""
    one, other = multiprocessing.Pipe()
    sending, receiving = End(sender, one, *sender_gets), End(receiver, other, *receiver_gets)
    yield receiving
    sending.say("stop")
    sending.close()
    receiving.close()


# What is measured:


def freshness(size: ends.Size, seconds: float) -> dict[str, Any]:
    """Ages at hand-over, of a slow and a fast reader at one publisher."""
    fast, slow, bare = ("ours", 0.0), ("ours", SLOW_S), ("bare", SLOW_S)
    return {
        "alone": published("ours", {"fast": fast}, size, seconds),
        "ours": published("ours", {"slow": slow, "slow, plain SUB": bare, "fast": fast}, size, seconds),
        "bare": published("bare", {"slow, plain SUB": bare, "fast, plain SUB": ("bare", 0.0)}, size, seconds),
    }


def published(kind: str, readers: Mapping[str, tuple[str, float]], size: ends.Size, seconds: float) -> dict[str, Any]:
    """A publisher, and readers by name with their kind and the time that each takes for a frame."""
    publisher = End(ends.publish, Route(kind, TCP), size, RATE)
    address = publisher.answer()
    reading = {name: End(ends.read, Route(how, address), pause_s, seconds) for name, (how, pause_s) in readers.items()}
    for reader in reading.values():
        reader.answer()
    for end in (publisher, *reading.values()):
        end.say("go")
    found = {name: reader.answer() for name, reader in reading.items()}
    publisher.say("stop")
    sent = publisher.answer()
    for end in (publisher, *reading.values()):
        end.close()
    return {
        "publisher": {"rate": rounded(sent["rate"]), **percentiles("sending", sent["sending_ms"])},
        "readers": {
            name: {"rate": rounded(each["rate"]), **percentiles("age", each["ages_ms"])} for name, each in found.items()
        },
    }


def hops(size: ends.Size, turns: int, keys: Path, ipc: str) -> dict[str, Any]:
    """From before it is packed to in the reader's hands, by transport: ours and bare, one frame of each in turn."""
    ways = {"tcp": (TCP, None), "ipc": (ipc, None), "tcp, CURVE": (TCP, keys)}
    named = [
        (way, kind, Route(kind, f"{address}{kind}" if address == ipc else address, secret))
        for way, (address, secret) in ways.items()
        for kind in ("ours", "bare")
    ]
    routes, turns = [route for *_, route in named], turns + WARM_TURNS
    with pair(ends.send_in_turns, ends.receive_in_turns, (routes, size, turns), (routes, turns)) as receiving:
        hops_ms = receiving.answer()
    found: dict[str, Any] = {way: {} for way in ways}
    for (way, kind, _), times_ms in zip(named, hops_ms, strict=True):
        found[way][kind] = percentiles("hop", times_ms[WARM_TURNS:])
    for row in found.values():
        row["ratio"] = rounded(row["ours"]["hop_p50_ms"] / row["bare"]["hop_p50_ms"])
    return found


def throughput(size: ends.Size, frames: int, keys: Path, rounds: int = 3) -> dict[str, float]:
    """Frames a second that nobody loses, by way; median of rounds in which each has its turn."""
    ways = {
        "bare PUSH and PULL": Route("push", TCP),
        "lossless": Route("lossless", TCP),
        "bare PUSH and PULL, CURVE": Route("push", TCP, keys),
        "lossless, CURVE": Route("lossless", TCP, keys),
    }
    routes = [*ways.values()] * rounds
    with pair(ends.pour, ends.drain, (routes, size, frames), (routes, frames)) as receiving:
        rates = receiving.answer()
    return {name: rounded(median(rates[place :: len(ways)])) for place, name in enumerate(ways)}


def split(size: ends.Size, seconds: float, address: str) -> dict[str, Any]:
    """Ages of frames of two pipelines: when they have been published by the first, and when the second has them."""
    camera = {"type": "capture.pattern", "view": "visible", "size": list(size), "fps": RATE}
    first = End(ends.run, {"camera": camera, "publish": {"type": "output.zmq", "inputs": "camera", "address": address}})
    source = {"type": "capture.zmq", "address": first.answer()}
    second = End(ends.run, {"frames": source, "keep": {"type": "output.memory", "inputs": "frames", "keep": 1}})
    second.answer()
    wait(seconds)
    found = {}
    for end, node, name in ((second, "keep", "received"), (first, "publish", "published")):
        end.say("stop")
        summary = end.answer()[node]
        found[name] = {key: rounded(summary[key]) for key in ("age_p50_ms", "age_p99_ms")}
        end.close()
    return found


def wait(seconds: float) -> None:
    """While others work."""
    multiprocessing.Event().wait(seconds)


def percentiles(of: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{of}_p{share}_ms": rounded(percentile(values, share / 100)) for share in (50, 99)}


def rounded(value: float) -> float:
    return round(value, 2)


if __name__ == "__main__":
    main()
