"""The ledger: while a network is asked, only what can be set is set; afterwards everything is as it was."""

from __future__ import annotations

import contextlib
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_changed = threading.Condition()
_owners: weakref.WeakKeyDictionary[nn.Module, tuple[int, int]] = weakref.WeakKeyDictionary()  # module -> (thread, depth)


@contextlib.contextmanager
def _alone(modules: list[nn.Module]) -> Iterator[None]:
    """Hold every module of the tree; another thread that shares even one of them waits. Re-entrant."""
    me = threading.get_ident()

    def free() -> bool:
        return all(_owners.get(m, (me, 0))[0] == me for m in modules)

    with _changed:
        _changed.wait_for(free)
        for m in modules:
            _owners[m] = (me, _owners.get(m, (me, 0))[1] + 1)
    try:
        yield
    finally:
        with _changed:
            for m in modules:
                depth = _owners[m][1] - 1
                if depth:
                    _owners[m] = (me, depth)
                else:
                    del _owners[m]
            _changed.notify_all()


def random_state() -> Callable[[], None]:
    """Remember every global random state; calling the answer puts it back."""
    cpu, npy, py = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  (read, never used)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None

    def restore() -> None:
        torch.set_rng_state(cpu)
        np.random.set_state(npy)  # noqa: NPY002
        random.setstate(py)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return restore


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Autocast off, whatever the caller has set: slopes in half precision are noise."""
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextlib.contextmanager
def _plain_device() -> Iterator[None]:
    """New tensors on the CPU unless they say otherwise, whatever ``torch.set_default_device`` was told."""
    if torch.get_default_device().type == "cpu":
        yield
        return
    with torch.device("cpu"):
        yield


def _set(thing: Any, name: str, value: Any) -> None:
    """Set an attribute where it can be set: scripted modules freeze some."""
    if getattr(thing, name) != value:
        with contextlib.suppress(AttributeError, RuntimeError):
            setattr(thing, name, value)


def _restore_tensors(module: nn.Module, names: dict[str, Any], copies: dict[str, tuple[Any, int, Any]]) -> None:
    for name in [n for n in names if n not in copies]:
        del names[name]
    for name, (tensor, version, copy) in copies.items():
        if names.get(name) is not tensor:
            names[name] = tensor
        if tensor is not None and _version(tensor) != version:
            with torch.no_grad():
                tensor.copy_(copy)


@contextlib.contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Ask a network in evaluation mode, without gradients for its weights, and leave it exactly as it came.

    Records training flags, hooks, buffers, parameters' ``requires_grad`` and ``.grad``, the ``inplace`` flags and the global random
    states, and puts all of them back after success, crash or cancel. Two threads on one module tree take turns.
    """
    modules = list(net.modules())
    with _alone(modules), torch.inference_mode(False), torch.enable_grad(), _full_precision(), _plain_device():
        params = list(net.parameters())
        flags = [(m, getattr(m, "training", False), getattr(m, "inplace", None)) for m in modules]
        needs = [(p, p.requires_grad, p.grad) for p in params]
        hooks = [(getattr(m, kind), dict(getattr(m, kind))) for m in modules for kind in HOOKS if hasattr(m, kind)]
        compiled = [(m, m._compiled_call_impl) for m in modules if getattr(m, "_compiled_call_impl", None) is not None]
        scripted = isinstance(net, torch.jit.ScriptModule)
        buffers = [] if scripted else [(m, m._buffers, _copies(m._buffers)) for m in modules if m._buffers]
        random_back = random_state()
        try:
            for m in modules:
                _set(m, "training", False)
            for m, _ in compiled:  # net.compile(): no hook would be heard inside
                m._compiled_call_impl = None
            for p in params:
                if not p.is_inference():
                    p.requires_grad_(False)
            yield
        finally:
            for m, training, inplace in flags:
                _set(m, "training", training)
                if inplace is not None:
                    _set(m, "inplace", inplace)
            for m, impl in compiled:
                m._compiled_call_impl = impl
            for live, kept in hooks:
                for key in [k for k in live if k not in kept]:
                    del live[key]
            for m, names, copies in buffers:
                _restore_tensors(m, names, copies)
            for p, needed, grad in needs:
                if not p.is_inference():
                    p.requires_grad_(needed)
                    p.grad = grad
            random_back()


def _version(tensor: torch.Tensor) -> int:
    """Counts writes; inference tensors do not."""
    return -1 if tensor.is_inference() else tensor._version


def _copies(buffers: dict[str, Any]) -> dict[str, tuple[Any, int, Any]]:
    return {name: (b, -1 if b is None else _version(b), None if b is None else b.detach().clone()) for name, b in buffers.items()}
