"""Several processes that train one network together: started by `torchrun`, joined by Lightning Fabric (DDP).

    torchrun --nproc-per-node 2 -m roadworthy.scripts.cli train --data camvid:data/camvid --batch 16

A batch is the same frames whatever the number of processes; each works through its part. Gradients are weighted so that
losses that average over labelled pixels give what one process would get, even when the parts hold different numbers of them.
What still differs from one process: batch statistics are each process's own (`batch_norm` = "sync" joins them on GPUs, and
"frozen" does without), and dropout draws from one random stream per process.
"""

from __future__ import annotations

import atexit
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from roadworthy.runtime.errors import BadInput
from roadworthy.train.config import TrainConfig


def make_fabric(config: TrainConfig) -> Fabric:
    """Make and launch the Fabric of this process. Raises `BadInput` for a device or precision that is not to be had."""
    accelerator = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise BadInput("device is cuda, but torch sees no CUDA GPU here; use device=cpu or auto")
    if accelerator == "cpu" and config.precision == "16-mixed":
        raise BadInput("precision is 16, which needs a CUDA GPU; on a CPU use bf16 or 32")
    if accelerator == "cpu" and config.batch_norm == "sync":
        raise BadInput("batch_norm is sync, which torch has for CUDA GPUs only; use local or frozen")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    strategy: DDPStrategy | str = "auto"
    if world > 1:
        strategy = DDPStrategy(
            process_group_backend="nccl" if accelerator == "cuda" else "gloo",
            find_unused_parameters=True,  # an objective need not use every output, and a frozen player has no gradients
            broadcast_buffers=False,  # a critic may be asked twice per update, and its statistics must not move in between
        )
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, strategy=strategy, precision=config.precision
    )
    fabric.launch()
    if world > 1:
        atexit.register(_leave_group)
    check_share(config, fabric.world_size)
    return fabric


def _leave_group() -> None:
    """End the process group's threads before the interpreter goes: left running, they abort a process that is done."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_share(config: TrainConfig, world: int) -> None:
    """Raise `BadInput` unless the batch can be dealt out evenly."""
    if config.batch_size % (world * config.accumulate):
        raise BadInput(
            f"a batch of {config.batch_size} frames cannot be dealt out to {world} processes x {config.accumulate} parts "
            f"each; expected a multiple of {world * config.accumulate}"
        )


def total(fabric: Fabric, value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes."""
    if fabric.world_size == 1:
        return value
    summed: Tensor = fabric.all_reduce(value, reduce_op="sum")  # type: ignore[assignment]
    return summed


def join_statistics(fabric: Fabric, *modules: nn.Module | None) -> None:
    """Average the running statistics of batch normalisations over all processes, so that all score and save one network."""
    if fabric.world_size == 1:
        return
    for module in modules:
        for part in module.modules() if module is not None else ():
            if isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None:
                for statistic in (part.running_mean, part.running_var):
                    statistic.copy_(fabric.all_reduce(statistic, reduce_op="mean"))  # type: ignore[arg-type]


def training_mode(module: nn.Module, config: TrainConfig) -> None:
    """Put `module` into training mode; frozen batch normalisations keep using their stored statistics."""
    module.train()
    if config.batch_norm == "frozen":
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()


def with_batch_norm(module: nn.Module, config: TrainConfig, world: int) -> Any:
    """Return `module` with synchronised batch normalisations where the configuration asks for them and there are several."""
    if config.batch_norm != "sync" or world == 1:
        return module
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def seed_process(config: TrainConfig, fabric: Fabric, iteration: int = 0) -> None:
    """Give each of several processes a random stream of its own; one process keeps the stream it has."""
    if fabric.world_size > 1:
        torch.manual_seed((config.seed * 1_000_003 + iteration) * fabric.world_size + fabric.global_rank + 1)


def random_states(fabric: Fabric) -> dict[str, Tensor]:
    """Return the random states of all processes by name."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    if fabric.world_size == 1:
        return states
    gathered = {}
    for kind, state in states.items():
        rows = fabric.all_gather(state.to(fabric.device))
        assert isinstance(rows, Tensor)
        gathered.update({_state_name(kind, rank): row.cpu() for rank, row in enumerate(rows)})
    return gathered


def restore_random_states(config: TrainConfig, fabric: Fabric, states: dict[str, Tensor], iteration: int) -> None:
    """Put back this process's random states; with another number of processes than before, start new streams."""
    count = sum(name.startswith("cpu") for name in states)
    if count != fabric.world_size:
        seed_process(config, fabric, iteration)
        return
    torch.set_rng_state(states[_state_name("cpu", fabric.global_rank)])
    cuda = states.get(_state_name("cuda", fabric.global_rank))
    if cuda is not None and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(cuda, fabric.device)


def _state_name(kind: str, rank: int) -> str:
    return kind if rank == 0 else f"{kind}.{rank}"
