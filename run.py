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
COMMANDS = ("run", "fuse", "check", "train", "eval", "bench")
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}


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
    fuse.add_argument("first", metavar="A", help="the first input of the task: infrared, under, near or mri")
    fuse.add_argument("second", metavar="B", help="the second: visible (gives size and colour), over, far or other")
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
    refuse_clashes(tree)
    pipeline = config.build(tree, nodes.TYPES)
    pipeline.check()
    print(f"{options.config}: ready to run, {pipeline.mode} mode, nodes: {', '.join(pipeline.steps)}")
    return 0


def do_fuse(options: argparse.Namespace) -> int:
    first, second = options.first, options.second
    kinds = {path: kind_of(Path(path)) for path in (first, second)}
    if len(set(kinds.values())) > 1:
        raise ConfigError(f"{first} is {kinds[first]}, {second} is {kinds[second]}: both must be of one kind")
    kind = kinds[first]
    if kind == "a folder":
        check_same_names(Path(first), Path(second))
    task_inputs = {"infrared": ("infrared", "visible"), "exposure": ("under", "over")}
    task_inputs |= {"focus": ("near", "far"), "medical": ("mri", "other")}
    names = task_inputs[options.task]
    settings = {
        key: getattr(options, key) for key in ("task", "model", "weights", "device", "precision", "max_skew_ms")
    }
    tree: dict[str, dict[str, Any]] = {
        name: {"type": "capture.video", "path": path, "fps": options.fps}
        for name, path in zip(names, (first, second), strict=True)
    }
    tree["fuse"] = {"type": "fusion.fuse", "inputs": {name: name for name in names}, **settings}
    tree["output"] = {"inputs": "fuse", "path": str(options.output), **output_for(kind, options)}
    return run_pipeline(tree, options.json)


def kind_of(path: Path) -> str:
    from nodes.pictures import IMAGE_SUFFIXES

    if path.is_dir():
        return "a folder"
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    return "an image" if path.suffix.lower() in IMAGE_SUFFIXES else "a video"


def output_for(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Type of the output node, by what goes in and by the name of what shall come out."""
    from nodes.pictures import IMAGE_SUFFIXES

    suffix = options.output.suffix.lower()
    if kind == "an image":
        if suffix not in IMAGE_SUFFIXES:
            legal = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ConfigError(f"-o {options.output}: two images become an image; legal are {legal}")
        return {"type": "output.images"}
    if suffix in VIDEO_SUFFIXES:
        return {"type": "output.video", "codec": options.codec}
    if suffix and not options.output.is_dir():
        legal = ", ".join(sorted(VIDEO_SUFFIXES))
        raise ConfigError(
            f"-o {options.output}: {suffix} is no video we write; legal are {legal}, or a folder for images"
        )
    return {"type": "output.images"}


def check_same_names(first: Path, second: Path) -> None:
    """Two folders pair by the names of their images."""
    from nodes.pictures import IMAGE_SUFFIXES

    a, b = ({p.stem for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES} for folder in (first, second))
    if a != b:
        parts = [
            f"{len(only)} names only in {folder} (the first is {min(only)!r})"
            for folder, only in ((first, a - b), (second, b - a))
            if only
        ]
        raise SourceError(f"the folders do not pair: {', '.join(parts)}; both need the same names")


def refuse_clashes(tree: dict[str, dict[str, Any]]) -> None:
    """No output may be written over an input or over another output."""
    taken: dict[Path, str] = {}
    for name, settings in sorted(tree.items(), key=lambda item: str(item[1].get("type")).startswith("output")):
        if not isinstance(settings.get("path"), str):
            continue
        path = Path(settings["path"]).resolve()
        output = str(settings.get("type")).startswith("output.")
        if output and path in taken:
            raise ConfigError(
                f"Node {name!r} would write over {settings['path']!r}, which node {taken[path]!r} uses too"
            )
        taken[path] = name


def run_pipeline(tree: dict[str, dict[str, Any]], json_to: str | None) -> int:
    """Run the nodes of a tree to their end; one summary, also after a failure."""
    refuse_clashes(tree)
    pipeline = config.build(tree, nodes.TYPES)
    interrupted = end_on_signals(pipeline)
    try:
        with Progress(pipeline) as progress:
            summary = pipeline.run(progress.show)
    except StreamfuseError as error:
        if (summary := getattr(error, "summary", None)) is not None:
            tell(summary, json_to)
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
    import pydantic

    from models import training
    from nodes.fusion.network import find_device

    settings = read_settings(options.config, options.overrides)
    try:
        wanted = training.TrainingConfig.model_validate(settings)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{options.config}: {config.first_mistake(error)}") from error
    device = find_device(options.device)
    try:
        path = training.train(wanted, device=device.type, restart=options.restart, say=log.info)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(path)
    return 0


def read_settings(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """A training config with `setting=value` put in."""
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: a training config is a mapping of settings")
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: an override is written setting=value")
        settings[name] = yaml.safe_load(value)
    return settings


def do_eval(options: argparse.Namespace) -> int:
    import cv2

    from models import evaluation
    from models.data import read_luma
    from nodes.fusion.network import Network

    try:
        pairs = evaluation.find_pairs(options.first, options.second)
        if options.fused:
            ready = evaluation.from_folder(options.fused)
            name, fuse = str(options.fused), lambda stem, a, b: ready(stem)
        else:
            network = Network(options.model, options.task, options.weights, options.device, options.precision)
            name = f"{options.model} {network.precision}"
            fuse = lambda stem, a, b: network.fuse(a, b, ("full", "full"), "full")  # noqa: E731
        controls = {key: (lambda stem, a, b, do=do: do(a, b)) for key, do in evaluation.CONTROLS.items()}
        fusions = {**controls, name: fuse}
        means = evaluation.evaluate(pairs, options.task, fusions)
    except ValueError as error:
        raise SourceError(str(error)) from error
    log.info(
        "%d pairs, %s ... %s, from %s and %s", len(pairs), pairs[0][0], pairs[-1][0], options.first, options.second
    )
    if options.json != "-":
        print(evaluation.table(means))
    write_json(
        {"pairs": len(pairs), "task": options.task, "names": [p[0] for p in pairs], "means": means}, options.json
    )
    if options.sheet:
        rows = []
        for stem, first, second in pairs:
            a, b = read_luma(first), read_luma(second)
            rows.append([a, b, *(fuse(stem, a, b) for fuse in fusions.values())])
        if not cv2.imwrite(str(options.sheet), evaluation.sheet(rows, ["first", "second", *fusions])):
            raise OutputError(f"{options.sheet}: cannot be written")
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
