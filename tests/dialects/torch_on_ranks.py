"""Models on several processes that talk by gloo: `python torch_on_ranks.py 1 2 4` prints a hash for each case and number.

A process imports PyTorch once and forks the ranks: the hash of a case is that of the model gathered from them.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from fastinit import Key
from fastinit import torch as init
from fastinit.plans import Plan, Rule
from fastinit.plans.names import canonical

KEY = Key(11)
MESHES = {1: [], 2: [], 3: [(3,)], 4: [(2, 2)], 6: [(2, 3), (3, 2)], 8: [(2, 2, 2)]}
PLAN = Plan([
    Rule("head.weight", "normal"),
    Rule("**.norm.weight", "ones"),
    Rule("**.bias", "uniform"),
    Rule("**.up.weight", "he_normal"),
    Rule("**.down.weight", "orthogonal"),
])  # fmt: skip


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(7)
        self.up = torch.nn.Linear(7, 10)  # 7 and 10 rows: pieces of different sizes, and empty ones
        self.down = torch.nn.Linear(10, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 7)
        self.layers = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(7, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def model_on(device: str, dtype: torch.dtype) -> Model:
    with torch.device(device):
        return Model().to(dtype)


def hash_of(model: torch.nn.Module) -> str:
    made = hashlib.sha256()
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        made.update(canonical(name).encode() + whole.detach().clone().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:16]


def sharded(model: Model, mesh: DeviceMesh) -> Model:
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def tensor_parallel(model: Model, mesh: DeviceMesh) -> Model:
    for layer in model.layers:
        parallelize_module(layer, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def models(size: int, dtype: torch.dtype) -> dict[str, Model]:
    """Each way to place a model on so many ranks, filled."""
    flat = init_device_mesh("cpu", (size,))
    found = {
        "fsdp": sharded(model_on("cpu", dtype), flat),
        "fsdp meta": sharded(model_on("meta", dtype), flat),
        "fsdp to_empty": sharded(model_on("meta", dtype), flat).to_empty(device="cpu"),
        "fsdp from float32": sharded(model_on("meta", torch.float32), flat),
        "tensor parallel": tensor_parallel(model_on("cpu", dtype), flat),
        "tensor parallel meta": tensor_parallel(model_on("meta", dtype), flat),
    }
    for shape in [(2, size // 2), (size // 2, 2)] if size % 2 == 0 and size > 2 else []:
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("a", "b"))
        found[f"hybrid {shape}"] = sharded(model_on("meta", dtype), mesh)
        found[f"fsdp and tensor parallel {shape}"] = sharded(tensor_parallel(model_on("meta", dtype), mesh["b"]), mesh["a"])
    for name, model in found.items():
        given = {"dtype": dtype} if name == "fsdp from float32" else {}
        init.init_(model, PLAN, key=KEY, **given)
        init.init_(model, PLAN, key=KEY)
        assert model.head.weight is model.embed.weight, name
    return found


def check_training(model: Model) -> None:
    """The tensors that were filled are those that the model computes with."""
    reference = Model()
    init.init_(reference, PLAN, key=KEY)
    tokens = torch.arange(5)[None]
    for _ in range(2):
        assert torch.allclose(model(tokens), reference(tokens), atol=1e-6)
    init.init_(model, PLAN, key=KEY)  # the gathered copies, which the model may hold now, are not what is filled
    model(tokens).sum().backward()
    assert torch.allclose(model(tokens), reference(tokens), atol=1e-6)


def check_flattened(size: int) -> str:
    """FSDP1: module by module, before the parameters are flattened."""
    model = model_on("meta", torch.float32)
    wrapped = FullyShardedDataParallel(
        model, param_init_fn=init.param_init_fn(model, PLAN, key=KEY), use_orig_params=True, device_id=torch.device("cpu"),
        auto_wrap_policy=lambda module, recurse, nonwrapped_numel: recurse or isinstance(module, Block),
    )  # fmt: skip
    with pytest.raises(ValueError, match="flattened"):
        init.init_(wrapped, PLAN, key=KEY)
    with FullyShardedDataParallel.summon_full_params(wrapped):
        before = hash_of(model)
        init.init_(wrapped, PLAN, key=KEY)
        assert hash_of(model) == before
    return before


def filled(mesh: DeviceMesh, placements: tuple[Placement, ...], whole: torch.Tensor) -> DTensor:
    """A parameter of the shape of `whole`, placed and filled."""
    placed = distribute_tensor(torch.zeros_like(whole), mesh, placements, src_data_rank=None)
    model = torch.nn.ParameterDict({"weight": placed})
    init.init_(model, Plan([Rule("weight", "normal")]), key=KEY)
    return model["weight"].detach()


def check_placements(shape: tuple[int, ...]) -> None:
    """All placements over a mesh against PyTorch's own splits of the whole tensor."""
    kinds = [Replicate(), Shard(0), Shard(1), _StridedShard(0, split_factor=2), _StridedShard(1, split_factor=3)]
    mesh = init_device_mesh("cpu", shape)
    for sizes in ((5, 7), (7, 10), (10, 5)) if len(shape) < 3 else ((7, 10),):
        whole = init.init_(torch.empty(sizes), "normal", key=KEY / "weight")
        for placements in itertools.product(kinds, repeat=len(shape)):
            expected = distribute_tensor(whole, mesh, placements, src_data_rank=None).to_local()
            assert torch.equal(filled(mesh, placements, whole).to_local(), expected), (shape, sizes, placements)
    tensor = distribute_tensor(torch.zeros(8, 6), mesh, [Shard(0)] * len(shape), src_data_rank=None)
    with pytest.raises(NotImplementedError, match=r"a slice of one .* which is a copy"):
        init.init_(tensor[:7], "normal", key=KEY)  # PyTorch gathers the rows
    assert not tensor.to_local().any()
    columns = init.init_(tensor[:, 1:3], "normal", key=KEY)
    assert torch.equal(tensor.to_local()[:, 1:3], columns.to_local())


def check_gathered(mesh: DeviceMesh) -> None:
    """`full_tensor` of what the ranks have filled."""
    whole = init.init_(torch.empty(7, 10), "normal", key=KEY / "weight")
    for placements in itertools.product([Shard(0), Shard(1)], repeat=mesh.ndim):
        assert torch.equal(filled(mesh, placements, whole).full_tensor(), whole), (mesh, placements)


def check_models(size: int) -> None:
    say = print if dist.get_rank() == 0 else (lambda *texts, **options: None)
    for dtype in (torch.float32, torch.bfloat16):
        for name, model in models(size, dtype).items():
            say(size, dtype, name, "=", hash_of(model), flush=True)
            if dtype is torch.float32 and name == "fsdp to_empty":
                check_training(model)
    say(size, "torch.float32 flattened", "=", check_flattened(size), flush=True)


def on_ranks(size: int, backend: str, call: Callable[[], None]) -> bool:
    """Whether `call` succeeds on every rank; fake ranks do not wait for one another."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                try:
                    torch.set_num_threads(1)  # makes the thread pool anew after the fork, for which threads would race
                    store = FakeStore() if backend == "fake" else dist.FileStore(os.path.join(folder, "store"), size)
                    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
                    call()
                    dist.barrier()
                    os._exit(0)
                except BaseException:
                    sys.stderr.write(f"rank {rank} of {size}\n{traceback.format_exc()}")
                    sys.stderr.flush()
                    os._exit(1)
            ranks.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]
        if any(codes):
            print(f"exit codes of the {backend} ranks: {codes}", file=sys.stderr)
        return not any(codes)


def main(sizes: list[int]) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for dtype in (torch.float32, torch.bfloat16):
        model = model_on("cpu", dtype)
        init.init_(model, PLAN, key=KEY)
        print(0, dtype, "plain", "=", hash_of(model), flush=True)
    for size in sizes:
        for shape in MESHES[size]:
            if not on_ranks(size, "fake", lambda shape=shape: check_placements(shape)):
                return 1
            if not on_ranks(size, "gloo", lambda shape=shape: check_gathered(init_device_mesh("cpu", shape))):
                return 1
        if size != 6 and not on_ranks(size, "gloo", lambda size=size: check_models(size)):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main([int(text) for text in sys.argv[1:]]))
