"""The words of the command line: commands and their options. What they do is in `run.py`."""

from __future__ import annotations

import argparse
import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from nodes.addresses import source_of
from nodes.tasks import INPUTS
from pipeline.errors import ConfigError

EPILOG = """\
the main job, a pipeline from a config:
  python run.py CONFIG.yaml [CONFIG.yaml ...] [node.setting=value ...]
without cameras:
  python run.py configs/night_vision.yaml --simulate

exit codes: 0 done, 2 config or usage, 3 source, 4 device, 5 output, 6 frames lost in recorded mode, 130 interrupted
"""


CONFIG_SUFFIXES = (".yaml", ".yml")


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    words = [place for place, argument in enumerate(arguments) if not argument.startswith("-")]
    if words and arguments[words[0]].endswith(CONFIG_SUFFIXES):
        arguments.insert(words[0], "run")
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not any(argument.startswith("-") for argument in rest):
        take_late(options, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command in ("run", "check"):
        take_configs(options)
    return options


def take_late(options: argparse.Namespace, rest: list[str]) -> None:
    """Take words behind an option out of `rest`: those that may be left out argparse gives up at the first option."""
    if hasattr(options, "overrides"):
        options.overrides += rest
        rest.clear()
    for name in ("second", "third"):
        if rest and getattr(options, name, "") is None:
            word = rest.pop(0)
            setattr(options, name, source_of(word) if options.command == "fuse" else Path(word))


def take_configs(options: argparse.Namespace) -> None:
    """Further configs are among the overrides, for which words may be the one or the other is not told by place."""
    further = [word for word in options.overrides if word.endswith(CONFIG_SUFFIXES) and "=" not in word]
    options.overrides = [word for word in options.overrides if word not in further]
    options.configs = [options.config, *map(Path, further)]


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

    run = add(commands, "run", "run a pipeline, or several, each in a process of its own (the word may be left out)")
    add_config(run, "CONFIG.yaml | node.setting=value")
    run.add_argument("--link", type=int, help=argparse.SUPPRESS)  # by which we start those processes
    add_simulate(run)
    add_for(run)
    add_json(run, "the summary")
    check = add(commands, "check", "say what is wrong with configs, before they run")
    add_config(check, "CONFIG.yaml | node.setting=value")
    add_simulate(check)
    add_fuse(commands)
    add_view(commands)
    train = add(commands, "train", "train a network's weights")
    add_config(train, "setting=value")
    train.add_argument("--restart", action="store_true", help="begin anew instead of at the last checkpoint")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add_eval(commands)
    add_bench(commands)
    add_json(add(commands, "models", "list the weights that come with the project"), "the list")
    add_json(add(commands, "doctor", "say what this machine can do, and what to do about what it cannot"), "the list")
    add_export(commands)
    add_keygen(commands)
    return parser


def add(commands: Any, name: str, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    parser.set_defaults(command=name)
    add_quiet(parser, default=argparse.SUPPRESS)
    return parser


def add_quiet(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="say nothing but warnings and errors"
    )


def add_config(parser: argparse.ArgumentParser, override: str) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar=override)


def add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--simulate", action="store_true", help="with synthetic cameras in place of all cameras and network streams"
    )


def add_for(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for", type=parse_seconds, dest="seconds", metavar="SECONDS", help="of live input: end after so long"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", metavar="FILE", help=f"write {what} as JSON; - for standard output")


def add_fuse(commands: Any) -> None:
    what = "fuse two images, folders of images, videos or live streams; of exposures also three"
    fuse = add(commands, "fuse", what)
    first = "the first input of the task: infrared, under, near or mri; live: an address, such as rtsp://HOST/PATH"
    fuse.add_argument("first", type=source_of, metavar="A", help=first)
    fuse.add_argument(
        "second", type=source_of, metavar="B", help="the second: visible (gives size and colour), over, far or other"
    )
    fuse.add_argument("third", type=source_of, metavar="C", nargs="?", help="of three exposures the brightest")
    fuse.add_argument(
        "-o", "--output", type=source_of, required=True, metavar="OUT", help="image, folder or video to write"
    )
    add_network_options(fuse)
    fuse.add_argument("--fps", type=float, default=25.0, help="images a second of folders, for video output")
    fuse.add_argument(
        "--max-skew-ms", type=float, metavar="MS", help="frames further apart are not fused (half a frame)"
    )
    fuse.add_argument("--codec", choices=["auto", "h264", "h264_nvenc", "ffv1"], default="auto", help="of video output")
    add_for(fuse)
    add_json(fuse, "the summary")


def add_view(commands: Any) -> None:
    view = add(
        commands, "view", "look at a published stream: its rate, age and losses; save it, or serve it to a browser"
    )
    view.add_argument("address", metavar="ADDRESS", help="of the publisher: tcp://HOST:PORT or ipc://PATH")
    view.add_argument("--stream", metavar="NAME", help="where several are published at one address (the first seen)")
    view.add_argument("--lossless", action="store_true", help="of delivery: lossless, every frame to the end")
    view.add_argument("--keys", type=Path, metavar="DIR", help="keys made by `run.py keygen`")
    view.add_argument("--client", metavar="NAME", help="of the key in DIR (the only one)")
    view.add_argument("--save", type=Path, metavar="PATH", help="write one image, a folder of images, or a video")
    view.add_argument("--codec", choices=["auto", "h264", "ffv1"], default="auto", help="of a video; ffv1 for 16 bits")
    view.add_argument(
        "--web", type=parse_port, nargs="?", const=8080, metavar="PORT", help="serve it as a page to this machine"
    )
    view.add_argument("--frames", type=parse_count, metavar="N", help="end after so many frames")
    add_for(view)
    add_json(view, "the summary")


def add_eval(commands: Any) -> None:
    judge = add(commands, "eval", "measure the quality of fused images, or how steady a fused video is")
    judge.add_argument("first", type=Path, metavar="A", help="folder of the first sources, a data set, or a video")
    judge.add_argument("second", type=Path, metavar="B", nargs="?", help="folder of the second, same names; or a video")
    judge.add_argument("--fused", type=Path, metavar="F", help="judge these images, or this video, not a network's")
    add_network_options(judge)
    judge.add_argument("--no-steady", action="store_true", help="of videos: hold back no change in the fused one")
    judge.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of all pairs")
    add_json(judge, "the figures")


def add_bench(commands: Any) -> None:
    bench = add(commands, "bench", "measure the speed of a network on this machine")
    bench.add_argument("--size", type=parse_size, metavar="WxH", help="640x480; with CUDA four sizes up to 3840x2160")
    bench.add_argument("--frames", type=parse_count, metavar="N", help="pairs to time (15; with CUDA 300)")
    add_network_options(bench, task=False, model="realtime or cadnif (realtime; with CUDA both)")
    bench.add_argument("--profile", type=Path, metavar="FILE", help="with CUDA: write a trace for ui.perfetto.dev")
    add_json(bench, "the figures")


def add_export(commands: Any) -> None:
    export = add(commands, "export", "write a network as ONNX, and check that against torch")
    export.add_argument("--model", metavar="NAME", help="realtime or cadnif (that of --weights, else realtime)")
    export.add_argument("--task", choices=list(INPUTS), default="infrared")
    export.add_argument("--weights", type=Path, metavar="FILE", help="weights instead of those that come with us")
    export.add_argument(
        "--size", type=parse_size, default=(640, 480), metavar="WxH", help="of the planes; the file is for this one"
    )
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="file to write")


def add_keygen(commands: Any) -> None:
    keygen = add(commands, "keygen", "make the keys of a publisher and of a client that may connect to it")
    keygen.add_argument("folder", type=Path, metavar="DIR", help="for the keys; where some are, a client is added")
    keygen.add_argument("--client", default="client", metavar="NAME", help="name of the client (client)")


def add_network_options(
    parser: argparse.ArgumentParser,
    task: bool = True,
    model: str = "realtime or cadnif (that of --weights, else realtime)",
) -> None:
    if task:
        parser.add_argument("--task", choices=list(INPUTS), default="infrared")
        parser.add_argument("--weights", type=Path, metavar="FILE", help="weights instead of those that come with us")
    parser.add_argument("--model", metavar="NAME", help=model)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return parse_count(width, text), parse_count(height, text)


def parse_seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def parse_port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; legal is 0 (a free one) to 65535")
    return int(text)


def parse_count(text: str, whole: str = "") -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 16384):
        legal = "a size, such as 640x480" if whole else "a number"
        raise argparse.ArgumentTypeError(f"{whole or text!r} is not {legal}; legal is 1 to 16384")
    return int(text)
