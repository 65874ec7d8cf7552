"""The table of calls that clients can make: name, arity, and whether something comes back."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import VOID, Wire, failed, ok, void_failed
from roadworthy.agent.town.world import World


@dataclass
class TrafficManagers:
    """The Traffic Managers that clients run, by port, with the connection that registered them."""

    by_port: dict[int, tuple[str, int]] = field(default_factory=dict)  # port -> (address, client)

    def forget(self, client: int) -> None:
        """Drop those of a client that has gone."""
        self.by_port = {port: entry for port, entry in self.by_port.items() if entry[1] != client}


@dataclass
class Context:
    """What a call may touch: the world, and who is calling."""

    world: World
    managers: TrafficManagers
    client: int = 0
    expect_subscriber: Callable[[int], None] = lambda _stream: None  # a client is about to subscribe to this stream
    ended: Callable[[int], None] = lambda _stream: None  # a sensor's stream has ended


Function = Callable[..., Wire]


@dataclass(frozen=True)
class Call:
    """One entry of the table. A void call answers with an optional error, any other with a value or an error."""

    function: Function
    void: bool
    least: int  # arguments besides the context
    most: int | None  # None: any number


CALLS: dict[str, Call] = {}


def returns_value(function: Function) -> Function:
    """Register a call that answers with a value; its name is the function's."""
    return _register(function, void=False)


def returns_nothing(function: Function) -> Function:
    """Register a call that answers only whether it worked."""
    return _register(function, void=True)


def _register(function: Function, *, void: bool) -> Function:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    least = sum(p.default is p.empty and p.kind != p.VAR_POSITIONAL for p in parameters)
    most = None if any(p.kind == p.VAR_POSITIONAL for p in parameters) else len(parameters)
    name = function.__name__
    assert name not in CALLS, name
    CALLS[name] = Call(function, void, least, most)
    return function


def call(context: Context, name: str, arguments: Sequence[Wire], on_fault: Callable[[str], None]) -> tuple[str | None, Wire]:
    """Make one call. Returns (rpc error, result): the first is set for calls that the town does not have.

    A refusal becomes an error result. A fault of the town itself too: one call must not end the server; `on_fault` gets
    its traceback.
    """
    entry = CALLS.get(name)
    if entry is None:
        return f"the town has no function '{name}' (it was called with {len(arguments)} arguments)", None
    if len(arguments) < entry.least or (entry.most is not None and len(arguments) > entry.most):
        wanted = str(entry.least) if entry.most == entry.least else f"{entry.least} to {entry.most}"
        return f"function '{name}' was called with {len(arguments)} arguments, expected {wanted}", None
    try:
        result: Any = entry.function(context, *arguments)
    except CallRefused as refusal:
        return None, void_failed(str(refusal)) if entry.void else failed(str(refusal))
    except Exception as fault:  # noqa: BLE001 - the border of the server: whatever a client sent, the others live on
        on_fault(f"{name}: {traceback.format_exc()}")
        message = f"the town failed in '{name}': {type(fault).__name__}: {fault}"
        return None, void_failed(message) if entry.void else failed(message)
    if name == "apply_batch":
        return None, result  # its list of results stands alone
    return None, VOID if entry.void else ok(result)
