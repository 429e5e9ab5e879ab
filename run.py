"""The command line of streamfuse: `python run.py --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import nodes
from nodes import shorthand
from nodes.console import check_json_target, run_to_the_end, say, say_error, write_json
from nodes.pictures import check_target, write_whole
from nodes.tasks import INPUTS
from pipeline import config
from pipeline.errors import INTERRUPTED, ConfigError, OutputError, StreamfuseError

log = logging.getLogger("streamfuse")

EPILOG = """\
the main job, a pipeline from a config:
  python run.py CONFIG.yaml [node.setting=value ...]

exit codes: 0 done, 2 config or usage, 3 source, 4 device, 5 output, 6 frames lost in recorded mode, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    try:
        options = parse(list(sys.argv[1:] if arguments is None else arguments))
        logging.basicConfig(level=logging.WARNING if options.quiet else logging.INFO, format="%(message)s", force=True)
        check_json_target(getattr(options, "json", None))
        code: int = options.do(options)
    except StreamfuseError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    words = [place for place, argument in enumerate(arguments) if not argument.startswith("-")]
    if words and arguments[words[0]].endswith((".yaml", ".yml")):
        arguments.insert(words[0], "run")
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not any(argument.startswith("-") for argument in rest):
        take_late(options, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def take_late(options: argparse.Namespace, rest: list[str]) -> None:
    """Take words behind an option out of `rest`: those that may be left out argparse gives up at the first option."""
    if hasattr(options, "overrides"):
        options.overrides += rest
        rest.clear()
    for name in ("second", "third"):
        if rest and getattr(options, name, "") is None:
            setattr(options, name, Path(rest.pop(0)))


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog="run.py",
        description="Fuse synchronised streams of one scene into one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_quiet(parser, default=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = add(commands, "run", do_run, "run a pipeline (the word may be left out)")
    add_config(run, "node.setting=value")
    add_json(run, "the summary")
    add_config(
        add(commands, "check", do_check, "say what is wrong with a config, before it runs"), "node.setting=value"
    )
    add_fuse(commands)
    train = add(commands, "train", do_train, "train a network's weights")
    add_config(train, "setting=value")
    train.add_argument("--restart", action="store_true", help="begin anew instead of at the last checkpoint")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add_eval(commands)
    bench = add(commands, "bench", do_bench, "measure the speed of a network on this machine")
    bench.add_argument("--size", type=parse_size, default=(640, 480), metavar="WxH")
    bench.add_argument("--frames", type=parse_count, default=15, metavar="N", help="pairs to time")
    add_network_options(bench, task=False)
    add_json(bench, "the figures")
    add_json(add(commands, "models", do_models, "list the weights that come with the project"), "the list")
    add_export(commands)
    return parser


def add(commands: Any, name: str, do: Any, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    parser.set_defaults(do=do)
    add_quiet(parser, default=argparse.SUPPRESS)
    return parser


def add_quiet(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="say nothing but warnings and errors"
    )


def add_config(parser: argparse.ArgumentParser, override: str) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar=override)


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", metavar="FILE", help=f"write {what} as JSON; - for standard output")


def add_fuse(commands: Any) -> None:
    fuse = add(
        commands, "fuse", do_fuse, "fuse two images, two folders of images, or two videos; of exposures also three"
    )
    fuse.add_argument("first", type=Path, metavar="A", help="the first input of the task: infrared, under, near or mri")
    fuse.add_argument(
        "second", type=Path, metavar="B", help="the second: visible (gives size and colour), over, far or other"
    )
    fuse.add_argument("third", type=Path, metavar="C", nargs="?", help="of three exposures the brightest")
    fuse.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="image, folder or video to write")
    add_network_options(fuse)
    fuse.add_argument("--fps", type=float, default=25.0, help="images a second of folders, for video output")
    fuse.add_argument(
        "--max-skew-ms", type=float, metavar="MS", help="frames further apart are not fused (half a frame)"
    )
    fuse.add_argument("--codec", choices=["auto", "h264", "ffv1"], default="auto", help="of video output")
    add_json(fuse, "the summary")


def add_eval(commands: Any) -> None:
    judge = add(commands, "eval", do_eval, "measure the quality of fused images, or how steady a fused video is")
    judge.add_argument("first", type=Path, metavar="A", help="folder of the first sources, a data set, or a video")
    judge.add_argument("second", type=Path, metavar="B", nargs="?", help="folder of the second, same names; or a video")
    judge.add_argument("--fused", type=Path, metavar="F", help="judge these images, or this video, not a network's")
    add_network_options(judge)
    judge.add_argument("--no-steady", action="store_true", help="of videos: hold back no change in the fused one")
    judge.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of all pairs")
    add_json(judge, "the figures")


def add_export(commands: Any) -> None:
    export = add(commands, "export", do_export, "write a network as ONNX, and check that against torch")
    export.add_argument("--model", metavar="NAME", help="realtime or cadnif (that of --weights, else realtime)")
    export.add_argument("--task", choices=list(INPUTS), default="infrared")
    export.add_argument("--weights", type=Path, metavar="FILE", help="weights instead of those that come with us")
    export.add_argument(
        "--size", type=parse_size, default=(640, 480), metavar="WxH", help="of the planes; the file is for this one"
    )
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="file to write")


def add_network_options(parser: argparse.ArgumentParser, task: bool = True) -> None:
    if task:
        parser.add_argument("--task", choices=list(INPUTS), default="infrared")
        parser.add_argument("--weights", type=Path, metavar="FILE", help="weights instead of those that come with us")
    parser.add_argument("--model", metavar="NAME", help="realtime or cadnif (that of --weights, else realtime)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return parse_count(width, text), parse_count(height, text)


def parse_count(text: str, whole: str = "") -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 16384):
        legal = "a size, such as 640x480" if whole else "a number"
        raise argparse.ArgumentTypeError(f"{whole or text!r} is not {legal}; legal is 1 to 16384")
    return int(text)


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
    say(f"{options.config}: ready to run, {pipeline.mode} mode, nodes: {', '.join(pipeline.steps)}")
    return 0


def do_fuse(options: argparse.Namespace) -> int:
    keys = ("task", "model", "weights", "device", "precision", "max_skew_ms")
    settings = {key: getattr(options, key) for key in keys}
    sources = [path for path in (options.first, options.second, options.third) if path]
    tree = shorthand.tree(sources, options.output, settings, fps=options.fps, codec=options.codec)
    return run_pipeline(tree, options.json)


def run_pipeline(tree: dict[str, dict[str, Any]], json_to: str | None) -> int:
    shorthand.refuse_clashes(tree)
    return run_to_the_end(config.build(tree, nodes.TYPES), json_to)


def do_train(options: argparse.Namespace) -> int:
    from models import training
    from nodes.fusion.network import find_device

    try:
        wanted = training.read_config(options.config, options.overrides)
        device = find_device(options.device)
        say(str(training.train(wanted, device=device.type, restart=options.restart, say=log.info)))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return 0


def do_eval(options: argparse.Namespace) -> int:
    from nodes.capture.video import VideoCapture
    from nodes.fusion import judging

    if options.sheet:  # now, and not when all the work is done
        check_target(options.sheet)
    wanted = judging.Wanted(**{field.name: getattr(options, field.name) for field in fields(judging.Wanted)})
    are_videos = shorthand.are_videos(options.first, options.second, options.fused)
    result, table = judging.videos(wanted, VideoCapture) if are_videos else judging.images(wanted)
    if options.json != "-":
        say(table)
    write_json(result, options.json)
    return 0


def do_bench(options: argparse.Namespace) -> int:
    from models import catalog
    from nodes.fusion import bench

    model = options.model or catalog.DEFAULT
    figures = bench.measure(model, options.size, options.device, options.precision, options.frames)
    if options.json != "-":
        say("\n".join(bench.lines(figures)))
    write_json(figures, options.json)
    return 0


def do_models(options: argparse.Namespace) -> int:
    from models import catalog, listing

    try:
        rows = listing.rows()
    except catalog.ModelError as error:
        raise ConfigError(str(error)) from error
    if options.json != "-":
        say(listing.table(rows))
    write_json(rows, options.json)
    return 0


def do_export(options: argparse.Namespace) -> int:
    from models import catalog, export

    if options.output.suffix.lower() != ".onnx":
        raise ConfigError(f"-o {options.output}: a network is written as .onnx")
    check_target(options.output)
    try:
        export.check_packages()
        weights = options.weights or catalog.shipped(options.model or catalog.DEFAULT, options.task)
        network = catalog.load(weights, model=options.model)
        file, difference = export.export(network, INPUTS[options.task], options.size)
    except export.DifferenceError as error:
        raise OutputError(f"{options.output}: not written, since it {error}") from error
    except (catalog.ModelError, export.ExportError) as error:
        raise ConfigError(str(error)) from error
    write_whole(options.output, file)
    log.info("%s: differs from torch by at most %.1e on random planes in -1..1", options.output, difference)
    return 0


def start() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    start()
