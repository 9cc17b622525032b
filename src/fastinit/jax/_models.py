"""Models of Flax and Equinox as functions of their parameters, whose layers an observer sees.

The user's model is not written to: each look makes another one of its parts, whose layers have subclasses of their classes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ._observe import ACTIVATIONS, Layer, current_observer, is_inexact

__all__ = ["Model", "is_model", "parts_of"]

_METHODS = ("__call__", "attend")  # attend: of an embedding that is the head, too
_WEIGHTS = ("kernel", "weight", "w")
_NAME = "_fastinit_name"


@dataclass(frozen=True)
class Model:
    """A model taken apart.

    Attributes
    ----------
    kind : str
        The name of its class.
    parameters : dict of str to array
        Floating and complex ones, by qualified name.
    owners : dict of str to str
        The layer that owns each of them.
    owned : dict of str to dict
        For each layer its parameters: the qualified name by the name within the layer. Those that layers share belong to each.
    alone : bool
        Whether it takes one sample and not a batch, as models of Equinox do.
    made : callable
        ``made(parameters)`` is a context with a model that has these parameters, and whose layers the observer of the time sees.
    """

    kind: str
    parameters: dict[str, Any]
    owners: dict[str, str]
    owned: dict[str, dict[str, str]]
    alone: bool
    made: Callable[[dict[str, Any]], AbstractContextManager[Any]]


def is_model(value: Any) -> bool:
    return any(isinstance(value, kind) for kind in (_class("flax.nnx"), _class("flax.linen"), _class("equinox")))


def parts_of(model: Any, seed: int) -> Model:
    """The parameters of a model, and how to make a model of others."""
    if isinstance(model, _class("flax.nnx")):
        return _nnx(model)
    if isinstance(model, _class("equinox")):
        return _equinox(model)
    if model.scope is None:
        raise TypeError("model: expected a Flax linen module with its variables, module.bind(variables), got one without")
    return _linen(model, seed)


def _class(framework: str) -> Any:
    """The class of a framework's modules; of one that is not imported nothing is an instance."""
    return getattr(sys.modules.get(framework), "Module", ())


# ---- what a layer is --------------------------------------------------------------------------------


def _name_of(path: Any) -> str:
    names = [str(getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry)))) for entry in path]
    return ".".join(names[:-1] if len(names) > 1 and names[-1] == "value" else names)  # of a variable of Flax


def _layer(name: str, kind: str, module: Any, method: str, own: dict[str, tuple[str, Any]], output: Any) -> Layer:
    """What is known of a layer; `own` has the full name and the array of each of its parameters."""
    found = next((leaf for leaf in jax.tree.leaves(output) if is_inexact(leaf)), None)
    ndim, shape = (0, ()) if found is None else (found.ndim, found.shape)
    lowered, of_equinox = kind.lower(), isinstance(module, _class("equinox"))
    is_norm = "norm" in lowered
    axis = -max(ndim, 1) if of_equinox and (lowered.startswith("conv") or is_norm or kind == "PReLU") else -1
    features = getattr(module, "features", getattr(module, "out_features", None))
    axes = len(features) if isinstance(features, tuple) and ndim >= len(features) > 0 else 1
    units = math.prod(shape[-axes:]) if axes > 1 else shape[axis] if ndim else 1
    plain = functools.partial(Layer, name=name, kind=kind, units=units, axis=axis, axes=axes)
    if method == "attend":
        weight = "embedding"
    elif is_norm or "embed" in lowered:
        return plain()
    else:
        weight = next((short for short in _WEIGHTS if short in own and own[short][1].ndim >= 2), "")
    if weight not in own:
        return plain()
    full, array = own[weight]
    here = _weight_here(module, weight)
    if here is found:  # it is passed on, and another module multiplies by it, as linen's OptimizedLSTMCell does
        return plain()
    sizes = tuple(getattr(here, "shape", array.shape))  # in a scan over stacked layers those of one slice of the whole
    units_first = weight != "kernel" and sizes[0] == units and (weight != "w" or sizes[-axes:] != (units,))
    inputs = math.prod(sizes) // units if units and (units_first or math.prod(sizes[-axes:]) == units) else 0
    if "transpose" in lowered:
        steps = getattr(module, "strides", None) or getattr(module, "stride", None) or 1
        inputs //= math.prod(steps) if isinstance(steps, tuple) else steps ** (len(sizes) - 2)
    bias = own["bias"][0] if "bias" in own and method == "__call__" else None
    return plain(weight=full, bias=bias, units_first=units_first, inputs=inputs, one_of_many=sizes != array.shape)


def _weight_here(module: Any, weight: str) -> Any:
    if isinstance(module, _class("flax.linen")):
        return module.variables.get("params", {}).get(weight)
    return getattr(module, weight, None)


@functools.cache  # frameworks keep the classes that are registered with them
def _seen_class(cls: type) -> Any:
    """A subclass whose instances have a name, and whose calls are seen by the observer of the time."""

    def method(which: str) -> Any:
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _called(self, getattr(self, _NAME), cls.__name__, which, (args, kwargs), getattr(super(made, self), which))

        return called

    body = {which: method(which) for which in _METHODS if callable(getattr(cls, which, None))}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    options: dict[str, Any] = {}
    if issubclass(cls, _class("equinox")):
        # A static field goes with an instance through the transformations of JAX.
        body |= {"__annotations__": {_NAME: str}, _NAME: sys.modules["equinox"].field(static=True, default="")}
    elif getattr(cls, "_pytree__is_pytree", True) is False:
        options = {"pytree": False}
    made = _quiet(type(cls))(cls.__name__, (cls,), body, **options)
    return made


@functools.cache
def _quiet(metaclass: Any) -> Any:
    """A metaclass whose classes are not announced to those that they derive from, but for the framework's own.

    The user's classes may keep a register of the classes that derive from them, or want arguments.
    """

    class Silent:
        def __init_subclass__(cls, **options: Any) -> None:
            line = cls.__mro__
            framework = next(i for i, base in enumerate(line) if base in (_class("flax.nnx"), _class("equinox")))
            before: Any = line[framework - 1]
            super(before, cls).__init_subclass__(**options)

    class Quiet(metaclass):
        def mro(cls) -> Any:
            own = super().mro()
            return [own[0], Silent, *own[1:]]

    return Quiet


def _called(module: Any, name: str, kind: str, method: str, given: Any, call: Callable[..., Any]) -> Any:
    args, kwargs = given
    output = call(*args, **kwargs)
    observer = current_observer()
    if observer is None:
        return output
    return observer.seen(_layer(name, kind, module, method, observer.owned.get(name, {}), output), given, output)


def _named_arrays(tree: Any) -> tuple[dict[str, Any], Any, list[Any]]:
    """The floating and complex arrays of a tree by name, its form, and all leaves, with the name in place of these arrays."""
    paths, form = jax.tree_util.tree_flatten_with_path(tree)
    arrays: dict[str, Any] = {}
    leaves = []
    for path, leaf in paths:
        if is_inexact(leaf):
            name = _name_of(path)
            arrays[name] = leaf
            leaves.append(_Named(name))
        else:
            leaves.append(leaf)
    return arrays, form, leaves


@dataclass(frozen=True)
class _Named:
    name: str


def _with(parameters: dict[str, Any], form: Any, leaves: list[Any]) -> Any:
    return form.unflatten([parameters[leaf.name] if isinstance(leaf, _Named) else leaf for leaf in leaves])


def _nearest(name: str, layers: Collection[str]) -> str:
    """The innermost layer that a parameter lies in; else where its name says."""
    parts = name.split(".")[:-1]
    return next((own for n in range(len(parts), -1, -1) if (own := ".".join(parts[:n])) in layers), ".".join(parts))


def _owned(owners: dict[str, str]) -> dict[str, dict[str, str]]:
    owned: dict[str, dict[str, str]] = {}
    for name, layer in owners.items():
        owned.setdefault(layer, {})[name[len(layer) + 1 if layer else 0 :]] = name
    return owned


# ---- frameworks -------------------------------------------------------------------------------------


def _nnx(model: Any) -> Model:
    from flax import nnx

    copied = nnx.clone(model)
    modules = {".".join(map(str, path)): module for path, module in nnx.iter_modules(copied)}
    callables = {name for name, module in modules.items() if callable(module)}
    parameters, _, _ = _named_arrays(nnx.state(copied, nnx.Param))
    owners = {name: _nearest(name, callables) for name in parameters}
    owned = _owned(owners)
    names = {id(array): name for name, array in parameters.items()}
    for layer in callables:
        for short, value in vars(modules[layer]).items():
            known = names.get(id(value.get_raw_value())) if isinstance(value, nnx.Param) else None
            if known is not None and f"{layer}.{short}".lstrip(".") not in parameters:  # that of another layer, which came first
                owned.setdefault(layer, {})[short] = known
    for name, module in modules.items():
        for short, value in list(vars(module).items()):
            if _known_activation(value) and not isinstance(module, nnx.RNNCellBase):  # whose gates may be saturated by design
                setattr(module, short, _activation(value, f"{name}.{short}".lstrip(".")))
    for name in callables & set(owned):
        kind: Any = type(modules[name])
        modules[name].__class__ = _seen_class(kind)
        setattr(modules[name], _NAME, name)
    graph, state, rest = nnx.split(copied, nnx.Param, ...)
    _, form, leaves = _named_arrays(state)

    @contextlib.contextmanager
    def made(parameters: dict[str, Any]) -> Iterator[Any]:
        yield nnx.merge(graph, _with(parameters, form, leaves), rest, copy=True)

    return Model(type(model).__name__, parameters, owners, owned, False, made)


def _equinox(model: Any) -> Model:
    import equinox

    layers: dict[str, Any] = {}

    def seen(node: Any, name: str) -> Any:
        """A copy of a module whose inner modules, and it itself if it owns parameters, have the subclasses."""

        def inner(one: Any) -> bool:
            return one is not node and isinstance(one, equinox.Module)

        children, form = jax.tree_util.tree_flatten_with_path(node, is_leaf=inner)
        own, owns = [], False
        for path, child in children:
            full = _name_of(path) if not name else f"{name}.{_name_of(path)}"
            owns |= is_inexact(child)
            own.append(seen(child, full) if inner(child) else _activation(child, full))
        copied = form.unflatten(own)
        if owns and callable(node):
            kind: Any = type(node)
            object.__setattr__(copied, "__class__", _seen_class(kind))
            object.__setattr__(copied, _NAME, name)
            layers[name] = copied
        return copied

    parameters, form, leaves = _named_arrays(seen(model, ""))

    @contextlib.contextmanager
    def made(parameters: dict[str, Any]) -> Iterator[Any]:
        yield _with(parameters, form, leaves)

    owners = {name: _nearest(name, layers) for name in parameters}
    return Model(type(model).__name__, parameters, owners, _owned(owners), True, made)


def _known_activation(value: Any) -> str | None:
    return next((word for function, word in ACTIVATIONS.items() if value is function), None)


def _activation(value: Any, name: str) -> Any:
    """A function that is a leaf of a model, seen if it is a known activation function."""
    known = _known_activation(value)
    if known is None:
        return value
    label = name.removesuffix(".fn")  # of equinox.nn.Lambda

    @functools.wraps(value)
    def called(*args: Any, **kwargs: Any) -> Any:
        output, observer = value(*args, **kwargs), current_observer()
        if observer is None:
            return output
        ndim = np.ndim(output)
        axis = observer.axis if -ndim <= observer.axis else -1
        units = output.shape[axis] if ndim else 1
        return observer.seen(Layer(name=label, kind=known, units=units, axis=axis, activation=known), args, output)

    return called


def _linen(model: Any, seed: int) -> Model:
    from flax import linen

    module, variables = model.unbind()
    if variables and "params" not in variables:
        raise ValueError(
            'model: expected a Flax linen module with its variables, module.bind({"params": params}), got the collections '
            + ", ".join(sorted(variables))
        )
    streams = {"params", "dropout", *model.scope.rngs}
    others = {name: tree for name, tree in variables.items() if name != "params"}
    parameters, form, leaves = _named_arrays(variables.get("params", {}))
    owners = {name: name.rpartition(".")[0] for name in parameters}

    def intercepted(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        name = ".".join(context.module.path)
        if context.method_name not in _METHODS or name not in owners.values():
            return call(*args, **kwargs)
        return _called(context.module, name, type(context.module).__name__, context.method_name, (args, kwargs), call)

    @contextlib.contextmanager
    def made(parameters: dict[str, Any]) -> Iterator[Any]:
        key = jax.random.key(seed)
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(sorted(streams))}
        with linen.intercept_methods(intercepted):
            yield module.bind({"params": _with(parameters, form, leaves), **others}, rngs=keys, mutable=list(others))

    return Model(type(module).__name__, parameters, owners, _owned(owners), False, made)
