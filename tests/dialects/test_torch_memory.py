"""The PyTorch dialect in memory and shards: layouts, views, DTensors, and autograd.

Statistical tests: Kolmogorov-Smirnov at p > 1e-6, so a false alarm of one in a million each; seeds are fixed, so none varies.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

from torch_cases import DRAWN, FLOATS, KEY  # noqa: E402

import fastinit  # noqa: E402
from fastinit import torch as init  # noqa: E402

# ---- memory -----------------------------------------------------------------------------------


def layouts(dtype):
    yield "transposed", torch.zeros(7, 6, dtype=dtype).t()
    yield "every second", torch.zeros(12, 14, dtype=dtype)[::2, ::2]
    yield "offset", torch.zeros(6, 9, dtype=dtype)[:, 2:]
    yield "column", torch.zeros(6, 7, 3, dtype=dtype)[..., 1]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype)
     for name in ("uniform_", "normal_", "xavier_normal_", "orthogonal_", "sparse_")
     for dtype in (*FLOATS, torch.complex64)],
)  # fmt: skip
def test_values_follow_the_logical_index(name, dtype):
    call, options = getattr(init, name), DRAWN[name]
    expected = call(torch.empty(6, 7, dtype=dtype), **options, key=KEY)
    for _, view in layouts(dtype):
        assert torch.equal(call(view, **options, key=KEY), expected)
    kernel = torch.empty(4, 3, 5, 2, dtype=dtype)
    last = kernel.to(memory_format=torch.channels_last)
    if name != "sparse_":
        assert torch.equal(call(last, key=KEY), call(kernel, key=KEY))
        assert last.is_contiguous(memory_format=torch.channels_last)


def test_a_view_writes_only_its_own_elements():
    whole = torch.full((10, 10), 7.0)
    init.normal_(whole[2:5, ::3], key=KEY)
    init.normal_(whole[7], key=KEY)
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:5, ::3] = True
    mask[7] = True
    assert (whole[~mask] == 7).all()
    assert (whole[mask] != 7).all()


def test_overlapping_memory_is_refused():
    with pytest.raises(RuntimeError, match="single memory location"):
        init.normal_(torch.zeros(1).expand(3))


def test_no_memory_is_copied(monkeypatch):
    tensor = torch.empty(1 << 16)
    monkeypatch.setattr(torch.Tensor, "copy_", None)
    address = tensor.data_ptr()
    init.normal_(tensor, key=KEY)
    assert tensor.data_ptr() == address
    assert np.array_equal(tensor.numpy(), fastinit.normal(1 << 16, key=KEY))


def test_zero_dimensional():
    for name in ("uniform_", "normal_", "trunc_normal_"):
        assert getattr(init, name)(torch.empty(()), key=KEY).shape == ()


def test_autograd_sees_the_write_and_records_nothing():
    weight = torch.nn.Parameter(torch.ones(3, 3))
    for name, options in DRAWN.items():
        before = weight._version
        assert getattr(init, name)(weight, **options) is weight
        assert weight._version > before
        assert weight.is_leaf
        assert weight.requires_grad
        assert weight.grad_fn is None
    x = torch.ones(3, requires_grad=True)
    y = (x * weight).sum()
    init.normal_(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_inference_tensors():
    with torch.inference_mode():
        tensor = torch.zeros(3)
        init.normal_(tensor)
    with pytest.raises(RuntimeError, match="inference"):
        init.normal_(tensor)


def test_conjugate_and_negative_views():
    base = torch.zeros(5, dtype=torch.complex64)
    expected = init.normal_(torch.empty(5, dtype=torch.complex64), key=KEY)
    assert torch.equal(init.normal_(base.conj(), key=KEY), expected)
    unitary = init.orthogonal_(torch.empty(3, 3, dtype=torch.complex64), key=KEY)
    assert torch.equal(init.orthogonal_(torch.zeros(3, 3, dtype=torch.complex64).conj(), key=KEY), unitary)
    negative = torch.zeros(5, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    assert torch.equal(init.normal_(negative, key=KEY), init.normal_(torch.empty(5), key=KEY))


def test_sparse_layout_is_refused():
    with pytest.raises(NotImplementedError, match="strided"):
        init.normal_(torch.zeros(3, 3).to_sparse())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_is_refused():
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(NotImplementedError, match="normal_: expected a strided tensor, got a nested one"):
        init.normal_(nested)
    assert not init.zeros_(nested).values().any()


def test_torch_function_of_a_subclass_is_called():
    seen = []

    class Tracked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            seen.append(function)
            return super().__torch_function__(function, types, args, kwargs)

    tensor = torch.zeros(5).as_subclass(Tracked)
    out = init.normal_(tensor, key=KEY)
    assert seen[0] is init.normal_
    assert np.array_equal(out.as_subclass(torch.Tensor).numpy(), fastinit.normal(5, key=KEY))


# ---- shards -----------------------------------------------------------------------------------

SHARDS = """
import torch, fastinit
from fastinit import torch as init
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard, empty, zeros
import sys
key = fastinit.Key(3)
rank = int(sys.argv[1])
dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
real, complex_ = torch.float32, torch.complex64
calls = [
    ("normal_", (), real), ("uniform_", (), real), ("trunc_normal_", (), real), ("kaiming_uniform_", (), real),
    ("orthogonal_", (), real), ("sparse_", (0.4,), real), ("normal_", (1.0, 2.0), complex_), ("uniform_", (), complex_),
    ("orthogonal_", (), complex_), ("sparse_", (0.4,), complex_), ("eye_", (), real), ("dirac_", (), real),
    ("dirac_", (2,), real),
]
for mesh_shape, cases in (
    ((4,), [[Shard(0)], [Shard(1)], [Replicate()]]),
    ((2, 2), [[Shard(0), Shard(1)], [Shard(0), Shard(0)], [Replicate(), Shard(1)]]),
):
    mesh = init_device_mesh("cpu", mesh_shape)
    for placements in cases:
        for shape in ((10, 7), (8, 12), (2, 9)):
            for name, args, dtype in calls:
                options = {} if name in ("eye_", "dirac_") else {"key": key}
                if name == "dirac_":
                    shape = (*shape[:2], 3, 2)
                part = empty(shape, device_mesh=mesh, placements=placements, dtype=dtype)
                whole = getattr(init, name)(torch.empty(shape, dtype=dtype), *args, **options)
                before = part._version
                assert getattr(init, name)(part, *args, **options) is part
                assert part._version > before
                expected = whole
                position = mesh.get_coordinate()
                for axis, placement in enumerate(placements):
                    if placement.is_shard():
                        pieces = torch.chunk(expected, mesh.size(axis), placement.dim)
                        at = position[axis]
                        expected = pieces[at] if at < len(pieces) else expected.narrow(placement.dim, 0, 0)
                assert torch.equal(part.to_local(), expected), (rank, mesh_shape, placements, shape, name)
    part = zeros((6, 6), device_mesh=mesh, placements=[Partial()] * len(mesh_shape))
    for name, args in (("eye_", ()), ("sparse_", (0.5,)), ("normal_", ())):
        state = torch.get_rng_state()
        try:
            getattr(init, name)(part, *args)
        except NotImplementedError as error:
            assert "placements" in str(error)
        else:
            raise AssertionError(name)
        assert not part.to_local().any() and torch.equal(state, torch.get_rng_state())
# The receptive field is sharded: only the shard with its centre has ones.
for dim in (2, 3):
    part = empty((4, 4, 8, 5), device_mesh=init_device_mesh("cpu", (4,)), placements=[Shard(dim)])
    expected = torch.chunk(init.dirac_(torch.empty(4, 4, 8, 5)), 4, dim)
    init.dirac_(part)
    assert torch.equal(part.to_local(), expected[rank] if rank < len(expected) else torch.empty_like(part.to_local()))
print("equal")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
@pytest.mark.parametrize("rank", [0, 2, 3])
def test_a_shard_of_a_dtensor_is_that_part_of_the_whole(rank):
    run = subprocess.run(
        [sys.executable, "-c", SHARDS, str(rank)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout.strip() == "equal", run.stderr[-2000:]


def test_import_of_fastinit_imports_no_framework():
    code = "import sys, fastinit; assert not {'torch', 'keras', 'jax', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
