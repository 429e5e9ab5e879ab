"""`run.py keygen`."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.conftest import Command


def modes(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*.key*")}


def test_keygen_makes_keys_and_says_which_the_client_needs(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    done = command("keygen", folder)
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{folder}/{name}"
        for name in ("server.key_secret", "server.key", "client.key_secret", "client.key", "clients/client.key")
    ]
    assert "the client needs server.key and client.key_secret" in done.err
    secret = [name for name, mode in modes(folder).items() if mode == 0o600]
    assert sorted(secret) == ["client.key_secret", "server.key_secret"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_keygen_shows_no_key(command: Command, tmp_path: Path) -> None:
    done = command("keygen", tmp_path / "keys")
    keys = re.findall('-key = "(.*)"', "".join(file.read_text() for file in (tmp_path / "keys").rglob("*.key*")))
    assert len(keys) == 7
    assert not any(key in done.out + done.err for key in keys)


def test_keygen_adds_a_client_to_the_keys_that_are_there(command: Command, tmp_path: Path) -> None:
    command("keygen", tmp_path / "keys")
    done = command("keygen", tmp_path / "keys", "--client", "wall")
    assert done.code == 0
    assert {"wall.key", "wall.key_secret", "clients/wall.key", "clients/client.key"} < set(modes(tmp_path / "keys"))


def test_keygen_writes_no_key_over(command: Command, tmp_path: Path) -> None:
    command("keygen", tmp_path / "keys")
    before = {file: file.read_bytes() for file in (tmp_path / "keys").rglob("*.key*")}
    done = command("keygen", tmp_path / "keys")
    assert done.code == 5
    assert "a key is never written over" in done.error
    assert {file: file.read_bytes() for file in (tmp_path / "keys").rglob("*.key*")} == before


def test_keygen_where_nothing_can_be_written_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("keygen", tmp_path / "file")
    assert done.code == 5
    assert done.error == f"error: {tmp_path}/file: cannot be written: File exists"


@pytest.mark.parametrize("name", ["server", "../client", ""])
def test_keygen_of_a_name_that_is_none_is_a_mistake_of_usage(name: str, command: Command, tmp_path: Path) -> None:
    done = command("keygen", tmp_path / "keys", "--client", name)
    assert done.code == 2
    assert "is no name of a client" in done.error
    assert not (tmp_path / "keys").exists()
