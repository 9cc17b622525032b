"""Audits: faults are found and named, sound models give no report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fastinit import Key
from fastinit.initializers import (
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LeCunNormal,
    LogUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Sparse,
    TorchLinear,
    TruncatedNormal,
)
from fastinit.plans import RECIPES, Audit, Plan, Receipt, Rule, Spelling, audit, write
from fastinit.plans.fill import Target, fill, whole_box
from fastinit.plans.judge import Asked, Case, Place
from fastinit.plans.parts import Part

Model = dict[str, Any]
KEY = Key(5)
LAYERS, WIDTH = 6, 64
SHAPES: dict[str, tuple[int, ...]] = {"wte.weight": (500, WIDTH), "wpe.weight": (128, WIDTH), "lm_head.weight": (400, WIDTH)}
for _layer in range(LAYERS):
    _at = f"h.{_layer}."
    SHAPES |= {
        f"{_at}attn.qkv.weight": (3 * WIDTH, WIDTH), f"{_at}attn.c_proj.weight": (WIDTH, WIDTH),
        f"{_at}fc.weight": (4 * WIDTH, WIDTH), f"{_at}fc.bias": (4 * WIDTH,), f"{_at}mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
        f"{_at}ln.weight": (WIDTH,), f"{_at}ln.bias": (WIDTH,), f"{_at}gate.bias": (4,),
    }  # fmt: skip
PLAN = Plan([
    Rule("**.ln.weight", "ones"),
    Rule("**.gate.bias", RandomNormal(std=0.02)),
    Rule("**.bias", "zeros"),
    Rule("**.c_proj.weight", RandomNormal(std=0.02 / math.sqrt(2 * LAYERS))),
    Rule("**.qkv.weight", RandomNormal(std=0.02), slices=("q", "k", "v")),
    Rule("**.fc.weight", HeNormal()),
    Rule("**.weight", RandomNormal(std=0.02)),
])  # fmt: skip


def made(plan: Plan, shapes: dict[str, tuple[int, ...]], dtype: str, key: Key) -> Model:
    arrays, targets = {}, []
    for planned in plan.resolve({name: {"shape": shape, "dtype": dtype} for name, shape in shapes.items()}):
        array = arrays[planned.parameter.name] = np.empty(planned.parameter.shape, dtype)
        memory = array.view(np.uint16) if dtype == "bfloat16" else array.view(np.uint8) if "float8" in dtype else array
        targets.append(Target(planned, memory, dtype, whole_box(array.shape)))
    fill(targets, key)
    return arrays


def gpt(dtype: str = "float32", key: Key = KEY) -> Model:
    return made(PLAN, SHAPES, dtype, key)


def receipt_of(dtype: str = "float32") -> Receipt:
    return Receipt.of(PLAN.resolve({n: {"shape": s, "dtype": dtype} for n, s in SHAPES.items()}), KEY, plan=PLAN)


def refilled(model: Model, pattern: str, values: Callable[[tuple[int, ...]], Any]) -> None:
    found = [name for name in model if pattern in name]
    assert found
    for name in found:
        model[name] = np.asarray(values(model[name].shape)).astype(model[name].dtype)


# ---- faults -----------------------------------------------------------------------------------------


def _normal(std: float) -> Callable[[tuple[int, ...]], Any]:
    rng = np.random.default_rng(7)
    return lambda shape: rng.normal(0, std, shape)


def _uniform(bound: float) -> Callable[[tuple[int, ...]], Any]:
    rng = np.random.default_rng(8)
    return lambda shape: rng.uniform(-bound, bound, shape)


def _same_seed(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).normal(0, 0.02, shape)


def _clamped(shape: tuple[int, ...]) -> Any:
    """What trunc_normal_(std=.01) gave where erfinv of bfloat16 numbers is infinite."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.01, shape)
    values[rng.random(shape) < 0.004] = 2.0
    return values * np.where(rng.random(shape) < 0.5, -1, 1)


FAULTS: list[tuple[str, str, Callable[[tuple[int, ...]], Any], str, str]] = [
    ("residual scaling forgotten", "c_proj.weight", _normal(0.02), "another law", r"1/√\(2L\), L = 6, was never applied"),
    ("residual scaling twice", "mlp.c_proj.weight", _normal(0.02 / 12), "another law", r"1/√\(2L\), L = 6, was applied once too"),
    ("no-op: PyTorch's default", "3.fc.weight", _uniform(1 / 8), "untouched framework default", "ZeRO-3"),
    ("a bias at PyTorch's default", "3.fc.bias", _uniform(1 / 8), "untouched framework default", "no initializer reached it"),
    ("bfloat16 trunc_normal_", "wte.weight", _clamped, "another law", "erfinv"),
    ("twins", "qkv.weight", _same_seed, "duplicate", "fork_rng"),
    ("1.137 times too wide", "2.fc.weight", _normal(math.sqrt(2 / WIDTH) / 0.87962566), "another law", "1.137 times as wide"),
    ("truncated, not corrected", "2.fc.weight", _normal(math.sqrt(2 / WIDTH) * 0.8796), "another law", "0.8796 times as wide"),
    ("the fan of a shard", "1.fc.weight", _normal(math.sqrt(2 / WIDTH * 4)), "another law", "one of 4 shards"),
    ("a fused fan", "1.fc.weight", _normal(math.sqrt(2 / WIDTH / 3)), "another law", "3 fused weights|bound of a uniform"),
    ("fan_out", "1.fc.weight", _normal(math.sqrt(2 / (4 * WIDTH))), "another law", "fan_out, 256, was taken for fan_in, 64"),
    ("tied N(0, 1)", "wte.weight", _normal(1.0), "untouched framework default", "no initializer reached"),
    ("constants", "fc.weight", np.zeros, "constant", "nothing was written"),
    ("ones", "wpe.weight", np.ones, "constant", ""),
    ("NaN", "wpe.weight", lambda shape: np.full(shape, np.nan), "non-finite", ""),
    ("variance for std", "wpe.weight", _normal(0.02**2), "another law", "square of the std"),
    ("std for variance", "wpe.weight", _normal(0.02**0.5), "another law", "root of the std"),
    ("another distribution", "wpe.weight", _uniform(0.02 * 3**0.5), "another law", "the std is right"),
    ("another mean", "wpe.weight", lambda shape: _normal(0.02)(shape) + 0.02, "another law", "its mean is another"),
    ("identical shards", "wpe.weight", lambda shape: np.tile(_same_seed((shape[0] // 4, shape[1])), (4, 1)), "duplicate", "rank"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("by", ["receipt", "plan"])
@pytest.mark.parametrize(("what", "pattern", "values", "verdict", "cause"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_faults_are_named(what: str, pattern: str, values: Any, verdict: str, cause: str, by: str, dtype: str) -> None:
    model = gpt(dtype)
    refilled(model, pattern, values)
    found = audit(model, receipt_of(dtype)) if by == "receipt" else audit(model, plan=PLAN)
    assert not found.ok
    for one in found:
        right = pattern in one.parameter
        assert (one.verdict == verdict) == right, one
        assert right == (one in found.differences)
        assert not right or re.search(cause, one.cause), one
        assert not right or one.asked
    assert verdict in str(found)
    assert len(str(found).splitlines()) < 16


def test_a_single_nan_is_found() -> None:
    model = gpt("bfloat16")
    model["wte.weight"][17, 3] = np.nan
    for found in (audit(model, receipt_of("bfloat16")), audit(model, plan=PLAN), audit(model)):
        assert [(one.name, one.verdict, one.found) for one in found.differences] == [
            ("wte.weight", "non-finite", "1 of 32,000 elements NaN or infinite")
        ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "value"), [(slice(32, 64), 0), (slice(0, 32), 0), (slice(5, 6), 0), (slice(9, 50), 0.5)])
def test_a_part_that_was_never_filled_is_named(rows: slice, value: float, dtype: str) -> None:
    model = gpt(dtype)
    model["h.1.fc.weight"][rows] = value
    (one,) = audit(model, receipt_of(dtype)).differences
    wrong = (rows.stop - rows.start) * WIDTH
    assert (one.name, one.verdict) == ("h.1.fc.weight", "constant")
    assert re.fullmatch(rf"{wrong:,} of [\d,]+ elements from entry {rows.start} on are {value}", one.found)
    assert ("nothing was written" in one.cause) == (value == 0)


def test_an_infinity_that_was_clamped_in_float32_is_named() -> None:
    model = gpt()
    model["wte.weight"][17, 3] = -2
    for found in (audit(model, plan=PLAN), audit(model)):
        (one,) = found.differences
        assert (one.name, one.verdict) == ("wte.weight", "another law")
        assert re.search("clamped to -2: .*timm", one.cause)


def test_a_draw_that_was_scaled_is_known_by_its_key() -> None:
    model = gpt()
    for name in model:
        if name.endswith("c_proj.weight"):
            model[name] = model[name] * np.float32(math.sqrt(2 * LAYERS))
    found = audit(model, receipt_of())
    assert {one.found for one in found.differences} == {"the draw that was asked for, times 3.464"}
    assert all("never applied" in one.cause for one in found.differences)


def test_a_ratio_alone_is_no_residual_scaling_that_was_forgotten() -> None:
    plan = Plan([Rule("**", RandomNormal(std=0.02))])
    shapes = {f"layers.{i}.{name}.weight": (64, 64) for i in range(2) for name in "qk"}
    for scale in (2.0, 0.5):
        model = made(plan, shapes, "float32", KEY)
        model["layers.1.q.weight"] *= np.float32(scale)  # also √(2 (l + 1)) of layer 1
        for found in (audit(model, Receipt.of(plan.resolve(shapes), KEY)), audit(model, plan=plan)):
            (one,) = found.differences
            assert re.fullmatch(r"(2|0\.5|0\.49) times as wide", one.cause), one


def test_another_key_is_told_from_another_law() -> None:
    found = audit(gpt(key=Key(42)), receipt_of())
    drawn = [one for one in found if "normal" in one.asked and "gate" not in one.name]
    assert {one.verdict for one in drawn} == {"another draw of the same law"}
    assert all("values of seed 42" in one.cause for one in drawn)
    assert all("key of another run" in one.cause for one in audit(gpt(key=Key(7**20)), receipt_of()).differences if one in drawn)
    assert {one.verdict for one in found if "gate" in one.name} == {"other values"}  # four elements
    assert audit(gpt(key=Key(42)), plan=PLAN).ok


def test_values_in_order_are_no_duplicates() -> None:
    heads = np.log(np.arange(1, 129, dtype=np.float32))  # of Mamba-2
    assert audit({"layers.0.A_log": heads, "layers.1.A_log": heads.copy(), "layers.0.decay": -2 * heads}).ok


def test_rows_that_are_drawn_anew_are_not_of_another_seed() -> None:
    model = made(PLAN, SHAPES, "float32", Key(0))
    model["wpe.weight"][16:] = _normal(0.02)(model["wpe.weight"][16:].shape)
    (one,) = audit(model, Receipt.of(PLAN.resolve(SHAPES), Key(0), plan=PLAN)).differences
    assert (one.name, one.verdict) == ("wpe.weight", "another draw of the same law")
    assert one.cause.startswith("it was drawn again")


def trained(dtype: str = "float32") -> Model:
    rng = np.random.default_rng(3)
    model = gpt(dtype)
    for name, values in model.items():
        moved = values.astype(np.float32) * (1 + 0.5 * rng.standard_t(4, values.shape)) + 0.01 * rng.standard_t(3, values.shape)
        model[name] = moved.astype(dtype)
    return model


def test_training_is_told_from_drawing_anew() -> None:
    model = trained()
    found = audit(model, receipt_of())
    assert {one.verdict for one in found if one.name != "h.0.gate.bias"} >= {"moved by training"}
    assert all("correlation" in one.found for one in found if one.name.endswith("fc.weight"))
    refilled(model, "2.fc.weight", _normal(math.sqrt(2 / WIDTH)))
    (again,) = [one for one in audit(model, receipt_of()) if one.verdict == "another draw of the same law"]
    assert (again.name, again.cause.split(":")[0]) == (
        "h.2.fc.weight", "an initializer ran again after the trained weights were loaded"
    )  # fmt: skip


@pytest.mark.parametrize("by", ["receipt", "plan", "nothing"])
def test_an_initializer_that_ran_after_loading_is_found_where_training_is_expected(by: str) -> None:
    asked = {"receipt": {"receipt": receipt_of()}, "plan": {"plan": PLAN}, "nothing": {}}[by]
    assert audit(trained(), trained=True, **asked).ok
    model = trained()
    refilled(model, "2.fc.weight", _normal(math.sqrt(2 / WIDTH)))
    found = audit(model, trained=True, **asked)
    assert [one.name for one in found.differences] == ["h.2.fc.weight"]
    assert "fresh draw" in found.differences[0].verdict
    if by == "receipt":
        assert all(one.verdict != "moved by training" for one in audit(gpt(), receipt_of(), trained=True) if "c_proj" in one.name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["h.2.fc.weight", "h.1.attn.qkv.weight", "wte.weight"])
def test_rows_of_a_trained_tensor_that_were_lost_or_drawn_again_are_found(name: str, dtype: str) -> None:
    rows = len(trained()[name])
    for values, verdict, words in (
        (np.zeros, "constant", "are 0"),
        (_normal(0.02), "a fresh draw where trained values were expected", "have nothing of their first values"),
        (_normal(0.04), "a fresh draw where trained values were expected", "have nothing of their first values"),
    ):
        model = trained(dtype)
        lost = slice(rows // 2, rows)  # of q, k and v half of k, and v
        model[name][lost] = values(model[name][lost].shape).astype(dtype)
        found = audit(model, receipt_of(dtype), trained=True).differences
        assert {one.parameter for one in found} == {name}
        assert any(one.verdict == verdict and words in one.found for one in found), found
    model = trained(dtype)
    model[name][lost] = 0
    if "qkv" not in name:
        assert "constant" in str(audit(model, plan=PLAN, trained=True))


def test_an_embedding_that_moved_a_little_is_no_default_that_was_left() -> None:
    plan = Plan([Rule("**", RandomNormal(std=1.0))])
    model = made(plan, {"e.weight": (1000, 32)}, "float32", KEY)
    model["e.weight"][:500] *= np.float32(0.999)
    assert audit(model, Receipt.of(plan.resolve({"e.weight": (1000, 32)}), KEY), trained=True).ok


def test_rows_that_moved_in_several_ways_are_moved_by_training() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        model = gpt()
        for name, values in model.items():
            if values.ndim == 2:  # rows that never moved, or far, or shrank
                far = rng.choice([0.01, 0.3, 1.0, 3.0], (len(values), 1)) * values.std()
                moved = values * rng.uniform(0.2, 1, (len(values), 1)) + far * rng.standard_t(4, values.shape)
                model[name] = moved.astype(np.float32)
        found = audit(model, receipt_of(), trained=True)
        assert all("gate" in one.name for one in found.differences), str(found)


def test_values_that_went_through_a_narrow_dtype_are_told() -> None:
    model = {name: values.astype(ml_dtypes.bfloat16).astype(np.float32) for name, values in gpt().items()}
    found = audit(model, receipt_of())
    assert {one.cause for one in found.differences} == {"it was made in, or went through, bfloat16"}
    narrow = {name: values.astype(ml_dtypes.bfloat16) for name, values in gpt().items()}
    assert audit(narrow, receipt_of()).ok  # rounded once
    assert str(audit(narrow, receipt_of())) == "63 tensors, bit for bit: 63 as asked (rounded to bfloat16)"


def test_shapes_and_names_that_differ_are_told() -> None:
    model = gpt()
    model["wpe.weight"] = np.empty(0, np.float32)
    model["h.0.fc.weight"] = model["h.0.fc.weight"].T.copy()
    model["h.1.fc.weight"] = model["h.1.fc.weight"][:128]
    model["extra"] = np.zeros(3, np.float32)
    del model["h.2.fc.weight"]
    found = {one.name: (one.verdict, one.cause) for one in audit(model, receipt_of()).differences}
    assert found.pop("extra") == ("not asked for", "")
    assert found.pop("h.2.fc.weight") == ("not there", "")
    assert {verdict for verdict, _ in found.values()} == {"another shape"}
    assert "ZeRO-3" in found["wpe.weight"][1]
    assert "transposed" in found["h.0.fc.weight"][1]
    assert "one rank" in found["h.1.fc.weight"][1]
    model = {"a.weight": np.empty(0, np.float32)}
    assert "ZeRO-3" in str(audit(model, plan=Plan([Rule("**", "he_normal", ndim=1, fans=(1, 1))])))
    assert "ZeRO-3" in str(audit(model))


def test_a_pair_of_twins_of_other_scale_and_size_is_found() -> None:
    model = gpt()
    model["wpe.weight"] = np.random.default_rng(4).normal(0, 0.02, (128, WIDTH)).astype(np.float32)
    model["h.0.fc.weight"] = np.random.default_rng(4).normal(0, math.sqrt(2 / WIDTH), (256, WIDTH)).astype(np.float32)
    for found in (audit(model, receipt_of()), audit(model, plan=PLAN), audit(model)):
        assert {one.name for one in found.differences} == {"wpe.weight", "h.0.fc.weight"}
        assert {one.verdict for one in found.differences} == {"duplicate"}
    tied = gpt()
    tied["copy.embedding"] = tied["lm_head.weight"].copy()  # one tensor that a file holds twice
    assert audit(tied).ok


# ---- one rank ---------------------------------------------------------------------------------------


def _rank(values: Any, box: tuple[tuple[int, int], ...], initializer: Initializer) -> Any:
    shape, name = (32, 16), "a.weight"
    asked = Asked("", initializer.law(shape), initializer, "float32", KEY / name)
    return Case(values, box, Part.whole(name, shape), "float32", asked, Place(), 1e-6, False).verdict()


def test_a_shard_is_compared_with_its_own_place() -> None:
    initializer = RandomNormal(std=0.02)
    whole = initializer((32, 16), key=KEY / "a.weight")
    box = ((16, 32), (0, 16))
    assert _rank(whole[16:], box, initializer).verdict == "as asked"
    found = _rank(whole[:16], box, initializer)
    assert found.found == "entries 0 to 16 of axis 0, not 16 to 32"
    assert "identical shards" in found.cause
    columns = ((0, 32), (8, 16))
    assert _rank(whole[:, 8:], columns, initializer).verdict == "as asked"
    assert "axis 1" in _rank(whole[:, :8], columns, initializer).found


# ---- sound models -----------------------------------------------------------------------------------

_MLP = {"0.weight": (64, 48), "0.bias": (64,), "2.weight": (96, 64), "2.bias": (96,), "4.weight": (10, 96), "4.bias": (10,)}
_CONV = {"0.weight": (32, 3, 3, 3), "1.weight": (64, 32, 3, 3), "2.weight": (64, 64, 1, 1), "head.weight": (10, 64)}
SOUND: dict[str, tuple[Plan, dict[str, tuple[int, ...]]]] = {
    "gpt": (PLAN, SHAPES),
    **{
        f"mlp {name}": (Plan([Rule("**.bias", bias), Rule("**.weight", initializer)]), _MLP)
        for name, initializer, bias in (
            ("he", HeNormal(), "zeros"), ("he uniform", HeUniform(), "ones"), ("glorot", GlorotUniform(), RandomNormal(std=1e-6)),
            ("torch", TorchLinear(), RandomUniform(-0.1, 0.1)), ("orthogonal", Orthogonal(), "zeros"),
            ("sparse", Sparse(5), "zeros"), ("lecun", LeCunNormal(), LogUniform(0.001, 0.1)),
            ("truncated", TruncatedNormal(std=0.02), "zeros"), ("N(0, 1)", RandomNormal(std=1.0), RandomNormal(1.0, 0.1)),
        )
    },
    **{
        f"conv {name}": (Plan([Rule("**", initializer)]), _CONV)
        for name, initializer in (
            ("he", HeNormal()), ("glorot", GlorotUniform()), ("dirac", "dirac"), ("delta", "delta_orthogonal"),
            ("truncated", TruncatedNormal(std=0.1, corrected=True)), ("one-sided", TruncatedNormal(1.0, 1.0, 0.0, 3.0)),
        )
    },
    "stacked": (
        Plan([Rule("**.w", HeNormal(), batch_axes=0), Rule("**.t", "lecun_normal")], [Spelling("**.k", "b.t", layout="io")]),
        {"a.w": (4, 40, 24), "a.k": (30, 50)},
    ),
    "identity": (Plan([Rule("**", "identity")]), {"a": (20, 20), "b": (8, 8)}),
    "small": (Plan([Rule("**", RandomNormal(std=0.3))]), {f"w{i}": (i,) for i in range(1, 40)}),
    "mamba": (
        Plan([Rule("**.A", "mamba_log_a"), Rule("**.dt", "mamba_dt_bias"), Rule("**", RandomUniform(-0.2, 0.2))]),
        {"x.A": (32, 16), "x.dt": (64,), "x.in": (64, 25)},
    ),
}  # fmt: skip


def test_there_are_twenty_sound_models() -> None:
    assert len(SOUND) >= 20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_gives_no_report(name: str, dtype: str) -> None:
    plan, shapes = SOUND[name]
    if name in ("conv delta", "conv dirac"):
        shapes = {name: shape for name, shape in shapes.items() if shape[0] >= shape[1] and len(shape) == 4}
    for seed in range(2):
        model = made(plan, shapes, dtype, Key(seed))
        planned = plan.resolve({n: {"shape": s, "dtype": dtype} for n, s in shapes.items()})
        for found in (audit(model, Receipt.of(planned, Key(seed))), audit(model, plan=plan), audit(model)):
            assert found.ok, str(found)
            assert not found.differences
            assert len(str(found).splitlines()) == 1 or "by their laws" in str(found)


@pytest.mark.parametrize("name", RECIPES)
def test_models_of_recipes_give_no_report(name: str) -> None:
    recipe = RECIPES[name]
    for source in recipe.sources:
        shapes = recipe.shapes
        if source == "nanochat":  # which has neither
            shapes = {name: shape for name, shape in shapes.items() if "norm" not in name and "gate" not in name}
        plan = recipe.function(shapes, source=source, **recipe.options.get(source, {}))
        for seed, dtype in enumerate(("float32", "bfloat16")):
            model = made(plan, shapes, dtype, Key(seed))
            planned = plan.resolve({n: {"shape": s, "dtype": dtype} for n, s in shapes.items()})
            for found in (audit(model, Receipt.of(planned, Key(seed))), audit(model, plan=plan), audit(model)):
                assert found.ok, f"{source} {dtype}\n{found}"


def numpy_model(rng: np.random.Generator, dtype: str) -> Model:
    def normal(std: float, *shape: int) -> Any:
        return rng.normal(0, std, shape).astype(np.float32).astype(dtype)

    return {
        "e.weight": normal(0.02, 300, 32), "a.0.weight": normal(math.sqrt(2 / 32), 128, 32), "a.0.bias": np.zeros(128, dtype),
        "a.1.weight": rng.uniform(-1, 1, (64, 128)).astype(dtype), "a.1.bias": normal(0.02, 64), "a.1.few": normal(0.02, 5),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2"])
def test_draws_of_another_library_are_as_asked(dtype: str) -> None:
    plan = Plan([
        Rule("a.0.bias", "zeros"), Rule("a.0.weight", HeNormal()), Rule("a.1.weight", RandomUniform(-1, 1)),
        Rule("**", RandomNormal(std=0.02)),
    ])  # fmt: skip
    for seed in range(40):
        found = audit(numpy_model(np.random.default_rng(seed), dtype), plan=plan)
        assert found.ok, str(found)


# ---- without anything asked -------------------------------------------------------------------------


def test_laws_are_identified() -> None:
    rng = np.random.default_rng(0)
    model = {
        "a.weight": rng.normal(0, math.sqrt(2 / 300), (200, 300)),
        "b.weight": rng.uniform(-1, 1, (200, 300)) * math.sqrt(6 / 500),
        "c.weight": rng.uniform(-1, 1, (200, 300)) / math.sqrt(300),
        "d.weight": rng.normal(0, 0.02, (200, 300)),
        "e.weight": TruncatedNormal(std=1 / math.sqrt(300) / 0.87962566)((200, 300), "float64", key=KEY),
        "f.weight": rng.normal(0, 0.0137, (200, 300)),
        "g.weight": rng.standard_cauchy((200, 300)),
        "g.bias": np.zeros(200),
    }
    found = {one.name: one.found for one in audit({name: values.astype(np.float32) for name, values in model.items()})}
    assert found["a.weight"].startswith("He normal")
    assert found["b.weight"].startswith("Glorot uniform")
    assert found["c.weight"].startswith("PyTorch's default")
    assert found["d.weight"].startswith("N(0, 0.02)")
    assert found["e.weight"].startswith("LeCun truncated normal,")
    assert found["f.weight"].startswith("normal, std 0.0137")
    assert found["g.weight"].startswith("no known distribution")
    assert found["g.bias"] == "all 0"


def test_an_audit_is_a_sequence() -> None:
    found = audit(gpt(), receipt_of())
    assert isinstance(found, Audit)
    assert len(found) == len(list(found)) == len(SHAPES) + 2 * LAYERS
    assert found[0].name == "wte.weight"
    assert str(found) == "63 tensors, bit for bit: 63 as asked"
    assert "0 not as they should be" in repr(found)


# ---- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_files_are_audited(tmp_path: Path, dtype: str) -> None:
    shapes = {name: {"shape": shape, "dtype": dtype} for name, shape in SHAPES.items()}
    write(shapes, PLAN, key=KEY, path=tmp_path / "model", max_shard_size=200_000)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    receipt_of(dtype).save(tmp_path / "receipt")
    receipt = Receipt.load(tmp_path / "receipt")
    assert audit(tmp_path / "model", receipt).ok
    assert audit(str(tmp_path / "model"), plan=PLAN).ok
    file = next((tmp_path / "model").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert len(audit(tmp_path / "model", receipt).differences) == 1


# ---- arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"receipt": 3}, TypeError, "receipt: expected a Receipt"),
        ({"receipt": "receipt.jsonl"}, TypeError, r"got str 'receipt.jsonl'; Receipt\.load reads one"),
        ({"plan": "gpt2"}, TypeError, "plan: expected a Plan"),
        ({"plan": PLAN, "receipt": receipt_of()}, ValueError, "expected one of them"),
        ({"trained": 1}, TypeError, "trained: expected a bool"),
        ({"alarm": 0.0}, ValueError, "alarm: expected"),
        ({"model": 3}, TypeError, "model: expected a torch.nn.Module"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        audit(**({"model": {}} | options))


def test_functions_are_known_by_their_hash() -> None:
    plan = Plan([Rule("**", lambda shape, dtype: np.sin(np.arange(math.prod(shape), dtype=np.float64)).reshape(shape))])
    model = made(plan, {"a": (40, 30)}, "float32", KEY)
    receipt = Receipt.of(plan.resolve({"a": (40, 30)}), KEY)
    assert audit(model, receipt)[0].found == "by the hash of a sample"
    model["a"] += 1
    assert audit(model, receipt)[0].verdict == "other values"


def test_a_few_rows_that_differ_are_seen_in_a_large_tensor() -> None:
    plan = Plan([Rule("**", RandomNormal(std=0.02))])
    shapes = {"e.weight": (5000, 512)}
    model = made(plan, shapes, "float32", KEY)
    receipt = Receipt.of(plan.resolve(shapes), KEY)
    model["e.weight"][-300:] = np.random.default_rng(0).normal(0, 0.02, (300, 512))
    (found,) = audit(model, receipt).differences
    assert found.verdict == "another draw of the same law"
    model = made(plan, shapes, "float32", KEY)
    model["e.weight"][4321, 17] += 1
    (found,) = audit(model, receipt).differences
    assert found.verdict == "moved by training"
    assert "100% of the elements as they were" in found.found
