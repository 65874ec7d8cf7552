"""`apply_batch`: many commands in one call, each answered on its own."""

from __future__ import annotations

from roadworthy.agent.town import actions
from roadworthy.agent.town.calls import Context, returns_value
from roadworthy.agent.town.calls_actors import checked_description, end_actor
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import Command, Wire, array, failed, flag, integer, ok, transform

MAX_COMMANDS = 20_000
MAX_DEPTH = 4  # of commands that follow a spawn, and theirs


@returns_value
def apply_batch(context: Context, commands: Wire, do_tick: Wire = False) -> Wire:
    """Apply commands in order; answers one result per command (the actor's id, or why not). The server does the tick."""
    if len(array(commands, "commands")) > MAX_COMMANDS:
        raise CallRefused(f"batch of {len(commands)} commands: expected at most {MAX_COMMANDS}")
    flag(do_tick, "do_tick")
    return [_answer(context, command, 0, MAX_DEPTH) for command in commands]


def _answer(context: Context, command: Wire, spawned: int, depth: int) -> Wire:
    try:
        return ok(_apply(context, command, spawned, depth))
    except CallRefused as refusal:
        return failed(str(refusal))


def _apply(context: Context, command: Wire, spawned: int, depth: int) -> int:
    """Apply one command; `spawned` stands for the actor id 0. Returns the id of the actor it was about."""
    index, fields = array(array(command, "command", 1)[0], "command", 2)
    number = integer(index, "command number")
    array(fields, "command fields")
    if number == Command.SPAWN_ACTOR:
        return _spawn(context, fields, spawned, depth)
    if number == Command.CONSOLE:
        raise CallRefused("console commands are Unreal Engine's; the town has no console")
    if not fields:
        raise CallRefused(f"command {number}: expected an actor id, got nothing")
    id_ = integer(fields[0], "actor id") or spawned
    if number == Command.DESTROY_ACTOR:
        end_actor(context, context.world.roster.living(id_))
        return id_
    if number not in list(actions.ACTIONS):
        raise CallRefused(f"unknown command {number}")
    action = actions.ACTIONS[Command(number)]
    actor = context.world.roster.living(id_)
    actions.act(action, context, actor, fields[1:])
    return id_


def _spawn(context: Context, fields: Wire, spawned: int, depth: int) -> int:
    if len(fields) < 4:
        raise CallRefused(f"SpawnActor: expected at least 4 fields, got {len(fields)}")
    if depth <= 0:
        raise CallRefused("SpawnActor: commands nested too deep")
    description, pose, parent = checked_description(fields[0]), transform(fields[1]), array(fields[2], "parent")
    # The attachment (fields[3]) is uninitialised memory of the client when there is no parent: it is not looked at.
    parent_id = integer(parent[1], "parent") or spawned if len(parent) == 2 and parent[0] else 0
    actor = context.world.spawn(description, pose, parent_id)
    for command in array(fields[-1], "commands after the spawn") if len(fields) > 4 else ():
        _answer(context, command, actor.id, depth - 1)
    return actor.id
