"""Every error that a user can cause or meet, and the exit code that the command line gives it.

    StreamfuseError
    |- ConfigError       2  the config or the command line is wrong
    |- SourceError       3  an input is missing, unreadable or cut short
    |  '- SourceFailed   3  another process that gives it has failed
    |- DeviceError       4  the asked-for device is not there or failed
    |- OutputError       5  a result cannot be written
    |- FramesLost        6  fewer frames came out than recorded mode promises

A message is one line: where, what came, what is legal, what to do next. Anything else that is raised is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT, as shells have it


class StreamfuseError(Exception):
    """Base of all errors that are told in one line."""

    exit_code = 1


class ConfigError(StreamfuseError):
    """The config or the command line is wrong; nothing was opened."""

    exit_code = 2


class SourceError(StreamfuseError):
    """An input is missing, unreadable or cut short."""

    exit_code = 3


class SourceFailed(SourceError):
    """The process that gives the input has failed or is gone: what came of it is no recording that ends too soon, and
    what was made of it is not left as if it were whole."""


class DeviceError(StreamfuseError):
    """The asked-for device is not there or failed."""

    exit_code = 4


class OutputError(StreamfuseError):
    """A result cannot be written."""

    exit_code = 5


class FramesLost(StreamfuseError):
    """Fewer frames came out than recorded mode promises."""

    exit_code = 6


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest known word, else the list of all: the tail of a message on a wrong name."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There is: {', '.join(known)}." if known else ""
