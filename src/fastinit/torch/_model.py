"""Whole models, and single tensors, filled in place: every parameter by a plan, on any device and in any shard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch._C import _functorch as functorch

from .._common.checks import shown
from .._common.dtypes import resolve
from .._stream.keys import Key, check_key
from ..initializers import get
from ..plans import Parameter, Plan, Receipt
from ..plans.fill import Target, fill
from ..plans.names import Pattern
from ..plans.plan import Planned
from ._buffers import MetaBuffers
from ._initializers import fill_with
from ._memory import borrowed, names_of, refuse_unwritable, tell
from ._parameters import Found, dtype_name, kind_of, naming, parameters_in
from ._shards import held

__all__ = ["init_", "param_init_fn"]

_DTYPES = {name: dtype for dtype, name in names_of(complex_too=True, float8_too=True).items()}


def init_(
    model: Any,
    plan: Any,
    *,
    key: Key,
    protect: str | Iterable[str] = (),
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    tensor_parallel: tuple[int, int] | None = None,
) -> Any:
    """Fill every parameter of a model by a plan, or one tensor by an initializer, in place.

    Each number is a function of the plan, the key, the name of its tensor and its place in the whole tensor. So a process that
    holds a part of a tensor fills that part alone, without the whole and without communication, and gets the bits that one
    process would. A second call writes the same bits. PyTorch's generators are left as they are.

    The plan, dtypes, memory, and buffers without values are checked before anything is written.

    Parameters
    ----------
    model : torch.nn.Module or torch.Tensor
        A module on any device. Parameters on the meta device get memory, and keep their ties, hooks and attributes; they stay the
        same objects too, except in recurrent modules. Buffers with memory are left as they are, those on the meta device are
        computed by their modules: running statistics, rotary frequencies, the buffers of Transformers' and timm's models.
        DTensors, as of ``fully_shard`` and tensor parallelism, are filled with the box that this process holds.
    plan : Plan, or what `fastinit.get` takes
        For a tensor an initializer; its shape is read in PyTorch's order, (out, in, \\*field).
    key : Key
        Of the model; that of a tensor in it is ``key / name``. Of a single tensor, its own.
    protect : str or iterable of str, default ()
        Globs of parameters that keep their values, see `fastinit.plans.Rule`, on the model's own names. They need no rule.
    dtype : torch.dtype or str, optional
        Which dtype floating-point parameters on the meta device get, by default their own. Those with memory must have it.
    device : torch.device or str, optional
        Where parameters and buffers on the meta device get memory: by default on the CPU, and of a DTensor on the devices of its
        mesh.
    tensor_parallel : (rank, size), optional
        The place of this process in Megatron's tensor-parallel group, for parameters with the attributes
        ``tensor_model_parallel``, ``partition_dim`` and ``partition_stride``.

    Returns
    -------
    Receipt, or the tensor
        Of a model what each tensor in it was filled with, see `fastinit.plans.Receipt`.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If a parameter has no rule, or a rule or glob no parameter; if a parameter has no memory of its own (flattened by FSDP1,
        partitioned by DeepSpeed ZeRO-3), or another dtype than asked for; or if no module computes a buffer on the meta device.
    NotImplementedError
        If a parameter is sparse, quantised, fake, or of a partial DTensor.
    RuntimeError
        Under torch.compile, torch.export, torch.func, and where a dispatch mode records operations.

    Examples
    --------
    >>> from fastinit.plans import Plan, Rule
    >>> plan = Plan([Rule("**.bias", "zeros"), Rule("**.weight", "he_normal")])
    >>> with torch.device("meta"):
    ...     model = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    >>> receipt = init_(model, plan, key=Key(0))
    >>> tensor = init_(torch.empty(256, 784), "he_normal", key=Key(0))
    """
    check_key(key)
    if isinstance(model, torch.Tensor):
        if protect != () or dtype is not None or device is not None or tensor_parallel is not None:
            raise TypeError("init_: expected protect, dtype, device and tensor_parallel for models only, got them for a tensor")
        return fill_with(get(plan), model, "float32", key, None)
    start = _Start(model, plan, key, protect, dtype, device, tensor_parallel)
    start.fill_all(model)
    return Receipt.of(start.planned, key, plan=plan)


def param_init_fn(
    model: torch.nn.Module,
    plan: Plan,
    *,
    key: Key,
    protect: str | Iterable[str] = (),
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    tensor_parallel: tuple[int, int] | None = None,
) -> Any:
    """A function that fills one module of a model, or one parameter, as `init_` fills the whole model.

    For libraries that initialise module by module: ``FullyShardedDataParallel(model, param_init_fn=...)``, and the callables of
    torchtitan's ``param_init``, which get a parameter. Call it before the model is wrapped; names are those of `model`.

    Parameters
    ----------
    model, plan, key, protect, dtype, device, tensor_parallel
        As of `init_`.

    Returns
    -------
    callable
        Given a module of the model, it fills the parameters that the module itself owns, and not those of its children; given a
        parameter of the model, that one.

    Raises
    ------
    TypeError, ValueError, NotImplementedError, RuntimeError
        As `init_`.
    """
    start = _Start(model, plan, check_key(key), protect, dtype, device, tensor_parallel)

    def fill_part(part: torch.nn.Module | torch.Tensor) -> None:
        start.fill_part(part)

    return fill_part


class _Start:
    """A model and what each of its parameters begins with, checked."""

    def __init__(
        self, model: Any, plan: Any, key: Key, protect: Any, dtype: Any, device: Any, tensor_parallel: Any
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module or torch.Tensor, got {type(model).__name__}")
        if not isinstance(plan, Plan):
            raise TypeError(f"plan: expected a fastinit.plans.Plan, got {type(plan).__name__} {shown(plan)}")
        _refuse_recording()
        for module in model.modules():
            if hasattr(module, "reshard") and kind_of(module) != type(module).__name__:
                module.reshard()  # FSDP2 may hold gathered copies, which it would drop together with what is written to them
        self._key = key
        self._device = None if device is None else torch.device(device)
        self._dtype = None if dtype is None else _as_dtype(dtype)
        self._tensor_parallel = _as_rank_and_size(tensor_parallel)
        found = parameters_in(model)
        kept = _protected(found, protect)
        by_name: dict[str, Found] = {}
        listed: list[Parameter] = []
        for one in found:
            if one.names[0] in kept and one.tensor.dtype not in _DTYPES.values():
                continue
            with naming(one):
                parameter = one.as_planned(dtype_name(self._dtype_of(one)), self._tensor_parallel)
            if one.names[0] not in kept:
                by_name[parameter.name] = one
                self._check(one)
            elif not _has_rules(plan, parameter):
                continue
            listed.append(parameter)
        self.planned: tuple[Planned, ...] = tuple(one for one in plan.resolve(listed) if one.parameter.name in by_name)
        self._found = {one.parameter.name: by_name[one.parameter.name] for one in self.planned}
        self._buffers = MetaBuffers(model)

    def _dtype_of(self, found: Found) -> torch.dtype:
        own = found.tensor.dtype
        return self._dtype if self._dtype is not None and found.tensor.is_meta and own.is_floating_point else own

    def _check(self, found: Found) -> None:
        """Refuse what cannot be written."""
        tensor: Any = found.tensor
        with naming(found):
            if tensor.is_quantized:
                raise NotImplementedError("expected real or complex numbers, got a quantised tensor")
            own = type(tensor).__torch_dispatch__
            parts = held(tensor, self._tensor_parallel).pieces
            if own is not torch.Tensor.__torch_dispatch__ and not hasattr(tensor, "__create_chunk_list__"):
                raise NotImplementedError(f"expected a tensor with memory of its own, got a {type(tensor).__name__}")
            for memory in [memory for memory, _ in parts] or [tensor]:
                if not memory.is_meta:
                    refuse_unwritable(memory, "init_")
                    if any(n > 1 and step == 0 for n, step in zip(memory.shape, memory.stride(), strict=True)):
                        raise ValueError("expected memory for every element, got an expanded tensor")
            if self._dtype is not None and not tensor.is_meta and tensor.dtype.is_floating_point and tensor.dtype != self._dtype:
                raise ValueError(f"expected dtype {self._dtype}, got {tensor.dtype}; convert it first, model.to(dtype)")

    def fill_all(self, model: torch.nn.Module) -> None:
        """Fill the whole model."""
        self._fill(self.planned, list(model.modules()))

    def fill_part(self, part: Any) -> None:
        """Fill the parameters that a module itself owns, or a parameter."""
        _refuse_recording()
        if isinstance(part, torch.nn.Module):
            chosen = [one for one in self.planned if any(m is part for m, _ in self._found[one.parameter.name].places)]
            self._fill(chosen, [part])
            return
        for one in self.planned:
            found = self._found[one.parameter.name]
            if any(module._parameters.get(name) is part for module, name in found.places):
                self._fill([one], [])
                return
        raise ValueError(f"param_init_fn: expected a module or parameter of the model, got one of shape {tuple(part.shape)}")

    @torch.no_grad()
    def _fill(self, planned: Sequence[Planned], modules: Sequence[torch.nn.Module]) -> None:
        self._materialise([self._found[one.parameter.name] for one in planned], modules)
        direct: list[Any] = []
        staged: list[Any] = []
        tensors: list[Any] = []
        for one in planned:
            found = self._found[one.parameter.name]
            module, attribute = found.places[0]
            tensor: Any = module._parameters[attribute]  # which may be another one than when the model was checked
            tensors.append(tensor)
            with naming(found):
                here = held(tensor, self._tensor_parallel)
                if here.shape != one.parameter.shape or dtype_name(tensor.dtype) != one.parameter.dtype:
                    raise ValueError(
                        f"expected {one.parameter.shape} in {one.parameter.dtype}, got {here.shape} in {tensor.dtype}"
                    )
            for memory, box in here.pieces:
                (direct if memory.is_cpu and not memory.is_neg() and not memory.is_conj() else staged).append((one, memory, box))
        fill((Target(one, borrowed(memory), one.parameter.dtype, box) for one, memory, box in direct), self._key)
        for one, memory, box in staged:  # one after the other: only one at a time is on the CPU, too
            copy = torch.empty(memory.shape, dtype=memory.dtype, device="cpu")
            fill([Target(one, borrowed(copy), one.parameter.dtype, box)], self._key)
            memory.copy_(copy)
        for tensor in tensors:
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)  # by which autograd notices that a saved tensor was overwritten
            tell(tensor)

    def _materialise(self, found: Sequence[Found], modules: Sequence[torch.nn.Module]) -> None:
        """Give parameters on the meta device memory, and the buffers of the modules memory and values."""
        attributes = []
        for one in found:
            old: Any = one.places[0][0]._parameters[one.places[0][1]]
            if old.is_meta:
                fresh = torch.empty_like(old, device=self._device or _device_of(old), dtype=self._dtype_of(one))
                attributes.append((one, dict(old.__dict__)))
                _exchange(old, torch.nn.Parameter(fresh, requires_grad=old.requires_grad), one)
        if attributes:
            for module in modules:  # FSDP2 and recurrent modules keep references to their parameters
                if type(module)._apply is not torch.nn.Module._apply:
                    module._apply(_same, recurse=False)
            for one, own in attributes:
                one.places[0][0]._parameters[one.places[0][1]].__dict__.update(own)
        self._buffers.materialise(self._device or torch.device("cpu"), modules)


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _exchange(old: Any, fresh: Any, found: Found) -> None:
    """Make `old` a parameter with memory, so that whoever refers to it, as an optimizer does, refers to that."""
    fresh.__dict__.update(old.__dict__)
    fresh._backward_hooks = old._backward_hooks
    try:
        torch.utils.swap_tensors(old, fresh)
    except RuntimeError:  # there are weak references to it, as in recurrent modules, or nodes of autograd's graph
        for module, attribute in found.places:
            module._parameters[attribute] = fresh


def _device_of(tensor: Any) -> torch.device:
    mesh = getattr(tensor, "device_mesh", None)
    return torch.device("cpu" if mesh is None else mesh.device_type)


def _as_dtype(dtype: Any) -> torch.dtype:
    found: Any = dtype if isinstance(dtype, torch.dtype) else _DTYPES.get(resolve(dtype))
    if found not in _DTYPES.values() or not found.is_floating_point:
        raise ValueError(f"dtype: expected a floating-point dtype of PyTorch, got {shown(dtype)}")
    return found


def _as_rank_and_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    rank, size = value
    if not 0 <= rank < size:
        raise ValueError(f"tensor_parallel: expected (rank, size) with 0 <= rank < size, got {shown(value)}")
    return int(rank), int(size)


def _protected(found: Sequence[Found], protect: Any) -> set[str]:
    """The first names of the parameters that a glob matches under any name."""
    globs = [Pattern(glob) for glob in ((protect,) if isinstance(protect, str) else tuple(protect))]
    kept = set()
    for glob in globs:
        matching = {one.names[0] for one in found if any(glob.match(name) is not None for name in one.names)}
        if not matching:
            raise ValueError(f"protect: expected globs of parameters, got {glob.text!r}, which matches none")
        kept |= matching
    for one in found:
        if one.names[0] in kept and one.tensor.is_meta:
            raise ValueError(f"protect: expected parameters with values, got {one.names[0]} on the meta device")
    return kept


def _has_rules(plan: Plan, parameter: Parameter) -> bool:
    """Whether the plan has a rule for each tensor in a parameter."""
    with contextlib.suppress(ValueError):
        return all(
            any(rule.matches(part.name, parameter.kind, len(part.shape)) for rule in plan.rules for part in aliases)
            for aliases in plan.parts(parameter)
        )
    return False


def _refuse_recording() -> None:
    """Refuse to write where PyTorch records operations: what is written would be missing from the record."""
    if torch.compiler.is_compiling():
        raise RuntimeError("init_: expected a call outside of torch.compile and torch.export, got one inside")
    if functorch.peek_interpreter_stack() is not None:
        raise RuntimeError("init_: expected a call outside of the transforms of torch.func, got one inside")
    if torch._C._len_torch_dispatch_stack():
        raise RuntimeError("init_: expected a call outside of dispatch modes, such as fake tensors and make_fx, got one inside")
