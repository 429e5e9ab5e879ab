"""The tables in `docs/zmq.md`, made of the figures of `docs/zmq_figures.py` alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

PLACE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


def fill(page: str, figures: Mapping[str, Any]) -> str:
    """The page with the tables of these figures between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    if len(PLACE.findall(page)) != 1:
        raise ValueError("the page needs one place for the tables, between <!-- figures --> and <!-- /figures -->")
    return PLACE.sub(lambda _: f"\n{tables(figures)}\n\n", page)


def tables(figures: Mapping[str, Any]) -> str:
    parts = (conditions(figures), freshness(figures), hop(figures), throughput(figures), pipeline(figures))
    return "\n\n".join(parts)


def conditions(figures: Mapping[str, Any]) -> str:
    about, (width, height) = figures["conditions"], figures["size"]
    return (
        f"{width}x{height} yuv420p ({width * height * 3 / 2e6:.1f} MB a frame), {figures['rate']:.0f} frames a second, "
        f"one machine: {about['processor']}, {about['system']}, Python {about['python']}, pyzmq {about['pyzmq']}, "
        f"libzmq {about['libzmq']}. All in one run; the load before it was {about['load']}. Measured by "
        "`make bench-zmq`, which writes [the figures](zmq_figures.json) and these tables."
    )


PUBLISHERS = {"alone": "output.zmq, the fast one alone", "ours": "output.zmq", "bare": "PUB with HWM=1"}
READERS = {
    "slow": "slow: our client",
    "slow, plain SUB": "slow: SUB with HWM=1",
    "fast": "fast: our client",
    "fast, plain SUB": "fast: SUB with HWM=1",
}


def freshness(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, found in figures["freshness"].items():
        sent = found["publisher"]
        for reader, read in found["readers"].items():
            ages = [f"{read[key]:.1f}" for key in ("age_p50_ms", "age_p99_ms")]
            rows.append([PUBLISHERS[name], READERS[reader], f"{read['rate']:.1f}", *ages, f"{sent['rate']:.1f}"])
    heads = ["publisher", "reader", "frames/s", "age p50, ms", "age p99, ms", "published/s"]
    title = "**Freshness.** Age of a frame when the reader gets it; a slow one takes 100 ms for each, over tcp."
    return f"{title}\n\n{table(heads, rows)}"


def hop(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            way,
            *(f"{found[kind][f'hop_p{share}_ms']:.2f}" for kind in ("ours", "bare") for share in (50, 99)),
            f"{found['ratio']:.2f}",
        ]
        for way, found in figures["hop"].items()
    ]
    heads = ["", "ours p50, ms", "p99", "bare pyzmq p50, ms", "p99", "ours / bare, p50"]
    title = (
        "**One hop.** From the frame in the publisher to the frame in the reader's hands, one at a time; beside "
        "`send_multipart(copy=False)` and `recv_multipart(copy=False)` of the same pixels."
    )
    return f"{title}\n\n{table(heads, rows)}"


def throughput(figures: Mapping[str, Any]) -> str:
    most = max(figures["throughput"].values())
    megabytes = figures["size"][0] * figures["size"][1] * 1.5e-6
    rows = [
        [name, f"{rate:.0f}", f"{rate * megabytes:.0f}", f"{100 * rate / most:.0f} %"]
        for name, rate in figures["throughput"].items()
    ]
    title = "**Throughput** over tcp, as fast as it goes with nothing lost (`delivery: lossless`)."
    return f"{title}\n\n{table(['', 'frames/s', 'MB/s', 'of the fastest'], rows)}"


def pipeline(figures: Mapping[str, Any]) -> str:
    rows = [
        [way, *(f"{found[end][key]:.1f}" for end in ("published", "received") for key in ("age_p50_ms", "age_p99_ms"))]
        for way, found in figures["pipeline"].items()
    ]
    heads = ["", "published, p50, ms", "p99", "received, p50, ms", "p99"]
    title = (
        "**Two pipelines.** `capture.pattern -> output.zmq` and `capture.zmq -> output.memory`: ages of frames when "
        "the first has sent them, and when the second has them."
    )
    return f"{title}\n\n{table(heads, rows)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
