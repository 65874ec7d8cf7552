"""Where the gambler bets: the betting maps of a gambling run on images without labels, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.train.checkpoint import LAST_FILE, load_run, load_training, load_weights
from roadworthy.train.losses import betting_map
from roadworthy.train.models.gambler import build_gambler
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives.gambling import GamblingOptions
from roadworthy.train.objectives.spec import parse_spec, read_options

CRITIC = "critic"  # the gambler's part of a checkpoint


def betting_maps(run: Path, images: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    """Return the gambler's bets on what the segmenter of `run` makes of `images` `uint8 [H, W, 3]`.

    Each map is `uint8 [h, w]` at the training size, 255 at the highest bet of its image: the brighter, the surer is the
    gambler that the segmenter is wrong there (arXiv 1908.02711, eq. 6). Raises `BadInput` for a run without a gambler.
    """
    network, config, taxonomy = load_run(run)
    terms = [term for term in parse_spec(config.objective) if term.name == "gambling"]
    if not terms:
        raise BadInput(f"{run}: was trained with {config.objective!r}, expected a run with the objective gambling")
    beta = read_options(GamblingOptions, terms[0].options, "gambling").beta
    path = run / LAST_FILE
    gambler = build_gambler(config.model, len(taxonomy))
    load_weights(gambler, load_training(path)[0].get(CRITIC, {}), path)
    gambler.eval()
    height, width = config.size
    found = []
    with torch.no_grad():
        for image in images:
            shown = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
            frames = normalise(torch.from_numpy(shown.copy()[None]))  # [1, H, W, 3] -> [1, 3, H, W]
            scores = gambler(frames, torch.softmax(network(frames).logits, 1))  # [1, H, W]
            bets = betting_map(scores, beta)[0]  # [H, W]
            found.append((255 * bets / bets.max()).round().to(torch.uint8).numpy())
    return found
