"""`roadworthy drive score`: the papers' driving tables and the CARLA leaderboard's scores from recorded episodes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from roadworthy.scripts.terminal import console

if TYPE_CHECKING:
    from roadworthy.agent.episodes import Episode


@click.command()
@click.argument("episodes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rules", type=click.Choice(["1.0", "2.0", "2.1"]), default="2.1", show_default=True,
              help="Version of the CARLA leaderboard's rules.")  # fmt: skip
@click.option("--leaderboard", type=click.Path(path_type=Path), help="Write the leaderboard's own result file (one driver).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all figures with their intervals.")
def score(episodes: tuple[Path, ...], rules: str, leaderboard: Path | None, json_path: Path | None) -> None:
    """Score EPISODES (files written by drive eval): kilometres between infractions, success, leaderboard scores.

    Example: roadworthy drive score drivers/imitated/episodes.jsonl --leaderboard result.json
    """
    from roadworthy.agent.episodes import read_episodes
    from roadworthy.eval import leaderboard as rule_book
    from roadworthy.eval.driving import drive_summary, route_following, usable
    from roadworthy.runtime.errors import BadInput
    from roadworthy.runtime.files import write_text

    missing = [str(path) for path in episodes if not path.is_file()]
    if missing:
        raise BadInput(f"{', '.join(missing)}: no such episodes file; write one with roadworthy drive eval")
    found = usable(episode for path in episodes for episode in read_episodes(path))
    if not found:
        raise BadInput(f"{', '.join(map(str, episodes))}: no usable episodes; drive first")
    facts = []
    for (segmenter, suite), chosen in _rows(found).items():
        scores = [rule_book.score(episode, rules) for episode in chosen]  # type: ignore[arg-type]  # click checked it
        facts.append({
            "segmenter": segmenter,
            "suite": suite,
            **drive_summary(chosen).to_dict(),
            "route_following": {
                key: value if math.isfinite(value) else None for key, value in vars(route_following(chosen)).items()
            },
            "leaderboard": {
                "rules": rules,
                "not_measured": list(rule_book.NOT_MEASURED),
                **{
                    name: sum(values) / len(values)
                    for name, values in zip(rule_book.SCORES, zip(*scores, strict=True), strict=True)
                },
            },
        })  # fmt: skip
    _print(facts, rules)
    if json_path is not None:
        write_text(json_path, json.dumps(facts, indent=1))
        console.print(f"figures with intervals: {json_path}")
    if leaderboard is not None:
        rule_book.write_leaderboard(found, leaderboard, rules)  # type: ignore[arg-type]
        console.print(f"leaderboard result file (rules {rules}): {leaderboard}")


def _rows(episodes: list[Episode]) -> dict[tuple[str, str], list[Episode]]:
    """Sort episodes by segmenter and suite: the policy seeds of a study share a row, other drivers of one name do not."""
    from roadworthy.eval.driving import driver_of

    models: dict[str, set[str]] = {}  # digests by name of the segmenter
    policies: dict[tuple[str, str, int], set[tuple[str, ...]]] = {}  # by name and digest of the segmenter, and policy seed
    for episode in episodes:
        model, *policy = driver_of(episode)
        models.setdefault(episode.segmenter, set()).add(model)
        policies.setdefault((episode.segmenter, model, episode.policy_seed), set()).add(tuple(policy))
    several = {(name, model) for (name, model, _), found in policies.items() if len(found) > 1}
    rows: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        words = [episode.segmenter]
        if len(models[episode.segmenter]) > 1:
            words.append(f"({episode.again.get('model', 'model not said')})")
        if (episode.segmenter, driver_of(episode)[0]) in several:
            words.append(f"with {episode.again.get('policy', 'a policy not said')}")
        rows.setdefault((" ".join(words), episode.suite), []).append(episode)
    return rows


def _print(facts: list[dict[str, object]], rules: str) -> None:
    """Print one row per segmenter and suite in three tables: success, infractions, scores."""
    reached, between, scores = (Table(*columns, box=None) for columns in (
        ("segmenter", "suite", "drives", "finished %", "drive %", "km", "km/h", "km per out-of-lane", "km per collision"),
        ("segmenter", "suite", "km between: person", "car", "static", "off-line", "off-road"),
        ("segmenter", "suite", "driving score", "route completion", "infraction penalty"),
    ))  # fmt: skip
    for row in facts:
        name, suite = str(row["segmenter"]), str(row["suite"])
        following, success, board = row["route_following"], row["success"], row["leaderboard"]
        kinds = row["between"]
        assert isinstance(following, dict)
        assert isinstance(success, dict)
        assert isinstance(board, dict)
        assert isinstance(kinds, dict)
        km = following["km"]
        faults = [
            f"> {km:.2f}" if following[key] is None else f"{following[key]:.2f}"
            for key in ("km_per_out_of_lane", "km_per_collision")
        ]
        reached.add_row(
            name, suite, str(row["episodes"]), f"{100 * success['value']:.0f}", f"{following['drive_percent']:.0f}",
            f"{km:.2f}", f"{following['km_per_h']:.1f}", *faults,
        )  # fmt: skip
        between.add_row(name, suite, *(kinds[kind]["words"] for kind in kinds))
        scores.add_row(
            name, suite, f"{board['score_composed']:.1f}", f"{board['score_route']:.1f}", f"{board['score_penalty']:.3f}"
        )
    console.print(reached, "", between, "", f"CARLA leaderboard, rules {rules} (red lights, stop signs, speed and scenarios are"
                  " not measured: upper bounds)", scores, sep="\n")  # fmt: skip
