"""A generator and its discriminator that learn against each other, resumably: layouts and translators share this loop.

Everything random in update i comes from the seed and i alone, so an interrupted training goes on, on a CPU, to the very bits
that an unbroken one would reach. (`train.fit` trains segmenters; a generator has no validation labels, and both players move
in one update.)
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.train.checkpoint import (
    LAST_FILE,
    load_training,
    load_weights,
    optimiser_tensors,
    read_safetensors,
    restore_optimiser,
    save_training,
    save_weights,
)
from roadworthy.train.config import CONFIG_FILE
from roadworthy.train.interruption import deferred_interrupts
from roadworthy.train.label_files import save_picture

GENERATOR_FILE = "generator.safetensors"
FACTS_FILE = "generator.json"
METRICS_FILE = "metrics.json"
BETAS = (0.5, 0.999)  # Adam's, as both SemGAN and pix2pix say
SMOOTHING = 0.98  # of the running means of the losses
SAY_EVERY_S = 0.5  # [s] between two lines of progress
CURVE_EVERY = 10  # updates between two points of a curve

Progress = Callable[[str, float], None]  # what is being done, fraction done 0..1


class Duel(ABC):
    """Two networks and how they learn. `facts` say what the generator is, to whoever loads it."""

    def __init__(self, generator: nn.Module, critic: nn.Module, learning_rate: float, facts: Mapping[str, Any]) -> None:
        # Channels last: the convolutions are a fifth faster on a CPU.
        self.generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.critic = critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.facts = facts
        self.optimisers = {
            "generator": torch.optim.Adam(generator.parameters(), learning_rate, BETAS, eps=1e-8, fused=True),
            "critic": torch.optim.Adam(critic.parameters(), learning_rate, BETAS, eps=1e-8, fused=True),
        }

    @abstractmethod
    def update(self, number: int) -> dict[str, Tensor]:
        """Update both players once with the samples and the noise of update `number`; returns the scalar losses by name."""

    @abstractmethod
    def picture(self) -> npt.NDArray[np.uint8]:
        """Return what the generator makes now, `uint8 [H, W, 3]`, from the same inputs each time."""

    def learn(self, player: str, loss: Tensor) -> None:
        """Take one step of one player down its loss."""
        optimiser = self.optimisers[player]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    @contextlib.contextmanager
    def frozen_critic(self) -> Iterator[None]:
        """Let gradients pass through the critic without making any for its weights, and without dropout.

        A PatchGAN keeps the batch's statistics, as it was trained with.
        """
        dropouts = [module for module in self.critic.modules() if isinstance(module, nn.Dropout)]
        self.critic.requires_grad_(False)
        for module in dropouts:
            module.eval()
        try:
            yield
        finally:
            self.critic.requires_grad_(True)
            for module in dropouts:
                module.train()

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Return the named tensors of a checkpoint."""
        networks = {"generator": self.generator.state_dict(), "critic": self.critic.state_dict()}
        return networks | {f"{name}_optimiser": optimiser_tensors(each) for name, each in self.optimisers.items()}

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
        """Put back what `parts` gave."""
        for name, network in (("generator", self.generator), ("critic", self.critic)):
            load_weights(network, parts.get(name, {}), path)
            restore_optimiser(self.optimisers[name], parts.get(f"{name}_optimiser", {}))


def batch_places(samples: int, batch: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    """Return which samples make up batch `number` `[batch]`: shuffled anew by `seed` in every pass through all of them."""
    places = np.arange(number * batch, (number + 1) * batch)
    orders = {
        int(epoch): np.random.default_rng([seed, 0, epoch]).permutation(samples) for epoch in np.unique(places // samples)
    }
    return np.array([orders[int(place) // samples][place % samples] for place in places], np.int64)


def seeded(seed: int, *place: int) -> torch.Generator:
    """Return the random stream of one place in a training."""
    state = int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(state)


def check_folder(output: Path, config: Mapping[str, Any], *, resume: bool) -> bool:
    """Check that `output` can take this training; returns whether it is there already, finished. Raises `BadInput` if not."""
    path = output / CONFIG_FILE
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output}: is a file, expected a folder for the run")
    if not path.is_file():
        return False
    if not resume:
        raise BadInput(f"{output}: holds a run already; resume it, or choose another folder")
    before = read_config(output)
    changed = [f"{key}: {before.get(key)} -> {value}" for key, value in config.items() if before.get(key) != value]
    if changed:
        raise BadInput(f"{output}: cannot resume with another configuration ({'; '.join(changed)}); choose another folder")
    return (output / METRICS_FILE).is_file() and (output / GENERATOR_FILE).is_file()


def read_config(run: Path) -> dict[str, Any]:
    """Return the configuration that a run folder was made with. Raises `BadInput` when it is not there or not readable."""
    path = run / CONFIG_FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: expected the configuration of a training run ({error})") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected the fields of a training configuration")
    return values


def run_duel(
    duel: Duel,
    output: Path,
    config: Mapping[str, Any],
    *,
    steps: int,
    checkpoint_every: int,
    keep_every: int | None = None,
    tensorboard: bool = True,
    progress: Progress | None = None,
) -> None:
    """Train up to `steps` updates and write the run folder; goes on from its checkpoint if there is one.

    A request to stop (Ctrl-C, SIGTERM) is granted after the update and its checkpoint. With `keep_every` the generator is also
    kept after every so many updates, as `generator-STEP.safetensors`. Raises `RoadworthyError` when a loss stops being a number
    or the disk is full.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / CONFIG_FILE, yaml.safe_dump(dict(config), sort_keys=False))
        write_text(output / FACTS_FILE, json.dumps(dict(duel.facts), indent=2) + "\n")
    except OSError as error:
        raise BadInput(f"{output}: cannot be written to ({error.strerror}); choose another --output") from error
    number, before, losses = 0, 0.0, dict[str, float]()
    last = output / LAST_FILE
    if last.is_file():
        parts, state = load_training(last)
        duel.restore(parts, last)
        number, before, losses = int(state["iteration"]), float(state["seconds"]), dict(state["losses"])
    writer = _curves(output / "tensorboard", number) if tensorboard else None
    begin, said, seconds = time.perf_counter() - before, 0.0, before
    first = number
    try:
        with deferred_interrupts() as request:
            while number < steps:
                values = {name: float(value.detach()) for name, value in duel.update(number).items()}
                number += 1
                _guard(values, number, output)
                for name, value in values.items():
                    losses[name] = SMOOTHING * losses[name] + (1 - SMOOTHING) * value if name in losses else value
                    if writer is not None and number % CURVE_EVERY == 0:
                        writer.add_scalar(f"loss/{name}", value, number)
                seconds, stop = time.perf_counter() - begin, request.made and number < steps
                if number % checkpoint_every == 0 or number == steps or stop:
                    save_training(last, duel.parts(), {"iteration": number, "seconds": seconds, "losses": losses})
                    _show(duel, output, number, writer)
                if keep_every is not None and number % keep_every == 0:
                    save_weights(output / f"generator-{number:06d}.safetensors", duel.generator.state_dict())
                if progress is not None and (seconds - said > SAY_EVERY_S or number == steps):
                    said = seconds
                    speed = (number - first) / max(1e-9, seconds - before)
                    text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
                    left = (steps - number) / speed  # [s]
                    progress(f"{number}/{steps}, {text}, {speed:.2f} updates/s, {left:.0f} s left", number / steps)
                if stop:
                    raise KeyboardInterrupt
    finally:
        if writer is not None:
            writer.close()
    save_weights(output / GENERATOR_FILE, duel.generator.state_dict())
    metrics = {"steps": number, "seconds": round(seconds, 3), "losses": losses}
    write_text(output / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")


def kept_generators(run: Path) -> list[int]:
    """Return after which updates a training kept its generator, besides the last one."""
    return sorted(int(path.stem.partition("-")[2]) for path in run.glob("generator-[0-9]*.safetensors"))


def load_generator(run: Path, build: Callable[[Mapping[str, Any]], nn.Module], update: int | None = None) -> dict[str, Any]:
    """Build a finished run's generator from its facts and load its weights, or those kept after `update`; returns the facts.

    Raises `BadInput` when the folder is not the run of such a generator, or not finished.
    """
    path = run / (GENERATOR_FILE if update is None else f"generator-{update:06d}.safetensors")
    if not path.is_file():
        unfinished = (run / LAST_FILE).is_file()
        fix = "its training did not finish: resume it" if unfinished else "expected the folder of a trained generator"
        raise BadInput(f"{run}: no {path.name} there; {fix}")
    facts_path = run / FACTS_FILE
    try:
        facts: dict[str, Any] = json.loads(facts_path.read_text(encoding="utf-8"))
        generator = build(facts)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{facts_path}: does not describe a generator of this kind ({error!r})") from error
    load_weights(generator, read_safetensors(path)[0], path)
    return facts


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads (None: its choice) for a while."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def _guard(values: Mapping[str, float], number: int, output: Path) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise RoadworthyError(
            f"update {number}: the loss {bad[0]!r} is not a number any more; try a smaller learning rate; the last checkpoint "
            f"is kept in {output}"
        )


def _curves(folder: Path, start: int) -> Any:
    """Open a TensorBoard folder; points after update `start` that an interrupted run left there are dropped."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "train", "Writing loss curves (or train with --no-tensorboard)") from error
    return SummaryWriter(str(folder), purge_step=start)


def _show(duel: Duel, output: Path, number: int, writer: Any) -> None:
    """Write what the generator makes now as `samples.png`, and into the curves."""
    picture = duel.picture()
    save_picture(output / "samples.png", picture)
    if writer is not None:
        writer.add_image("samples", picture, number, dataformats="HWC")
