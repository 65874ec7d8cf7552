"""The files of a run folder that hold weights. Only safetensors and JSON: opening a stranger's run executes nothing.

`model.safetensors` + `config.json` are the trained segmenter. `last.ckpt.safetensors` is everything needed to go on:
weights, optimisers and random states as tensors, and the counters as JSON in the file's own header, so that one atomic
rename replaces all of it. `best.safetensors` are the weights that did best on the selection frames, where there are any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import atomic_path, write_text
from roadworthy.runtime.taxonomy import IGNORE, TAXONOMIES, Taxonomy, get_taxonomy
from roadworthy.train.config import CONFIG_FILE, TrainConfig, load_config
from roadworthy.train.models import Segmenter, build_model
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB

MODEL_FILE = "model.safetensors"
MODEL_FACTS_FILE = "config.json"
LAST_FILE = "last.ckpt.safetensors"
BEST_FILE = "best.safetensors"


def save_model(run: Path, model: Segmenter, config: TrainConfig, taxonomy: Taxonomy) -> None:
    """Write the trained segmenter into the run folder: weights and what one must know to use them."""
    facts = {
        "model": config.model,
        **taxonomy_facts(taxonomy),
        "size": list(config.size),
        "objective": config.objective,
        "mean_rgb": list(MEAN_RGB),
        "std_rgb": list(STD_RGB),
        "latent_channels": model.latent_channels,
        "latent_stride": model.latent_stride,
    }
    write_text(run / MODEL_FACTS_FILE, json.dumps(facts, indent=2) + "\n")
    save_weights(run / MODEL_FILE, model.state_dict())


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically. Raises `RoadworthyError` when the disk will not have them."""
    try:
        with atomic_path(path) as temporary:
            save_file(_contiguous(tensors), temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise RoadworthyError(
            f"{path}: cannot be written ({error}); free some space or check the folder's permissions, then go on with --resume"
        ) from error


def load_run(run: Path) -> tuple[Segmenter, TrainConfig, Taxonomy]:
    """Load the trained segmenter of a run folder, in evaluation mode on the CPU. Raises `BadInput` when it is not one."""
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder")
    if not (run / MODEL_FILE).is_file():
        unfinished = (run / LAST_FILE).is_file()
        fix = "its training did not finish: resume it" if unfinished else "expected the folder that `roadworthy train` wrote"
        raise BadInput(f"{run}: no {MODEL_FILE} there; {fix}")
    config = load_config(run / CONFIG_FILE)
    facts_path = run / MODEL_FACTS_FILE
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        classes = tuple(facts["classes"])
        taxonomy = taxonomy_of(facts)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f'{facts_path}: expected a JSON object with "taxonomy" and "classes" ({error!r})') from error
    if classes != taxonomy.classes:
        raise BadInput(f"{facts_path}: its classes are not those of taxonomy {taxonomy.name!r}; it is from another version")
    model = build_model(config.model, len(taxonomy))
    tensors, _ = read_safetensors(run / MODEL_FILE)
    load_weights(model, tensors, run / MODEL_FILE)
    return model.eval(), config, taxonomy


def taxonomy_facts(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return what a model's facts say about its classes, as plain JSON; `taxonomy_of` reads it."""
    return {
        "taxonomy": taxonomy.name,
        "classes": list(taxonomy.classes),
        "palette": [list(colour) for colour in taxonomy.palette],
        "groups": {str(group): list(names) for group, names in taxonomy.groups.items()},
    }


def taxonomy_of(facts: Mapping[str, Any]) -> Taxonomy:
    """Return the taxonomy that a model's facts name, or describe when it is a user's own."""
    name, classes = str(facts["taxonomy"]), tuple(str(value) for value in facts["classes"])
    if name in TAXONOMIES or "palette" not in facts:
        return get_taxonomy(name)
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in facts["palette"])
    groups = {int(group): tuple(names) for group, names in facts["groups"].items()}
    return Taxonomy(name, classes, palette, groups, {index: index for index in range(len(classes))} | {IGNORE: IGNORE})


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a module, all of them. Raises `BadInput` naming the first tensors that do not fit."""
    wanted = module.state_dict()
    wrong = sorted(wanted.keys() ^ tensors.keys())
    wrong += [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if wrong:
        raise BadInput(f"{path}: not the weights of this network; missing, unknown or of another shape: {', '.join(wrong[:5])}")
    module.load_state_dict(dict(tensors))


def save_training(path: Path, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write a resumable checkpoint: named groups of tensors, and JSON-able `state`. Atomic."""
    tensors = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
    save_weights(path, tensors, {"state": json.dumps(dict(state))})


def load_training(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `save_training` wrote. Raises `BadInput` for any other file."""
    tensors, metadata = read_safetensors(path)
    try:
        state = json.loads(metadata["state"])
    except (KeyError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not a training checkpoint; remove it to start over") from error
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    return parts, state


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as named tensors, "INDEX.NAME" with the parameter's place in its groups."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back the state that `optimiser_tensors` gave; the hyper-parameters stay those of `optimiser`."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        # The parameter's own memory format, which the file does not keep: element-wise kernels want both alike.
        kept = torch.empty_like(like).copy_(value) if value.shape == like.shape else value.clone()
        state.setdefault(int(index), {})[name] = kept
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors on the CPU, and its header's metadata. Raises `BadInput` if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error}); copy it again, or train again") from error


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
