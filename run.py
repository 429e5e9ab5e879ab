"""The command line of streamfuse: `python run.py --help`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import nodes
from nodes import shorthand, simulate, viewing
from nodes.commands import parse
from nodes.console import (
    check_json_target,
    ending_on_signals,
    run_to_the_end,
    say,
    say_aside,
    say_error,
    write_json,
)
from nodes.pictures import check_target, write_whole
from nodes.processes import child, plan
from nodes.processes.link import Link
from nodes.processes.supervisor import Supervisor
from nodes.tasks import INPUTS
from pipeline import config
from pipeline.errors import INTERRUPTED, ConfigError, OutputError, StreamfuseError

log = logging.getLogger("streamfuse")

PROGRAM = (sys.executable, str(Path(__file__).resolve()))  # what we are started with, to start more of us


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    try:
        options = parse(list(sys.argv[1:] if arguments is None else arguments))
        logging.basicConfig(level=logging.WARNING if options.quiet else logging.INFO, format="%(message)s", force=True)
        check_json_target(getattr(options, "json", None))
        code = COMMANDS[options.command](options)
    except StreamfuseError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def do_run(options: argparse.Namespace) -> int:
    if len(options.configs) > 1:
        return run_processes(options)
    if options.link is not None:
        return run_as_child(options)
    return run_pipeline(read_trees(options)[options.config], options.json, options.seconds)


def read_trees(options: argparse.Namespace) -> dict[Path, plan.Tree]:
    """The configs as the command line wants them, by file."""
    trees: dict[Path, plan.Tree] = {}
    for path in options.configs:
        plan.refuse_twice(path, trees)
        trees[path] = config.read(path)
    everything = plan.merged(trees)
    config.override(everything, options.overrides)
    shorthand.refuse_clashes(everything)
    if not options.simulate:
        return trees
    several = len(trees) > 1
    wanted = [path for path, tree in trees.items() if not several or plan.has_camera(tree)]
    if not wanted:
        raise ConfigError("--simulate: none of these configs has a camera or a network stream; leave the option out")
    return trees | {path: simulate.simulated(trees[path], nodes.TYPES) for path in wanted}


def run_processes(options: argparse.Namespace) -> int:
    """Each config in a process of its own, to the end of all; one summary; the exit code."""
    jobs = plan.jobs(read_trees(options), options.overrides, simulate=options.simulate, quiet=options.quiet)
    width = max(len(job.name) for job in jobs)

    def start_child(job: plan.Job) -> child.Child:
        return child.Child(job, PROGRAM, child.Relay(f"{job.name:<{width}} | ", say_aside))

    supervisor = Supervisor(jobs, start_child, child.wait, options.seconds)
    with ending_on_signals(supervisor.stop, supervisor.kill):
        report = supervisor.run()
    for line in report.lines():
        log.info("%s", line)
    code, failure = report.code, StreamfuseError(report.error) if report.error else None
    try:
        write_json(report.figures(), options.json)
    except OutputError as error:
        if failure is None:
            code, failure = error.exit_code, error
    if failure:
        say_error(failure)
    return code


def run_as_child(options: argparse.Namespace) -> int:
    """One of several configs, when all of them have been found right."""
    parent = Link(options.link)
    try:
        (tree,) = read_trees(options).values()
        pipeline = config.build(tree, nodes.TYPES)
        parent.tell(mode=pipeline.mode)
        return run_to_the_end(pipeline, None, parent=parent) if parent.wait_for_go() else INTERRUPTED
    except StreamfuseError as error:
        say_error(error, parent)
        return error.exit_code


def do_check(options: argparse.Namespace) -> int:
    for path, tree in read_trees(options).items():
        pipeline = config.build(tree, nodes.TYPES)
        pipeline.check()
        say(f"{path}: ready to run, {pipeline.mode} mode, nodes: {', '.join(pipeline.steps)}")
    return 0


def do_fuse(options: argparse.Namespace) -> int:
    keys = ("task", "model", "weights", "device", "precision", "max_skew_ms")
    settings = {key: getattr(options, key) for key in keys}
    sources = [source for source in (options.first, options.second, options.third) if source]
    tree = shorthand.tree(sources, options.output, settings, fps=options.fps, codec=options.codec)
    return run_pipeline(tree, options.json, options.seconds)


def run_pipeline(tree: dict[str, dict[str, Any]], json_to: str | None, seconds: float | None) -> int:
    shorthand.refuse_clashes(tree)
    return run_to_the_end(config.build(tree, nodes.TYPES), json_to, seconds)


def do_view(options: argparse.Namespace) -> int:
    wanted = viewing.Wanted(**{field.name: getattr(options, field.name) for field in fields(viewing.Wanted)})
    pipeline = config.build(viewing.tree(wanted), viewing.types(nodes.TYPES, wanted.most_frames))
    watch = viewing.Watch(wanted)
    code = run_to_the_end(pipeline, options.json, options.seconds, watch.show)
    if code == 0:
        watch.refuse_nothing(pipeline)
    return code


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
    from nodes.fusion.network import find_device

    bench = bench_gpu if find_device(options.device).type == "cuda" else bench_processor
    figures, lines = bench(options)
    if options.json != "-":
        say("\n".join(lines))
    write_json(figures, options.json)
    return 0


def bench_processor(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from models import catalog
    from nodes.fusion import bench

    if options.profile:
        raise ConfigError("--profile is for CUDA, and this is the CPU: leave it out")
    of = options.model or catalog.DEFAULT, options.size or bench.SIZE
    figures = bench.measure(*of, options.device, options.precision, options.frames or bench.FRAMES)
    return figures, bench.lines(figures)


def bench_gpu(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from models import catalog
    from nodes.fusion import bench_cuda

    models = [options.model] if options.model else list(catalog.MODELS)
    sizes = [options.size] if options.size else bench_cuda.SIZES
    frames = options.frames or bench_cuda.FRAMES
    figures = bench_cuda.measure(models, sizes, options.precision, frames, options.profile)
    return figures, bench_cuda.lines(figures)


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


def do_doctor(options: argparse.Namespace) -> int:
    from nodes import doctor

    machine, equipment = doctor.Machine(), None
    with suppress(ImportError, OSError):  # a capture box needs no torch
        from nodes.fusion.equipment import look, tell

        equipment = tell(look(), machine.cores(), machine.driver())
    rows = doctor.examine(machine, equipment)
    if options.json != "-":
        say(doctor.table(rows))
    write_json([asdict(row) for row in rows], options.json)
    doctor.refuse_broken(rows)
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


def do_keygen(options: argparse.Namespace) -> int:
    from streamfuse import keys

    for file in keys.make(options.folder, options.client):
        say(str(file))
    log.info("the client needs server.key and %s.key_secret, in a folder of its own, and no others", options.client)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": do_run,
    "check": do_check,
    "fuse": do_fuse,
    "view": do_view,
    "train": do_train,
    "eval": do_eval,
    "bench": do_bench,
    "models": do_models,
    "doctor": do_doctor,
    "export": do_export,
    "keygen": do_keygen,
}


def start() -> NoReturn:
    """The program. All files are closed when `main` returns; Python and torch would take a second and more to take
    themselves apart, on a busy machine many, while somebody who pressed Ctrl-C waits."""
    code = main()
    with suppress(OSError):  # nobody may be reading any more
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
