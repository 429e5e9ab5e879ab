"""The command line of streamfuse: `python run.py --help`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

import nodes
from nodes import shorthand
from pipeline import config
from pipeline.errors import INTERRUPTED, ConfigError, OutputError, SourceError, StreamfuseError
from pipeline.pipeline import Pipeline
from pipeline.stats import Summary

log = logging.getLogger("streamfuse")

EPILOG = """\
the main job, a pipeline from a config:
  python run.py CONFIG.yaml [node.setting=value ...]

exit codes: 0 done, 2 config or usage, 3 source, 4 device, 5 output, 6 frames lost in recorded mode, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        arguments.insert(0, "run")
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING if options.quiet else logging.INFO, format="%(message)s", force=True)
    try:
        code: int = options.do(options)
    except StreamfuseError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Fuse synchronised streams of one scene into one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = add(commands, "run", do_run, "run a pipeline (the word may be left out)")
    run.add_argument("config", type=Path, metavar="CONFIG.yaml")
    run.add_argument("overrides", nargs="*", metavar="node.setting=value")
    run.add_argument("--json", metavar="FILE", help="write the summary as JSON; - for standard output")

    fuse = add(commands, "fuse", do_fuse, "fuse two images, two folders of images, or two videos")
    fuse.add_argument("first", type=Path, metavar="A", help="the first input of the task: infrared, under, near or mri")
    fuse.add_argument(
        "second", type=Path, metavar="B", help="the second: visible (gives size and colour), over, far or other"
    )
    fuse.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="image, folder or video to write")
    add_network_options(fuse)
    fuse.add_argument("--fps", type=float, default=25.0, help="images a second of folders, for video output")
    fuse.add_argument("--max-skew-ms", type=float, help="frames further apart are not fused (half a frame)")
    fuse.add_argument("--codec", choices=["auto", "h264", "ffv1"], default="auto", help="of video output")
    fuse.add_argument("--json", metavar="FILE", help="write the summary as JSON; - for standard output")

    check = add(commands, "check", do_check, "say what is wrong with a config, before it runs")
    check.add_argument("config", type=Path, metavar="CONFIG.yaml")
    check.add_argument("overrides", nargs="*", metavar="node.setting=value")

    train = add(commands, "train", do_train, "train a network's weights")
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.add_argument("overrides", nargs="*", metavar="setting=value")
    train.add_argument("--restart", action="store_true", help="begin anew instead of at the last checkpoint")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")

    judge = add(commands, "eval", do_eval, "measure the quality of fused images")
    judge.add_argument("first", type=Path, metavar="A", help="folder of the first sources")
    judge.add_argument("second", type=Path, metavar="B", help="folder of the second, same names")
    judge.add_argument("--fused", type=Path, metavar="DIR", help="judge the images here instead of a network's")
    add_network_options(judge)
    judge.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for standard output")
    judge.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of all pairs")

    bench = add(commands, "bench", do_bench, "measure the speed of a network on this machine")
    bench.add_argument("--size", type=parse_size, default=(640, 480), metavar="WxH")
    bench.add_argument("--frames", type=int, default=15, help="pairs to time")
    add_network_options(bench, task=False)
    bench.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for standard output")
    return parser


def add(commands: Any, name: str, do: Any, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(do=do)
    return parser


def add_network_options(parser: argparse.ArgumentParser, task: bool = True) -> None:
    if task:
        parser.add_argument("--task", choices=["infrared", "exposure", "focus", "medical"], default="infrared")
        parser.add_argument("--weights", type=Path, metavar="FILE", help="weights instead of those that come with us")
    parser.add_argument("--model", default="cadnif", metavar="NAME")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 640x480")
    return int(width), int(height)


def do_run(options: argparse.Namespace) -> int:
    tree = config.read(options.config)
    config.override(tree, options.overrides)
    return run_pipeline(tree, options.json)


def do_check(options: argparse.Namespace) -> int:
    tree = config.read(options.config)
    config.override(tree, options.overrides)
    shorthand.refuse_clashes(tree)
    pipeline = config.build(tree, nodes.TYPES)
    pipeline.check()
    print(f"{options.config}: ready to run, {pipeline.mode} mode, nodes: {', '.join(pipeline.steps)}")
    return 0


def do_fuse(options: argparse.Namespace) -> int:
    keys = ("task", "model", "weights", "device", "precision", "max_skew_ms")
    settings = {key: getattr(options, key) for key in keys}
    tree = shorthand.tree(options.first, options.second, options.output, settings, fps=options.fps, codec=options.codec)
    return run_pipeline(tree, options.json)


def run_pipeline(tree: dict[str, dict[str, Any]], json_to: str | None) -> int:
    """Run the nodes of a tree to their end; one summary, also after a failure."""
    shorthand.refuse_clashes(tree)
    pipeline = config.build(tree, nodes.TYPES)
    interrupted = end_on_signals(pipeline)
    try:
        with Progress(pipeline) as progress:
            summary = pipeline.run(progress.show)
    except StreamfuseError as error:
        if (so_far := getattr(error, "summary", None)) is not None:
            tell(so_far, json_to)
        print(f"error: {error}", file=sys.stderr)
        leave_if_stuck(pipeline, error.exit_code)
        return error.exit_code
    tell(summary, json_to)
    code = INTERRUPTED if interrupted else 0
    leave_if_stuck(pipeline, code)
    return code


def end_on_signals(pipeline: Pipeline) -> list[int]:
    """Ctrl-C (or a kill) ends the run in good order, a second one at once; the signals that came."""
    came: list[int] = []

    def handle(number: int, _: Any) -> None:
        if came:
            os._exit(INTERRUPTED)
        came.append(number)
        print("\nstopping; once more to force", file=sys.stderr)
        pipeline.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return came


def leave_if_stuck(pipeline: Pipeline, code: int) -> None:
    """A node that does not come back must not keep the process, nor crash it while Python takes itself apart."""
    if any(step.thread and step.thread.is_alive() for step in pipeline.steps.values()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Progress:
    """A bar on a terminal, for recorded input."""

    def __init__(self, pipeline: Pipeline) -> None:
        tqdm.monitor_interval = 0  # its thread is of no use here
        self.sinks = [step for step in pipeline.steps.values() if not step.consumers]
        self.sources = [step.node for step in pipeline.steps.values() if step.channel is None]
        self.bar = tqdm(unit=" frames", disable=None if pipeline.mode == "recorded" else True, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, _: Pipeline) -> None:
        expected = [n for n in (getattr(node, "expected_frames", None) for node in self.sources) if n]
        self.bar.total = min(expected) if expected else None
        self.bar.n = min(step.stats.emitted for step in self.sinks)
        self.bar.refresh()


def tell(summary: Summary, json_to: str | None) -> None:
    for line in summary.lines():
        log.info("%s", line)
    write_json(asdict(summary), json_to)


def write_json(figures: Any, to: str | None) -> None:
    """To a file, or with "-" to standard output."""
    if to is None:
        return
    text = json.dumps(figures, indent=2) + "\n"
    if to == "-":
        sys.stdout.write(text)
        return
    try:
        Path(to).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror}") from error


def do_train(options: argparse.Namespace) -> int:
    from models import training
    from nodes.fusion.network import find_device

    try:
        wanted = training.read_config(options.config, options.overrides)
        device = find_device(options.device)
        print(training.train(wanted, device=device.type, restart=options.restart, say=log.info))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return 0


def do_eval(options: argparse.Namespace) -> int:
    from models import evaluation
    from nodes.fusion.network import Network

    try:
        pairs = evaluation.find_pairs(options.first, options.second)
        if options.fused:
            fusions = {str(options.fused): evaluation.from_folder(options.fused)}
        else:
            network = Network(options.model, options.task, options.weights, options.device, options.precision)
            fusions = {f"{options.model} {network.precision}": network.fuse_full_range}
        result = evaluation.judge(pairs, options.task, fusions, options.sheet)
    except ValueError as error:
        raise SourceError(str(error)) from error
    log.info("%d pairs, %s to %s, of %s and %s", len(pairs), pairs[0][0], pairs[-1][0], options.first, options.second)
    if options.json != "-":
        print(evaluation.table(result["means"]))
    write_json(result, options.json)
    return 0


def do_bench(options: argparse.Namespace) -> int:
    from nodes.fusion import bench

    figures = bench.measure(options.model, options.size, options.device, options.precision, options.frames)
    if options.json != "-":
        print("\n".join(bench.lines(figures)))
    write_json(figures, options.json)
    return 0


def start() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    start()
