"""Small models in plain PyTorch, sound and faulty, each with its inputs: for the tests of `fastinit.torch.diagnose`."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, LENGTH, WIDTH, CLASSES = 85, 16, 64, 10


def tokens(batch=8):
    return (torch.randint(0, VOCABULARY, (batch, LENGTH)),)


def images(batch=16, size=16):
    return (torch.randn(batch, 3, size, size),)


def vectors(batch=32, width=WIDTH):
    return (torch.randn(batch, width),)


# ---- shapes of published models -----------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, width=WIDTH, heads=4, causal=True, bias=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width, bias=bias) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm; `scale` stands in the place of LayerScale."""

    def __init__(self, width=WIDTH, causal=True, norm=nn.LayerNorm, mlp=None, scale=None):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attn = Attention(width, causal=causal)
        self.mlp = mlp or nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = scale

    def forward(self, x):
        scale = 1.0 if self.scale is None else self.scale
        x = x + scale * self.attn(self.norm1(x))
        return x + scale * self.mlp(self.norm2(x))


class GPT2(nn.Module):
    def __init__(self, depth=6, tied=True, std=0.02, width=WIDTH, vocabulary=VOCABULARY, length=LENGTH, block=Block):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.ModuleList(block(width) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1 and "scale" not in name:
                nn.init.normal_(p, std=std / (math.sqrt(2 * depth) if "out_proj" in name or "mlp.2" in name else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class SwiGLU(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.gate, self.up = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Llama(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Block(norm=nn.RMSNorm, mlp=SwiGLU()) for _ in range(depth))
        self.norm, self.lm_head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class ViT(nn.Module):
    def __init__(self, depth=6, layer_scale=None):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos = nn.Parameter(torch.randn(1, 17, WIDTH) * 0.02)

        def scale():
            return None if layer_scale is None else nn.Parameter(torch.full((WIDTH,), layer_scale))

        self.blocks = nn.ModuleList(Block(causal=False, scale=scale()) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride, zero_gamma):
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        if zero_gamma:
            nn.init.zeros_(self.bn3.weight)

    def forward(self, x):
        around = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + around)


class ResNet(nn.Module):
    def __init__(self, depths=(2, 2, 2), width=8, zero_gamma=False, classes=CLASSES, stem=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, stem, 1 + (stem > 3), stem // 2, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        stages, channels = [], width
        for i, depth in enumerate(depths):
            stages.append(nn.Sequential())
            for j in range(depth):
                stages[-1].append(Bottleneck(channels, width << i, 1 + (j == 0 and i > 0), zero_gamma))
                channels = 4 * (width << i)
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layers(x).mean(dim=(2, 3)))


class T5(nn.Module):
    """Encoder and decoder, with cross-attention; the start of T5: no factor 1 / sqrt(d) in attention, but in the weights of q."""

    class Layer(nn.Module):
        def __init__(self, cross):
            super().__init__()
            self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(2 + cross))
            self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
            if cross:
                self.cq, self.ck, self.cv, self.co = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
            self.wi, self.wo = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
            self.cross = cross

        def attend(self, x, memory, q, k, v, o):
            q, k, v = (p(y).unflatten(-1, (4, -1)).transpose(1, 2) for p, y in ((q, x), (k, memory), (v, memory)))
            return o(F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2))

        def forward(self, x, memory=None):
            y = self.norms[0](x)
            x = x + self.attend(y, y, self.q, self.k, self.v, self.o)
            if self.cross:
                x = x + self.attend(self.norms[2](x), memory, self.cq, self.ck, self.cv, self.co)
            return x + self.wo(F.relu(self.wi(self.norms[1](x))))

    def __init__(self, depth=4):
        super().__init__()
        self.shared = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = nn.ModuleList(self.Layer(False) for _ in range(depth))
        self.decoder = nn.ModuleList(self.Layer(True) for _ in range(depth))
        self.norm_e, self.norm_d = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        for name, p in self.named_parameters():
            if p.dim() > 1 and "shared" not in name:
                scale = 1 / math.sqrt(16) if name.endswith(("q.weight",)) else 1
                nn.init.normal_(p, std=p.shape[1] ** -0.5 * scale)
        nn.init.normal_(self.shared.weight)

    def forward(self, source, target):
        x = self.shared(source)
        for layer in self.encoder:
            x = layer(x)
        x, y = self.norm_e(x), self.shared(target)
        for layer in self.decoder:
            y = layer(y, x)
        return self.norm_d(y) * WIDTH**-0.5 @ self.shared.weight.T


class Mixer(nn.Module):
    class Layer(nn.Module):
        def __init__(self, patches):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.tokens = nn.Sequential(nn.Linear(patches, 32), nn.GELU(), nn.Linear(32, patches))
            self.channels = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, WIDTH))

        def forward(self, x):
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm2(x))

    def __init__(self, depth=6):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.layers = nn.ModuleList(self.Layer(16) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(dim=1))


SOUND = {
    "GPT-2": lambda: (GPT2(), tokens()),
    "Llama": lambda: (Llama(), tokens()),
    "ViT": lambda: (ViT(), images()),
    "ViT with LayerScale 1e-5": lambda: (ViT(layer_scale=1e-5), images()),
    "ResNet": lambda: (ResNet(), images()),
    "T5": lambda: (T5(), (*tokens(), *tokens())),
    "Mixer": lambda: (Mixer(), images()),
}


# ---- zeros by design ----------------------------------------------------------------------------


class LoRA(nn.Module):
    def __init__(self, inner, rank=4):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, inner.in_features) * 0.1)
        self.b = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x):
        return self.inner(x) + x @ self.a.T @ self.b.T


class ReZero(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.alpha = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.alpha * self.branch(x)


class DiTBlock(nn.Module):
    """A branch whose gate is a layer of zeros of a condition, as in adaLN-Zero."""

    def __init__(self):
        super().__init__()
        self.norm, self.branch, self.gate = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x):
        return x + self.gate(x.roll(1, 0)) * self.branch(self.norm(x))


def dit():
    model = nn.Sequential(*(DiTBlock() for _ in range(4)), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))
    nn.init.zeros_(model[-1].weight)
    return model


def lora():
    model = GPT2()
    model.requires_grad_(False)
    for block in model.h:
        block.attn.q_proj, block.attn.v_proj = LoRA(block.attn.q_proj), LoRA(block.attn.v_proj)
    return model


BY_DESIGN = {
    "BatchNorm with zero gamma": lambda: (ResNet(zero_gamma=True), images()),
    "LoRA with B = 0": lambda: (lora(), tokens()),
    "ReZero": lambda: (nn.Sequential(*(ReZero() for _ in range(6)), nn.Linear(WIDTH, CLASSES)), vectors()),
    "LayerScale 0": lambda: (ViT(layer_scale=0.0), images()),
    "adaLN-Zero with a head of zeros": lambda: (dit(), vectors()),
}


# ---- faults -------------------------------------------------------------------------------------


def stack(depth, activation, start=None, width=WIDTH):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
        if start:
            start(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def he(weight):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def three_he(weight):
    with torch.no_grad():
        he(weight)
        weight.mul_(3)


class Router(nn.Module):
    """Experts chosen by a router whose choice carries no gradient: a weight of 1 for the best expert."""

    def __init__(self, width=WIDTH, experts=4):
        super().__init__()
        self.norm, self.router = nn.LayerNorm(width), nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))

    def forward(self, x):
        y = self.norm(x)
        best = self.router(y).argmax(dim=-1)
        out = torch.zeros_like(y)
        for i, expert in enumerate(self.experts):
            if (best == i).any():
                out[best == i] = expert(y[best == i])
        return x + out


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.spare = stack(2, nn.ReLU), stack(2, nn.ReLU)

    def forward(self, x):
        return self.body(x)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(F.relu(self.left(x)) + F.relu(self.right(x).detach()))


class LostScale(nn.Module):
    """Branches multiplied by zeros that no training step changes."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())
        self.register_buffer("scale", torch.zeros(WIDTH))

    def forward(self, x):
        return x + self.scale * self.branch(x)


def edited(model, edit):
    with torch.no_grad():
        edit(model)
    return model


def one_seed(model):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            torch.manual_seed(7)
            module.reset_parameters()


def constant_weights(model):
    for p in model.parameters():
        p.fill_(0.01)


def zeros(model):
    for p in model.parameters():
        p.zero_()


def untied_start(model):
    nn.init.normal_(model.wte.weight)


def large_tanh(weight):
    nn.init.normal_(weight, std=2.0)


def embedding_of_100(model):
    nn.init.normal_(model.wte.weight, std=100.0)


def twins(model):
    model[6].weight.copy_(model[2].weight)


FAULTS = {
    "PyTorch's own start, 30 layers of ReLU": ("vanishing", lambda: (stack(30, nn.ReLU), vectors())),
    "sigmoid": ("vanishing", lambda: (stack(12, nn.Sigmoid, nn.init.xavier_normal_), vectors())),
    "3 times He": ("exploding", lambda: (stack(20, nn.ReLU, three_he), vectors())),
    "tied head of variance 1": ("over-confident head", lambda: (edited(GPT2(), untied_start), tokens())),
    "a large embedding": ("over-confident head", lambda: (edited(GPT2(tied=True), embedding_of_100), tokens())),
    "router without a gradient": (
        "no gradient", lambda: (nn.Sequential(Router(), Router(), nn.Linear(WIDTH, CLASSES)), vectors()),
    ),
    "LayerScale lost": (
        "no gradient", lambda: (nn.Sequential(*(LostScale() for _ in range(3)), nn.Linear(WIDTH, CLASSES)), vectors()),
    ),
    "one seed for every layer": ("symmetric", lambda: (edited(stack(4, nn.ReLU), one_seed), vectors())),
    "two equal tensors": ("symmetric", lambda: (edited(stack(4, nn.ReLU, he), twins), vectors())),
    "layers that PyTorch copies": (
        "symmetric",
        lambda: (
            nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 4, batch_first=True), 3)),
            (torch.randn(4, 8, WIDTH),),
        ),
    ),
    "constant weights": ("symmetric", lambda: (edited(stack(3, nn.Tanh), constant_weights), vectors())),
    "an unused block": ("no gradient", lambda: (Unused(), vectors())),
    "a detached branch": ("no gradient", lambda: (Detached(), vectors())),
    "a NaN": ("non-finite", lambda: (edited(stack(4, nn.ReLU), lambda m: m[2].weight[3, 5].fill_(math.nan)), vectors())),
    "dead by biases": ("dead", lambda: (edited(stack(4, nn.ReLU, he), lambda m: m[2].bias.fill_(-20.0)), vectors())),
    "saturated tanh": ("saturated", lambda: (stack(4, nn.Tanh, large_tanh), vectors())),
    "weights of zeros": ("no signal", lambda: (edited(stack(3, nn.Tanh), zeros), vectors())),
}  # fmt: skip
