"""One table of sound and faulty models, and what `diagnose` says of each in PyTorch, Flax nnx, Flax linen, Equinox and Keras."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from typing import NamedTuple

import diagnosed_models as models
import numpy as np
import pytest

FRAMEWORKS = ["torch", "nnx", "linen", "equinox", "keras"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.usefixtures("hasty_jax"),
]


class Fault(NamedTuple):
    """What is found: the verdict, its severity, the layer as a pattern, what its reason says, and other findings in words."""

    verdict: str
    severity: str
    layer: str
    words: str
    also: tuple[str, ...] = ()


FAULTS = {
    "the framework's own start, 30 layers of ReLU": Fault("vanishing", "fail", r"parts\.25", "gradients", ("rank collapse",)),
    "sigmoid, 12 layers": Fault("vanishing", "fail", r"parts\.\d+", "gradients' sum of squares shrinks by 3", ("rank collapse",)),
    "0.3 times He": Fault("vanishing", "fail", r"parts\.[34]", "outputs' mean square shrinks by 4"),
    "3 times He": Fault("exploding", "fail", r"parts\.[23]", "outputs' mean square grows by 4", ("over-confident head",)),
    "residual branches of He without normalisation": Fault(
        "exploding", "fail", r"parts\.\d\.mlp\.up", "outputs' mean square grows by 1"
    ),
    "N(0, 1) weights with tanh": Fault("saturated", "fail", "act", "79% of the elements", ("exploding",)),
    "tied head of variance 1": Fault("over-confident head", "fail", "None", "where ln 85 = 4.44 is.*tied to embeddings"),
    "router without a gradient": Fault("no gradient", "fail", r"parts\.0\.router", "router.*chooses among others"),
    "LayerScale of 0 for ever": Fault("no gradient", "fail", r"parts\.0\.branch", "multiplie[sd] (it )?by 0"),
    "a detached branch": Fault("no gradient", "fail", "right", "detached from the loss"),
    "an unused block": Fault("no gradient", "warn", "spare", "spare is not called"),
    "a head of values beside the logits": Fault("no gradient", "warn", "value", "only outputs that are not minimised"),
    "a head of zeros behind a layer of zeros": Fault("no signal", "fail", r"parts\.1", "all exactly 0", ("no gradient",)),
    "one seed for every layer": Fault("symmetric", "warn", r"parts\.1", "equal bit for bit, and 2 more pairs"),
    "constant weights": Fault("symmetric", "fail", r"parts\.0", "63 of the 64 units"),
    "a NaN": Fault("non-finite", "fail", r"parts\.1", "32 values of .*, and so are some of"),
    "15 of 16 units dead by their biases": Fault("dead", "fail", r"parts\.1", "94% of the units"),
    "a layer dead by its biases": Fault("dead", "fail", "act#2", "100% of the units", ("no gradient",)),
}

# Where a framework differs, and why.
_MILD = Fault("vanishing", "warn", r"parts\.\d+", "outputs' mean square shrinks by 2")  # ln 2 a layer, PyTorch's ln 6
_UNSEEN = Fault("exploding", "warn", r"parts\.0", "gradients' sum of squares grows by 4")  # functions have no rows
_NO_ROW = Fault("no gradient", "fail", r"parts\.0", "something after it multiplies it by 0 or is flat")  # nor dead units
_ATTEND = FAULTS["tied head of variance 1"]._replace(layer="wte#2")  # Flax's embedding is called as the head, too
OTHERWISE = {
    **{("the framework's own start, 30 layers of ReLU", name): _MILD for name in ("nnx", "linen", "keras")},
    ("N(0, 1) weights with tanh", "linen"): _UNSEEN,
    ("a layer dead by its biases", "linen"): _NO_ROW,
    **{("tied head of variance 1", name): _ATTEND for name in ("nnx", "linen")},
}

# Transformers 5 has models of PyTorch alone.
ABSENT = {(name, framework) for framework in FRAMEWORKS[1:] for name in (
    "GPT2LMHeadModel", "LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration", "ViTForImageClassification",
    "ResNetForImageClassification",
)}  # fmt: skip


@functools.cache
def kit(framework):
    if framework in ("torch", "keras"):
        return importlib.import_module(f"kit_{framework}")
    return getattr(importlib.import_module("kit_jax"), framework.capitalize())()


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    kit(request.param)
    return request.param


@functools.cache  # a second model would be the same
def diagnosed(framework, name):
    return kit(framework).diagnose(*models.made(name, kit(framework)))


def dotted(layer):
    """A layer's name as PyTorch would have it: Flax linen has parts_0, Keras block/part."""
    return re.sub(r"[/_]", ".", str(layer))


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(framework, fault):
    found = diagnosed(framework, fault)
    expected = OTHERWISE.get((fault, framework), FAULTS[fault])
    assert found.verdict == expected.verdict, found
    assert {finding.name for finding in found.findings} == {expected.verdict, *expected.also}, found
    finding = next(one for one in found.findings if one.name == found.verdict)
    assert finding.severity == expected.severity
    assert re.fullmatch(expected.layer, dotted(finding.layer)), finding
    assert re.search(expected.words, finding.reason), finding


@pytest.mark.parametrize("name", [*models.SOUND, *models.BY_DESIGN])
def test_sound_models_and_zeros_by_design_are_healthy(framework, name):
    found = diagnosed(framework, name)
    assert found.healthy, found


@pytest.mark.parametrize("name", ["GPT-2", "ResNet", "0.3 times He", "residual branches of He without normalisation"])
def test_the_same_model_has_the_same_numbers_in_every_framework(framework, name):
    pytest.importorskip("torch")
    ours, theirs = diagnosed(framework, name), diagnosed("torch", name)
    assert ours.initial_loss == pytest.approx(theirs.initial_loss, rel=1e-4)
    rows = [{dotted(layer.layer): layer for layer in found.layers if layer.inputs} for found in (ours, theirs)]
    common = [one for one in rows[0] if one in rows[1]]  # Flax's embeddings have a row as the head, too
    assert len(common) >= 10
    numbers = [[[own[one].rms, own[one].gradient_rms, own[one].rms_theory] for one in common] for own in rows]
    np.testing.assert_allclose(*numbers, rtol=5e-3)


@pytest.mark.parametrize("name", sorted({name for name, _ in ABSENT}))
def test_published_models_are_healthy(name):
    from torch_cases import assert_same, state_of

    from fastinit.torch import diagnose

    model, named = kit("torch").published(name)
    before = state_of(model)
    # T5's head is its embedding, of variance 1, with the factor 1 / sqrt(d) that makes logits of variance 1.
    diagnose(model, named=named).assert_healthy()
    assert_same(state_of(model), before)


def test_the_table_is_complete():
    assert set(FAULTS) == set(models.FAULTS)
    assert {fault for fault, _ in OTHERWISE} <= set(FAULTS)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        import transformers

        assert {name for name, _ in ABSENT} == set(kit("torch").PUBLISHED)
        assert not [name for name in dir(transformers) if name.startswith(("FlaxGPT2", "TFGPT2", "KerasGPT2"))]


@pytest.mark.skipif("FASTINIT_SECOND_BACKEND" in os.environ, reason="this is the second backend of Keras")
def test_the_other_backend_of_keras():
    """The faults in a process with another backend."""
    from keras_backend import BACKENDS, keras

    other = next((name for name in ("torch", "jax") if name in BACKENDS and name != keras.backend.backend()), None)
    if other is None or keras.backend.backend() == "tensorflow":
        pytest.skip("no second backend of Keras that is diagnosed")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__, "-k", "keras and faults"],
        env=os.environ | {"KERAS_BACKEND": other, "FASTINIT_SECOND_BACKEND": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout
