"""Config: one YAML a process, top-level keys are node names. Every mistake is answered before anything opens."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from pipeline.errors import ConfigError, did_you_mean
from pipeline.node import Node
from pipeline.pipeline import Pipeline

NodeTypes = Mapping[str, Callable[[], type[Node]]]
"""What may stand behind `type:`, each with the function that imports its class: a capture box needs no torch."""

WIRING = ("type", "inputs", "queue_size")  # keys of every node; the others are its constructor's


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML forbids a key twice in one mapping, PyYAML keeps the last in silence: here a node would vanish."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *base` may stand anywhere; what is no scalar is no key either, says PyYAML below
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands here twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The nodes of a YAML file: name to its settings, `type` and `inputs`, as written."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    try:
        tree = yaml.load(text, UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, such as 2026-13-01
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise ConfigError(f"{place}: not valid YAML: {problem}") from error
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: a config is a mapping of node names to their settings, got {kind(tree)}")
    for name, settings in tree.items():
        if not isinstance(name, str) or not isinstance(settings, dict):
            raise ConfigError(f"{path}: node {name!r} must be a mapping with a 'type', got {kind(settings)}")
    return tree


def kind(value: Any) -> str:
    """What a value of YAML is, in its words."""
    if value is None or value == {} or value == []:
        return "nothing"
    words: dict[type, str] = {dict: "a mapping", list: "a list", str: "text"}
    return words.get(type(value), repr(value))


def override(tree: dict[str, dict[str, Any]], assignments: Sequence[str]) -> None:
    """Put `node.setting=value` from the command line into the tree; values are read as YAML."""
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        name, dot, setting = target.partition(".")
        if not (equals and dot and name and setting):
            raise ConfigError(f"{assignment!r}: an override is written node.setting=value")
        if name not in tree:
            raise ConfigError(f"{assignment!r}: there is no node {name!r}.{did_you_mean(name, tree)}")
        try:
            tree[name][setting] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{assignment!r}: the value is not valid YAML; put it in quotes: '\"...\"'") from error


def build(tree: Mapping[str, Mapping[str, Any]], types: NodeTypes) -> Pipeline:
    """Make the nodes with their settings, and draw the arrows.

    Raises:
        ConfigError: anything that is wrong, in one line.
    """
    nodes = {name: make_node(name, settings, types) for name, settings in tree.items()}
    inputs = {name: arrows(name, tree[name], node) for name, node in nodes.items()}
    return Pipeline(nodes, inputs, {name: queue_size(name, tree[name]) for name in nodes if "queue_size" in tree[name]})


def queue_size(name: str, settings: Mapping[str, Any]) -> int:
    size = settings["queue_size"]
    if not isinstance(size, int) or size < 2:
        raise ConfigError(f"Node {name!r}: 'queue_size' must be a whole number of at least 2, got {size!r}")
    return size


def make_node(name: str, settings: Mapping[str, Any], types: NodeTypes) -> Node:
    """A node from its settings, checked against the constructor's parameters and annotations."""
    type_name = settings.get("type")
    if not isinstance(type_name, str):
        raise ConfigError(f"Node {name!r} needs a 'type', one of: {', '.join(sorted(types))}")
    if type_name not in types:
        raise ConfigError(f"Node {name!r}: there is no type {type_name!r}.{did_you_mean(type_name, types)}")
    where = f"Node {name!r} ({type_name})"
    try:
        cls = types[type_name]()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{where} needs the package {error.name!r}, which is not installed") from error
    given = {key: value for key, value in settings.items() if key not in WIRING}
    known = setting_names(cls)
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} has no setting {key!r}.{did_you_mean(str(key), known) or ' It has none.'}")
    try:
        values = settings_model(cls).model_validate(given)
        return cls(**{key: getattr(values, key) for key in known})
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {first_mistake(error, given)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def setting_names(cls: type[Node]) -> list[str]:
    return list(inspect.signature(cls).parameters)


def settings_model(cls: type[Node]) -> type[pydantic.BaseModel]:
    """The constructor's signature as a pydantic model."""
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    config = pydantic.ConfigDict(protected_namespaces=(), arbitrary_types_allowed=True)
    return pydantic.create_model(cls.__name__, __config__=config, **fields)


def first_mistake(error: pydantic.ValidationError, given: Mapping[str, Any]) -> str:
    """The first mistake of several, in words of ours where pydantic's would puzzle."""
    mistake = error.errors(include_url=False)[0]
    setting = str(mistake["loc"][0])  # the rest says where within a list, or which of several types was tried
    if setting not in given:
        return f"needs the setting {setting!r}"
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    return f"setting {setting!r} is {given[setting]!r}: {message}"


def arrows(name: str, settings: Mapping[str, Any], node: Node) -> dict[str, str]:
    """`inputs: camera` for a node with one input, `inputs: {infrared: thermal, visible: rgb}` for several."""
    given, wanted = settings.get("inputs"), node.inputs()
    if given is None:
        return {}
    if isinstance(given, str) and len(wanted) == 1:
        return {wanted[0]: given}
    if isinstance(given, dict) and all(isinstance(part, str) for pair in given.items() for part in pair):
        return dict(given)
    example = "NODE" if len(wanted) == 1 else "{" + ", ".join(f"{key}: NODE" for key in wanted) + "}"
    legal = f"write inputs: {example}" if wanted else "it has none"
    raise ConfigError(f"Node {name!r}: 'inputs' is {kind(given)}; {legal}")
