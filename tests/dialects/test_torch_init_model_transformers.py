"""fastinit.torch.init_ of the models of Transformers: their ties and buffers, and files that they save and load."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the dialect is not tested")
transformers = pytest.importorskip("transformers")

from fastinit import Key, plans  # noqa: E402
from fastinit import torch as init  # noqa: E402
from fastinit.plans import Plan, Rule  # noqa: E402

KEY = Key(2)
PLAN = Plan([Rule("**", "normal", ndim=2), Rule("**", "ones")])
SMALL = {"vocab_size": 19, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "gpt2": transformers.GPT2Config(vocab_size=19, n_embd=16, n_layer=2, n_head=2, n_positions=8),
    "llama": transformers.LlamaConfig(**SMALL, intermediate_size=24, num_key_value_heads=1),
    "bert": transformers.BertConfig(**SMALL, intermediate_size=24, max_position_embeddings=8),
}
TOKENS = torch.arange(5)[None]


def made(name, device="cpu", dtype=torch.float32):
    kind = transformers.AutoModelForMaskedLM if name == "bert" else transformers.AutoModelForCausalLM
    with torch.device(device):
        return kind.from_config(CONFIGS[name], dtype=dtype).eval()


def equal(one, other):
    own, its = one.state_dict(), other.state_dict()
    return own.keys() == its.keys() and all(torch.equal(own[name], its[name]) for name in own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_model_on_the_meta_device_becomes_the_one_with_memory(name, dtype):
    model, other = made(name, dtype=dtype), made(name, "meta", dtype)
    state = torch.get_rng_state()
    init.init_(model, PLAN, key=KEY)
    init.init_(other, PLAN, key=KEY)
    assert torch.equal(state, torch.get_rng_state())
    assert equal(model, other)
    buffers = dict(model.named_buffers())
    assert buffers.keys() == dict(other.named_buffers()).keys()
    for key, buffer in other.named_buffers():  # also those that are not saved: frequencies and positions
        assert torch.equal(buffer, buffers[key]), key
    assert torch.equal(model(TOKENS).logits, other(TOKENS).logits)
    if name == "gpt2":
        assert other.lm_head.weight is other.transformer.wte.weight


@pytest.mark.parametrize("name", list(CONFIGS))
def test_files_hold_what_was_filled_and_loading_them_keeps_it(name, tmp_path):
    model = made(name, "meta")
    init.init_(model, PLAN, key=KEY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1  # trained
    model.save_pretrained(tmp_path / "first")
    loaded = type(model).from_pretrained(tmp_path / "first")
    assert equal(loaded, model)
    loaded.save_pretrained(tmp_path / "second")
    again = type(model).from_pretrained(tmp_path / "second")
    assert equal(again, model)
    again.init_weights()  # as trainers may call it
    assert equal(again, model)
    if name == "gpt2":
        assert again.lm_head.weight is again.transformer.wte.weight


def test_a_new_head_on_a_loaded_body(tmp_path):
    body = made("bert")
    body.save_pretrained(tmp_path)
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name.startswith("bert.")}
    plan = Plan([Rule("classifier.weight", "normal"), Rule("classifier.bias", "zeros")])
    receipt = init.init_(model, plan, key=KEY, protect="bert.**")
    assert [one.name for one in receipt] == ["classifier.weight", "classifier.bias"]
    assert all(torch.equal(model.get_parameter(name), old) for name, old in before.items())


def test_a_buffer_that_transformers_does_not_compute_is_named():
    model = made("llama", "meta")
    model.model.register_buffer("own", torch.empty(3, device="meta"))
    with pytest.raises(ValueError, match=r"got model\.own on the meta device"):
        init.init_(model, PLAN, key=KEY)
    assert model.lm_head.weight.is_meta
    assert model.model.rotary_emb.inv_freq.is_meta


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_recipes(name):
    model = made(name, "meta")
    receipt = init.init_(model, getattr(plans, name)(model), key=KEY)
    assert {one.parameter for one in receipt} == {name for name, _ in model.named_parameters()}
    assert 0.015 < model.get_input_embeddings().weight.std() < 0.025
