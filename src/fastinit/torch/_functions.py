"""What functions show that no hook of a module sees: attention, residual additions, activation functions called as functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..diagnosis.entropy import QUERIES, ROWS, mean_entropy

if TYPE_CHECKING:
    from ..diagnosis.calls import Call
    from ._observe import Observer

__all__ = ["Functions", "attention_entropy"]

_HOPS = 6  # from the weights of attention to their product with values: a cast, dropout, views
_LARGEST_BRANCH = 10_000  # nodes of the graph that are searched for the stream that a branch came from

_Tensor = torch.Tensor
_NAMES = {
    "relu": (F.relu, torch.relu, torch.relu_, _Tensor.relu, _Tensor.relu_, F.relu6),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_),
    "tanh": (F.tanh, torch.tanh, torch.tanh_, _Tensor.tanh, _Tensor.tanh_),
    "sigmoid": (F.sigmoid, torch.sigmoid, torch.sigmoid_, _Tensor.sigmoid, _Tensor.sigmoid_, torch.special.expit),
    "hard_tanh": (F.hardtanh, F.hardtanh_),
    "softsign": (F.softsign,),
}
_ACTIVATIONS = {function: name for name, functions in _NAMES.items() for function in functions}
_SOFTMAX = {F.softmax, torch.softmax, _Tensor.softmax, torch.special.softmax}
_PRODUCTS = {torch.matmul, torch.bmm, torch.einsum, _Tensor.matmul, _Tensor.bmm, _Tensor.__matmul__}
_SUMS = {torch.add, _Tensor.add, _Tensor.add_, _Tensor.__add__, _Tensor.__iadd__, _Tensor.__radd__}
_SCALINGS = {torch.mul, _Tensor.mul, _Tensor.mul_, _Tensor.__mul__, _Tensor.__imul__, _Tensor.__rmul__}


class Functions(TorchFunctionMode):
    """Notes what functions do inside a ``with`` block, which is a forward pass of the model that an observer has hooks on."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer
        self._weights: dict[Any, float] = {}  # nodes of softmax, with the entropy of what they computed
        self._gates: dict[Any, Call] = {}  # nodes of functions whose result may be what something else is multiplied by
        self._seen: dict[Any, Callable[..., Any]] = {
            F.scaled_dot_product_attention: self._attention,
            F.multi_head_attention_forward: self._many_heads,
            **dict.fromkeys(_ACTIVATIONS, self._activation),
            **dict.fromkeys(_SOFTMAX, self._softmax),
            **dict.fromkeys(_PRODUCTS, self._product),
            **dict.fromkeys(_SUMS, self._sum),
            **dict.fromkeys(_SCALINGS, self._scaling),
        }

    def __exit__(self, *error: Any) -> None:
        self._weights.clear()
        self._gates.clear()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        see = self._seen.get(func)
        return func(*args, **(kwargs or {})) if see is None else see(func, args, kwargs or {})

    # ---- activation functions ---------------------------------------------------------------------------

    def _activation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A row for each call, but for those of modules, which have their own."""
        output = func(*args, **kwargs)
        if _plain(output) and output.requires_grad and not self._observer.in_activation:
            activation = _ACTIVATIONS[func]
            call = self._observer.note_activation(activation, output)
            if activation in ("tanh", "sigmoid"):
                self._gates[output.grad_fn] = call
        return output

    def _scaling(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is multiplied by another tensor is a gate, as in an LSTM or in GELU, whose flat sides stop no gradient."""
        if self._gates and all(isinstance(value, torch.Tensor) and value.requires_grad for value in args[:2]):
            for value in args[:2]:
                node = _behind(value, self._gates)
                if node is not None:
                    self._observer.drop(self._gates.pop(node))
        return func(*args, **kwargs)

    # ---- attention --------------------------------------------------------------------------------------

    def _attention(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        given = _attention_arguments(*args, **kwargs)
        if _plain(output) and all(map(_plain, given[:2])) and not output.is_nested:
            self._observer.note_attention(output, attention_entropy(*given))
        return output

    def _many_heads(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `torch.nn.MultiheadAttention` calls, whose queries and keys are projected inside of it."""
        output = func(*args, **kwargs)
        given = _projected(*args, **kwargs) if all(map(_plain, args[:2])) else None
        if given is not None:
            self._observer.note_attention(output[0], attention_entropy(*given))
        return output

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Attention's only if its result is multiplied with values afterwards: probabilities and gates have one, too."""
        logits: Any = args[0] if args else kwargs.get("input")
        output = func(*args, **kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        seen = _plain(logits) and _plain(output) and output.grad_fn is not None
        if seen and logits.dim() >= 3 and dim in (-1, logits.dim() - 1):
            self._weights[output.grad_fn] = _mean_entropy(_some_of(logits))
        return output

    def _product(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        if self._weights and _plain(output):
            for value in args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args:
                node = _behind(value, self._weights) if isinstance(value, torch.Tensor) else None
                if node is not None:
                    self._observer.note_attention(output, self._weights.pop(node))
        return output

    # ---- residual additions -----------------------------------------------------------------------------

    def _sum(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of two operands one of which was computed from the other one, that one is the branch."""
        both = args[:2]
        computed = len(both) == 2 and not kwargs and all(_plain(value) and value.grad_fn is not None for value in both)
        if computed and both[0].shape == both[1].shape and both[0].dim() >= 2:
            stream, branch = sorted(both, key=lambda value: value.grad_fn._sequence_nr())
            self._observer.note_branch(branch, stream, _between(stream.grad_fn, branch.grad_fn))
        return func(*args, **kwargs)


def _plain(value: Any) -> bool:
    """A real floating tensor whose numbers can be looked at: of no subclass, and outside of functorch's transforms."""
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.is_floating_point()
        and not value.is_nested
        and value.layout == torch.strided
        and not torch._C._functorch.is_functorch_wrapped_tensor(value)
    )


def _behind(tensor: torch.Tensor, nodes: dict[Any, Any]) -> Any:
    """The one of some nodes that a tensor was computed from by few steps, along the first input of each; or None."""
    node = tensor.grad_fn
    for _ in range(_HOPS):
        if node is None or node in nodes:
            return node
        node = node.next_functions[0][0] if node.next_functions else None
    return None


def _between(stream: Any, branch: Any) -> set[int]:
    """The numbers of the nodes that were computed after the stream's and went into the branch's; none if it did not."""
    begin, found, seen, waiting = stream._sequence_nr(), False, {branch}, [branch]
    while waiting and len(seen) < _LARGEST_BRANCH:
        for node, _ in waiting.pop().next_functions:
            found = found or node is stream
            if node is not None and node not in seen and begin < node._sequence_nr() and not hasattr(node, "variable"):
                seen.add(node)
                waiting.append(node)
    return {node._sequence_nr() for node in seen} if found else set()


# ---- the entropy of attention -----------------------------------------------------------------------


def _attention_arguments(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """Those of `torch.nn.functional.scaled_dot_product_attention` that the weights depend on."""
    return query, key, attn_mask, is_causal, scale


def _evenly(length: int, most: int, device: Any) -> torch.Tensor:
    """At most so many indices at equal distances, the last one among them."""
    count = min(length, most)
    return torch.arange(1, count + 1, device=device) * length // count - 1


def _picked(shape: torch.Size, device: Any) -> tuple[torch.Tensor, ...]:
    """Indices of some of the entries that leading axes have, one array for each axis."""
    return torch.unravel_index(_evenly(math.prod(shape), ROWS, device), shape) if shape else ()


@torch.no_grad()
def attention_entropy(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None, is_causal: bool = False, scale: float | None = None
) -> float:
    """Mean entropy of the weights of some queries by ln of how many keys each may see; NaN where none sees two.

    Parameters
    ----------
    query : tensor of shape (..., heads, queries, size)
    key : tensor of shape (..., heads, keys, size)
        Of as many heads or of a divisor.
    mask : tensor whose shape broadcasts to (..., heads, queries, keys), optional
        Bools, True where a query may look, or numbers that are added.
    is_causal : bool
        Whether query i sees keys 0 to i.
    scale : float, default 1 / sqrt(size)
    """
    lead = query.shape[:-2]
    if not query.numel() or not key.numel() or query.dim() != key.dim() or (mask is not None and mask.dim() > query.dim()):
        return math.nan
    with torch.autocast(query.device.type, enabled=False):
        picked = _picked(lead, query.device)
        rows = _evenly(query.shape[-2], QUERIES, query.device)
        own = (*(index[:, None] for index in picked), rows)
        some = query[own].float()
        keys = key[tuple(
            index * size // length for index, size, length in zip(picked, key.shape[:-2], lead, strict=True)
        )].float()  # fmt: skip
        logits = some @ keys.transpose(-1, -2) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if mask is not None:
            chosen = mask.expand(*lead, query.shape[-2], key.shape[-2])[own]
            logits = logits.masked_fill(~chosen, -math.inf) if chosen.dtype == torch.bool else logits + chosen.float()
        if is_causal:
            logits = logits.masked_fill(torch.arange(key.shape[-2], device=query.device) > rows[:, None], -math.inf)
        return _mean_entropy(logits)


@torch.no_grad()
def _some_of(logits: torch.Tensor) -> torch.Tensor:
    rows = _evenly(logits.shape[-2], QUERIES, logits.device)
    picked = _picked(logits.shape[:-2], logits.device)
    return logits[(*(index[:, None] for index in picked), rows)].float()


def _mean_entropy(logits: torch.Tensor) -> float:
    return mean_entropy(logits.detach().cpu().numpy())[0]


@torch.no_grad()
def _projected(
    query: torch.Tensor, key: torch.Tensor, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any,
    in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Any, out_proj_bias: Any,
    training: bool = True, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None, v_proj_weight: Any = None,
    static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Any, ...] | None:  # fmt: skip
    """Queries, keys and mask of some samples, from what `torch.nn.functional.multi_head_attention_forward` takes.

    Keys that it adds of its own are left to it: then there is no number.
    """
    if bias_k is not None or static_k is not None or add_zero_attn or not query.numel() or not key.numel():
        return None
    with torch.autocast(query.device.type, enabled=False):
        if query.dim() == 2:
            query, key = query[:, None], key[:, None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        batch, embed = query.shape[1], query.shape[2]
        some = _evenly(batch, 2, query.device)
        rows = _evenly(len(query), QUERIES, query.device)
        weights = (q_proj_weight, k_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)[:2]
        biases = (None, None) if in_proj_bias is None else in_proj_bias.chunk(3)[:2]
        queries, keys = (
            F.linear(x[:, some].to(weight.dtype), weight, bias).unflatten(-1, (num_heads, embed // num_heads)).permute(1, 2, 0, 3)
            for x, weight, bias in zip((query[rows], key), weights, biases, strict=True)
        )
        mask = torch.zeros(len(some), num_heads, len(rows), len(key), device=query.device)
        if attn_mask is not None:
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.unflatten(0, (batch, num_heads))[some]
            mask = mask + _added(attn_mask[..., rows, :])
        if key_padding_mask is not None:
            mask = mask + _added(key_padding_mask[some, None, None])
        return queries, keys, mask


def _added(mask: torch.Tensor) -> torch.Tensor:
    """A mask as numbers to add; of bools those that are True hide a key."""
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask.float()

