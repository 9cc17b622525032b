"""Audits of PyTorch models: the faults that real libraries had, and sound models that PyTorch itself drew."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")

from torch import nn  # noqa: E402

from fastinit import Key  # noqa: E402
from fastinit import torch as fastinit_torch  # noqa: E402
from fastinit.initializers import (  # noqa: E402
    GlorotUniform,
    HeNormal,
    HeUniform,
    LeCunNormal,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TorchLinear,
    TruncatedNormal,
)
from fastinit.plans import Plan, Receipt, Rule, audit  # noqa: E402
from fastinit.plans.fill import Target, fill  # noqa: E402
from fastinit.plans.held import held_in  # noqa: E402

KEY = Key(1)
LAYERS, WIDTH = 8, 64


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4)
        self.fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH)


class GPT(nn.Module):
    """The parameters of a small GPT-2, with a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(300, WIDTH)
        self.wpe = nn.Embedding(128, WIDTH)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, 300, bias=False)
        self.lm_head.weight = self.wte.weight


RESIDUAL = 0.02 / math.sqrt(2 * LAYERS)
PLAN = Plan([
    Rule("**.bias", "zeros"),
    Rule("**.in_proj_bias", "zeros"),
    Rule("**.weight", "ones", kind="LayerNorm"),
    Rule("**.{c_proj,out_proj}.weight", RandomNormal(std=RESIDUAL)),
    Rule("**.in_proj_weight", RandomNormal(std=0.02), slices=("q", "k", "v")),
    Rule("**.fc.weight", LeCunNormal()),
    Rule("**", RandomNormal(std=0.02)),
])  # fmt: skip


def receipt_of(model: Any, plan: Plan = PLAN, key: Key = KEY) -> Receipt:
    return Receipt.of(plan.resolve([held.parameter for held in held_in(model)]), key, plan=plan)


def planned(model: Any, plan: Plan = PLAN, key: Key = KEY) -> Any:
    """The model filled by a plan."""
    held = list(held_in(model))
    resolved = plan.resolve([one.parameter for one in held])
    pairs = [(one, h, *h.read()[0]) for one, h in zip(resolved, held, strict=True)]
    fill([Target(one, memory, h.parameter.dtype, box) for one, h, memory, box in pairs], key)
    return model


@torch.no_grad()
def drawn(model: Any, seed: int = 0) -> Any:
    """The same laws by PyTorch's own means."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
        elif "ln" in name:
            nn.init.ones_(p)
        elif "c_proj" in name or "out_proj" in name:
            nn.init.normal_(p, std=RESIDUAL)
        elif "fc" in name:
            nn.init.normal_(p, std=p.shape[1] ** -0.5)
        else:
            nn.init.normal_(p, std=0.02)
    return model


# ---- faults -----------------------------------------------------------------------------------------


def never_scaled(model: Any) -> str:
    for name, p in model.named_parameters():
        if name.endswith("c_proj.weight"):
            nn.init.normal_(p, std=0.02)
    return "c_proj.weight"


def no_op(model: Any) -> str:
    """What ZeRO-3 makes of an initializer that fills an empty parameter: nothing."""
    for block in model.h:
        block.fc.reset_parameters()
    return ".fc."


def old_trunc_normal(model: Any) -> str:
    """PyTorch's trunc_normal_ in bfloat16 as it was: the uniform numbers are rounded, and erfinv of ±1 is infinite."""
    model.wpe.bfloat16()
    std = 0.01
    p = model.wpe.weight.uniform_(-1, 1).erfinv_().mul_(std * math.sqrt(2.0)).clamp_(-2.0, 2.0)
    assert p.abs().max() == 2.0
    return "wpe.weight"


def twins(model: Any) -> str:
    for block in model.h:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            nn.init.normal_(block.fc.weight, std=WIDTH**-0.5)
    return "fc.weight"


def too_wide(model: Any) -> str:
    for block in model.h:
        nn.init.normal_(block.fc.weight, std=WIDTH**-0.5 / 0.87962566103423978)
    return "fc.weight"


def fan_of_a_shard(model: Any) -> str:
    for block in model.h:
        shard = block.fc.weight.new_empty(4 * WIDTH, WIDTH // 4)
        nn.init.normal_(block.fc.weight, std=shard.shape[1] ** -0.5)
    return "fc.weight"


def again_after_loading(model: Any) -> str:
    for name, p in model.named_parameters():
        p.add_(0.05 * torch.randn_like(p).abs() ** 1.5 + 0.3 * p * torch.randn_like(p)) if "h.2.fc" not in name else None
    nn.init.normal_(model.h[2].fc.weight, std=WIDTH**-0.5)
    return "h.2.fc.weight"


def tied_head(model: Any) -> str:
    model.wte.reset_parameters()
    return "wte.weight"


def constants(model: Any) -> str:
    for block in model.h:
        block.attn.out_proj.weight.zero_()
    return "out_proj.weight"


def not_finite(model: Any) -> str:
    model.h[5].fc.weight[3, 7] = math.nan
    return "h.5.fc.weight"


def wrong_fan(model: Any) -> str:
    for block in model.h:
        nn.init.normal_(block.fc.weight, std=(4 * WIDTH) ** -0.5)
    return "fc.weight"


def identical_shards(model: Any) -> str:
    model.wpe.weight.copy_(torch.randn(32, WIDTH).mul(0.02).repeat(4, 1))
    return "wpe.weight"


def untied_default(model: Any) -> str:
    """A head that was made after the initialisation."""
    model.lm_head = nn.Linear(WIDTH, 300, bias=False)
    return "lm_head.weight"


FAULTS: list[tuple[Callable[[Any], str], str, str]] = [
    (never_scaled, "another law", r"1/√\(2L\), L = 8, was never applied"),
    (no_op, "untouched framework default", "ZeRO-3"),
    (old_trunc_normal, "another law", "erfinv of ±1, .*bfloat16"),
    (twins, "duplicate", "fork_rng"),
    (too_wide, "another law", "1.137 times as wide"),
    (fan_of_a_shard, "another law", "one of 4 shards"),
    (tied_head, "untouched framework default", "no initializer reached it"),
    (constants, "constant", "nothing was written"),
    (not_finite, "non-finite", ""),
    (wrong_fan, "another law", "fan_out, 256, was taken for fan_in, 64"),
    (identical_shards, "duplicate", "identical shards on every rank"),
    (untied_default, "untouched framework default", "made anew afterwards"),
]  # fmt: skip


@pytest.mark.parametrize("by", ["receipt", "plan"])
@pytest.mark.parametrize(("fault", "verdict", "cause"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_faults_of_real_libraries_are_named(fault: Callable[[Any], str], verdict: str, cause: str, by: str) -> None:
    model = planned(GPT())
    receipt = receipt_of(model)
    with torch.no_grad():
        where = fault(model)
    found = audit(model, receipt) if by == "receipt" else audit(model, plan=PLAN)
    reported = [one for one in found.differences if one.parameter != "lm_head.weight" or where == "lm_head.weight"]
    assert reported, str(found)
    for one in reported:
        assert where in one.parameter, str(found)
        assert one.verdict == verdict, one
        assert re.search(cause, one.cause), one
    assert len(reported) == sum(where in held.parameter.name for held in held_in(model))


def test_trained_weights_that_were_replaced_are_named() -> None:
    model = planned(GPT())
    receipt = receipt_of(model)
    with torch.no_grad():
        where = again_after_loading(model)
    (told,) = [one for one in audit(model, receipt) if one.verdict == "another draw of the same law"]
    assert told.parameter == where
    assert "ran again after the trained weights were loaded" in told.cause
    assert [one.parameter for one in audit(model, receipt, trained=True).differences] == [where]
    assert [one.parameter for one in audit(model, plan=PLAN, trained=True).differences] == [where]


def test_the_key_of_another_run_is_named() -> None:
    model = planned(GPT(), key=Key(1234))
    found = audit(model, receipt_of(model))
    assert {one.verdict for one in found.differences} == {"another draw of the same law"}
    assert {one.cause for one in found.differences} == {"the seed of another run: these are the values of seed 1234"}
    assert audit(model, plan=PLAN).ok


def test_real_training_is_seen_as_such() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 20))
    plan = Plan([Rule("**.bias", "zeros"), Rule("**", HeNormal())])
    planned(model, plan)
    receipt = receipt_of(model, plan)
    frozen = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        x = torch.randn(64, 20)
        loss = (model(x) - x.sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = audit(model, receipt)
    assert {one.verdict for one in found if one.name.endswith("weight")} == {"moved by training"}, str(found)
    assert {one.verdict for one in found} <= {"moved by training", "other values"}, str(found)
    assert audit(model, receipt, trained=True).ok
    assert audit(frozen, receipt).ok


# ---- sound models -----------------------------------------------------------------------------------


def mlp() -> Any:
    return nn.Sequential(nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))


def convolutional() -> Any:
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 20))


WEIGHTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "he": (HeNormal(), lambda p: nn.init.kaiming_normal_(p)),
    "he uniform": (HeUniform(), lambda p: nn.init.kaiming_uniform_(p)),
    "glorot": (GlorotUniform(), lambda p: nn.init.xavier_uniform_(p)),
    "default": (TorchLinear(), lambda p: nn.init.kaiming_uniform_(p, a=math.sqrt(5))),
    "N(0.02)": (RandomNormal(std=0.02), lambda p: nn.init.normal_(p, std=0.02)),
    "N(1)": (RandomNormal(std=1.0), lambda p: nn.init.normal_(p)),
    "uniform": (RandomUniform(-0.1, 0.1), lambda p: nn.init.uniform_(p, -0.1, 0.1)),
    "truncated at 2": (TruncatedNormal(std=0.02), lambda p: nn.init.trunc_normal_(p, std=0.02, a=-0.04, b=0.04)),
    "truncated": (TruncatedNormal(std=0.02, low=-2.0, high=2.0), lambda p: nn.init.trunc_normal_(p, std=0.02)),
    "orthogonal": (Orthogonal(), lambda p: nn.init.orthogonal_(p)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("build", [mlp, convolutional])
@pytest.mark.parametrize("name", WEIGHTS)
def test_what_pytorch_draws_is_as_asked(name: str, build: Callable[[], Any], dtype: str) -> None:
    """Twenty models, in three dtypes and with two seeds, each against its plan and against nothing."""
    initializer, draw = WEIGHTS[name]
    plan = Plan([Rule("**.bias", "zeros"), Rule("**", "ones", ndim=1), Rule("**", initializer)]
                if build is convolutional else [Rule("**.bias", "zeros"), Rule("**", initializer)])  # fmt: skip
    for seed in range(2):
        torch.manual_seed(seed)
        model = build()
        for p in model.parameters():
            if p.ndim > 1:
                draw(p)
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.zeros_(module.bias)
        model.to(getattr(torch, dtype))
        for found in (audit(model, plan=plan), audit(model), audit(dict(model.named_parameters()), plan=plan)):
            assert found.ok, str(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_gpt_is_as_asked(dtype: str) -> None:
    for seed in range(3):
        model = drawn(GPT(), seed).to(getattr(torch, dtype))
        for found in (audit(model, plan=PLAN), audit(model), audit(model.state_dict())):
            assert found.ok, str(found)
        model = planned(GPT().to(getattr(torch, dtype)), key=Key(seed))
        receipt = receipt_of(model, key=Key(seed))
        for found in (audit(model, receipt), audit(model, plan=PLAN), audit(model.state_dict(), receipt)):
            assert found.ok, str(found)
        assert audit(torch.compile(model), receipt).ok


def test_a_framework_s_default_is_identified_and_no_fault() -> None:
    torch.manual_seed(0)
    found = audit(GPT())
    assert found.ok, str(found)
    assert "PyTorch's default, kaiming_uniform" in str(found)
    assert "the default of PyTorch's Embedding" in str(found)


def test_the_model_and_the_generators_are_left_alone() -> None:
    model = drawn(GPT())
    before = {name: p.clone() for name, p in model.state_dict().items()}
    state = torch.get_rng_state()
    audit(model, plan=PLAN)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())


def test_a_meta_model_is_refused() -> None:
    with torch.device("meta"):
        model = GPT()
    with pytest.raises(ValueError, match="meta device"):
        audit(model)


# ---- one rank's part --------------------------------------------------------------------------------


def _rank(rank: int, world: int, path: str) -> None:
    import torch.distributed as dist
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    dist.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=world)
    try:
        plan = Plan([Rule("**", RandomNormal(std=0.02))])
        shapes = {"a.weight": (10, 48), "b.weight": (64, 31)}
        receipt = Receipt.of(plan.resolve(shapes), Key(1))
        mesh = init_device_mesh("cpu", (world,))
        whole = {n: torch.from_numpy(RandomNormal(std=0.02)(s, key=Key(1) / n)) for n, s in shapes.items()}
        shards = {n: distribute_tensor(t, mesh, [Shard(1 - i)]) for i, (n, t) in enumerate(whole.items())}
        assert audit(shards, receipt).ok, str(audit(shards, receipt))
        assert audit(shards, plan=plan).ok
        local = shards["b.weight"].to_local()
        with torch.no_grad():
            local.copy_(whole["b.weight"][: local.shape[0]])  # every rank has the part of rank 0
        found = audit(shards, receipt)
        assert [one.name for one in found.differences] == ([] if rank == 0 else ["b.weight"]), str(found)
        assert rank == 0 or "identical shards" in found.differences[0].cause
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")
def test_each_rank_audits_its_own_part(tmp_path: Any) -> None:
    import torch.multiprocessing as multiprocessing

    multiprocessing.spawn(_rank, (2, str(tmp_path)), nprocs=2)


def test_a_model_has_what_init_says() -> None:
    model = GPT().bfloat16()
    receipt = fastinit_torch.init_(model, PLAN, key=KEY)
    assert audit(model, receipt).ok
    with torch.no_grad():
        model.h[3].fc.weight[200:] *= 2
    (found,) = audit(model, receipt).differences
    assert (found.name, found.verdict, found.found) == ("h.3.fc.weight", "another law", "the draw that was asked for, times 2")


def test_a_parameter_that_zero_3_holds_elsewhere_is_named() -> None:
    model = GPT()
    receipt = fastinit_torch.init_(model, PLAN, key=KEY)
    p = model.h[0].fc.weight
    p.ds_id, p.ds_shape = 0, tuple(p.shape)
    p.data = torch.empty(0)
    for found in (audit(model, receipt), audit(model)):
        (told,) = found.differences
        assert (told.name, told.verdict) == ("h.0.fc.weight", "another shape")
        assert "ZeRO-3" in told.cause
