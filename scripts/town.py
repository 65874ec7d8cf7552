"""`roadworthy town`: the embedded CARLA 0.9.16 server, for any CARLA script."""

from __future__ import annotations

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65534), default=2000, show_default=True,
              help="RPC port; streams use the next one. 0 finds a free pair.")  # fmt: skip
@click.option("--map", "map_name", default="Grid01", show_default=True,
              help="A shipped town (Grid01, Grid02, Crooked01, Ring01) or the path of any .xodr file.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the scenery and the traffic lights.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; whoever can reach it controls the town.")  # fmt: skip
@click.option("--mirror-latitude", is_flag=True,
              help="GNSS latitude falls with +y, as in CARLA up to 0.9.15 and the leaderboard.")  # fmt: skip
@click.pass_context
def command(ctx: click.Context, port: int, map_name: str, seed: int, host: str, mirror_latitude: bool) -> None:
    """Run the town until Ctrl-C: a CARLA 0.9.16 server without a GPU that CARLA's own Python client drives.

    Prints one line of JSON with the port when it is ready. Then, in any CARLA script: carla.Client("127.0.0.1", 2000)
    """
    from roadworthy.agent.town.__main__ import main

    switches = ["--mirror-latitude"] if mirror_latitude else []
    ctx.exit(main(["--port", str(port), "--map", map_name, "--seed", str(seed), "--host", host, *switches]))
