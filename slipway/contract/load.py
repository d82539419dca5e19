"""Reading `project.yaml`, with an error that names file, line, field and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from slipway.contract.checks import Problem, did_you_mean, find_problems
from slipway.contract.model import Contract, Section
from slipway.errors import UserError

Path_ = tuple[str | int, ...]


class ContractError(UserError):
    """Everything that is wrong with one contract, a line for each problem."""

    def __init__(self, source: str, problems: list[tuple[int, Problem]]) -> None:
        self.problems = problems
        lines = []
        for line, problem in problems:
            field = ".".join(map(str, problem.path)) or "(document)"
            lines.append(f"{source}:{line}: {field}: {problem.message}; {problem.fix}")
        super().__init__("\n".join(lines))


class _Loader(yaml.SafeLoader):
    """YAML without surprises: repeated keys are refused, sequences are immutable."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)


def load_contract(path: Path) -> Contract:
    """The contract at `path`. Raises `ContractError` for everything that is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such contract.", "Name one with PROJECT=path/to/project.yaml."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    return parse_contract(text, str(path))


def parse_contract(text: str, source: str = "project.yaml") -> Contract:
    """A contract from YAML text; `source` is the name that errors show."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        loader = _Loader(text)
        try:
            document = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = Problem((), f"not valid YAML: {error.problem}", "mend the YAML at this line")
        raise ContractError(source, [(line, problem)]) from None
    except yaml.YAMLError as error:
        problem = Problem((), f"not valid YAML: {error}", "save the file as plain UTF-8 text")
        raise ContractError(source, [(1, problem)]) from None
    if not isinstance(document, dict):
        problem = Problem((), "not a mapping", "start from the project.yaml of the template")
        raise ContractError(source, [(1, problem)])
    try:
        contract = Contract.model_validate(document)
    except ValidationError as error:
        problems = [_explain(detail, document) for detail in error.errors(include_url=False)]
    else:
        problems = find_problems(contract)
    if problems:
        located = sorted(
            {(_line(root, problem.path), problem) for problem in problems}, key=lambda item: item[0]
        )
        raise ContractError(source, located)
    return contract


def _line(node: yaml.Node | None, path: Path_) -> int:
    """The line of the deepest node on `path` that exists."""
    if node is None:
        return 1
    line = node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(step)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                break
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _explain(detail: ErrorDetails, document: Any) -> Problem:
    path = _in_document(detail["loc"], document)
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return Problem(
            path, "unknown field", did_you_mean(str(path[-1]), _fields_at(path[:-1]) or ())
        )
    if kind == "missing":
        return Problem(path, "a required field is missing", f"add `{path[-1]}:`")
    context = detail.get("ctx", {})
    if kind == "literal_error":
        return Problem(
            path, f"'{detail['input']}' is not allowed", f"use {context.get('expected')}"
        )
    if kind == "value_error":
        text, _, fix = str(context.get("error", message)).partition("; ")
        return Problem(path, text, fix or "correct the value")
    if kind == "string_pattern_mismatch":
        separator = "_" if "_" in str(context.get("pattern")) else "-"
        return Problem(
            path,
            f"'{detail['input']}' is not a valid name",
            f"start with a lower-case letter, go on with those, digits and '{separator}'",
        )
    if kind in ("float_type", "int_type"):
        return Problem(path, f"{detail['input']!r} is not a number", "write one without quotes")
    return Problem(
        path, f"{message[0].lower()}{message[1:]}", f"got {detail['input']!r}; change it"
    )


def _in_document(loc: Path_, document: Any) -> Path_:
    """`loc` without the steps that pydantic adds for union members and keys."""
    path: list[str | int] = []
    here = document
    for at, step in enumerate(loc):
        if step == "[key]":
            continue
        in_tuple = isinstance(here, tuple) and isinstance(step, int) and step < len(here)
        if in_tuple or (isinstance(here, dict) and step in here):
            here = here[step]
        elif at == len(loc) - 1 and isinstance(here, dict):
            path.append(step)
            break
        else:
            continue
        path.append(step)
    return tuple(path)


def _fields_at(path: Path_) -> list[str]:
    """The field names that the contract's model has at `path`."""
    annotation: Any = Contract
    for step in path:
        if _is_section(annotation):
            fields = _named(annotation)
            annotation = _plain(fields[str(step)].annotation) if step in fields else None
        else:
            inner = get_args(annotation)
            annotation = next((item for item in inner if _is_section(item)), None)
    return list(_named(annotation)) if _is_section(annotation) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _named(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _plain(annotation: Any) -> Any:
    """`Search` for `Search | None`; containers stay as they are."""
    inner = [item for item in get_args(annotation) if item is not type(None)]
    return inner[0] if len(inner) == 1 and _is_section(inner[0]) else annotation
