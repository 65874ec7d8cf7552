"""Reading an objective's specification: `TERM + TERM ...` with TERM = `[WEIGHT*]NAME[(option=value, ...)]`."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import TypeVar

from roadworthy.runtime.errors import BadInput

_TERM = re.compile(r"^\s*(?:(?P<weight>[^*()]+?)\s*\*\s*)?(?P<name>[a-z][a-z0-9-]*)\s*(?:\((?P<options>[^()]*)\))?\s*$")

Options = TypeVar("Options")


@dataclass(frozen=True)
class Term:
    """One term of a specification, its options still text."""

    weight: float
    name: str
    options: dict[str, str]


def parse_spec(spec: str) -> list[Term]:
    """Split a specification into terms. Raises `BadInput` showing the term that does not read."""
    terms = []
    for text in re.split(r"\+(?![^(]*\))", spec):  # a plus inside brackets belongs to an option
        match = _TERM.match(text)
        if match is None:
            raise BadInput(
                f"objective {spec!r}: cannot read {text.strip()!r}; expected WEIGHT*NAME(option=value, ...) "
                'joined by +, for instance "cross-entropy + 0.5*wasserstein(metric=huber)"'
            )
        weight = _number(match["weight"] or "1", f"objective {spec!r}: the weight of {match['name']}", float)
        options = {}
        for pair in filter(str.strip, (match["options"] or "").split(",")):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not key or not value:
                raise BadInput(f"objective {spec!r}: cannot read the option {pair.strip()!r}; expected option=value")
            options[key] = value
        terms.append(Term(weight, match["name"], options))
    return terms


def read_options(kind: type[Options], texts: dict[str, str], name: str) -> Options:
    """Fill the options dataclass `kind` from texts. Raises `BadInput` for an unknown option or a value of the wrong type."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, object] = {}
    for key, text in texts.items():
        if key not in defaults:
            known = ", ".join(f"{option}={value}" for option, value in defaults.items()) or "none"
            raise BadInput(f"objective {name!r} has no option {key!r}; its options and defaults: {known}")
        default = defaults[key]
        if isinstance(default, bool):
            if text.lower() not in ("true", "false"):
                raise BadInput(f"option {key} of objective {name!r} is {text!r}, expected true or false")
            values[key] = text.lower() == "true"
        elif isinstance(default, int | float):
            values[key] = _number(text, f"option {key} of objective {name!r}", type(default))
        else:
            values[key] = text
    return kind(**values)


def _number(text: str, what: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError as error:
        raise BadInput(f"{what} is {text!r}, expected a number ({kind.__name__})") from error
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"{what} is {text}, expected a finite number of at least 0")
    return value
