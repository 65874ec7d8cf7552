"""`python -m roadworthy.agent.town`: run the town. Prints one JSON line, {"port": ..., "map": ...}, when it is ready."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
from pathlib import Path

from roadworthy.agent.town.cold_start import Helper, compile_geometry, compile_motion, note_complete
from roadworthy.agent.town.errors import TownError
from roadworthy.agent.town.loaded_map import MapShelf, check_strangers_map
from roadworthy.agent.town.orphan import end_with
from roadworthy.agent.town.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code (2: unusable options, with the reason on stderr)."""
    parser = argparse.ArgumentParser(
        prog="python -m roadworthy.agent.town", description="The town: an embedded CARLA 0.9.16 server."
    )
    parser.add_argument("--port", type=int, default=2000, help="RPC port; streams use the next one; 0 finds a free pair")
    parser.add_argument("--map", default="Grid01", help="a shipped map, or a path to any .xodr file")
    parser.add_argument("--seed", type=int, default=0, help="of the scenery and the traffic lights")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; anyone who can reach it controls the town")
    parser.add_argument(
        "--mirror-latitude",
        action="store_true",
        help="GNSS latitude falls with +y, as in CARLA up to 0.9.15 and the leaderboard",
    )
    parser.add_argument("--owner", type=int, metavar="PID", help="end when this process, which started the town, ends")
    options = parser.parse_args(arguments)
    if options.owner is not None:
        end_with(options.owner)
    with Helper() as helper:
        server = _start(options, helper)
    if server is None:
        return 2
    gc.collect()
    gc.freeze()  # the map's objects stay: full collections during ticks need not look at them
    print(json.dumps({"port": server.port, "map": server.world.map.name}), flush=True)
    server.run()
    return 0


def _start(options: argparse.Namespace, helper: Helper) -> Server | None:
    """A server that makes no client wait for a compiler; None, with the reason on stderr, when the options are unusable."""
    compile_geometry()  # before the helper gets as far
    try:
        shelf = MapShelf(options.seed)
        server = Server(
            _offer(shelf, options.map), port=options.port, seed=options.seed, host=options.host, shelf=shelf, log=_log
        )
    except (TownError, OSError) as error:
        _log(str(error))
        return None
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    # Ctrl-C reaches the whole group at once; a child waits for its owner, who still needs it to clean up.
    signal.signal(signal.SIGINT, signal.SIG_IGN if options.owner is not None else lambda *_: server.stop())
    server.world.latitude_mirrored = options.mirror_latitude
    server.world.warm_up_pictures()
    _ = server.world.map.navmesh  # every client asks for it first: no one's short time-out shall pay for building it
    helper.wait()
    compile_motion()
    note_complete()
    return server


def _offer(shelf: MapShelf, name: str) -> str:
    """Put a map file on the shelf; a plain name is a shipped map. Returns the name to load."""
    if not name.endswith(".xodr"):
        return name
    path = Path(name)
    text = path.read_text()
    check_strangers_map(text)
    shelf.add(path.stem, text)
    return path.stem


def _log(message: str) -> None:
    sys.stderr.write(f"town: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
