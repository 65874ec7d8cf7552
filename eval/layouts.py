"""How good generated layouts are: SWD (alike at every scale?), MS-SSIM (all the same?), FID (alike as a whole?)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.eval.frechet import Inception, frechet_distance
from roadworthy.eval.sliced_wasserstein import sliced_wasserstein
from roadworthy.eval.structural_similarity import mean_similarity
from roadworthy.runtime.errors import BadInput
from roadworthy.train.layouts import LayoutModel, read_layouts

Pictures = npt.NDArray[np.uint8]  # [M, H, W, 3] RGB

MOST = 4096  # pictures of each kind that are compared, unless told otherwise; more need 75 kB of memory each


@dataclass(frozen=True)
class LayoutScores:
    """What the pictures of a generator's layouts score against those of real ones; smaller is better throughout."""

    pictures: int  # of each kind
    swd: Mapping[int, float]  # sliced Wasserstein distance times 1000, by level (shorter side) [pixels]
    swd_mean: float  # over the levels
    ms_ssim: float  # mean similarity of random pairs of generated pictures, 0..1
    ms_ssim_real: float  # the same of real ones: what to be near to
    fid: float | None  # Fréchet inception distance; None without a network
    inception: str | None  # the network's file name


def score_pictures(
    real: Pictures,
    fake: Pictures,
    *,
    inception: Inception | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> LayoutScores:
    """Score as many generated pictures as there are real ones. Raises `BadInput` for other numbers or sizes."""
    swd = sliced_wasserstein(real, fake, seed=seed, progress=progress)
    fid = None if inception is None else frechet_distance(inception.features(real), inception.features(fake))
    return LayoutScores(
        pictures=len(real),
        swd=swd,
        swd_mean=float(np.mean(list(swd.values()))),
        ms_ssim=mean_similarity(fake, seed=seed),
        ms_ssim_real=mean_similarity(real, seed=seed),
        fid=fid,
        inception=None if inception is None else inception.path.name,
    )


def real_pictures(model: LayoutModel, data: str | None = None, count: int | None = None, seed: int = 0) -> Pictures:
    """Return the layouts that a generator is compared with, painted: those it learnt from, or those of other `data`.

    All of them, or a seeded choice of `count` (4096 where there are more). Raises `BadInput` where `data` have other classes.
    """
    maps = read_layouts(data or model.data, model.size, model.seed)
    if maps.taxonomy.classes != model.space.taxonomy.classes:
        raise BadInput(
            f"data {data!r} have the classes of {maps.taxonomy.name!r}, expected those that the generator learnt: "
            f"{model.space.taxonomy.name!r}"
        )
    wanted = min(MOST, len(maps.labels)) if count is None else count
    if not 2 <= wanted <= len(maps.labels):
        raise BadInput(f"cannot compare {wanted} layouts, expected from 2 to the {len(maps.labels)} that the data have")
    chosen = np.sort(np.random.default_rng([seed, 11]).permutation(len(maps.labels))[:wanted])
    return model.space.taxonomy.colourise(maps.labels[chosen])


def score_layouts(
    model: LayoutModel,
    data: str | None = None,
    *,
    count: int | None = None,
    inception: Inception | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> LayoutScores:
    """Score a trained generator against real layouts; arguments as `real_pictures` and `score_pictures`."""
    real = real_pictures(model, data, count, seed)
    fake = model.space.pictures(model.sample(len(real), seed))
    return score_pictures(real, fake, inception=inception, seed=seed, progress=progress)
