"""Operations that torch cannot differentiate, once or twice: which layer they are in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pruneviz.errors import PrunevizError, UnsupportedError
from pruneviz.measuring.directional import Followed
from pruneviz.measuring.objective import Objective
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import mapped, tensors_in
from pruneviz.model.supported import described_layer

Order = Literal[1, 2]

_OPERATION = re.compile(r"derivative for (?:aten::)?(\w+?)(?:_backward)? is not implemented")
_ONCE = once_differentiable(lambda ctx: None).__code__  # what this decorator makes of any function
_FIRST_ORDER = ("theta_g", "abs_theta_g", "theta2_abs_g", "g_norm2")


@contextmanager
def derivatives_explained(sample: Objective, order: Order) -> Iterator[None]:
    """Context of derivatives that names the layer which has none.

    Args:
        sample: The loss that is differentiated.
        order: 1 for gradients, 2 for second derivatives.

    Raises:
        UnsupportedError: If torch cannot differentiate an operation; names its layer, the columns
            that can be measured, and how to leave it out.
    """
    try:
        yield
    except PrunevizError:
        raise
    except Exception as error:  # a backward pass of a custom function may raise anything
        if is_out_of_memory(error):
            raise
        where = _blamed(sample, order)
        if where is None:
            raise
        raise UnsupportedError(_message(where, order, error)) from error
    _check_not_by_itself(sample)


def _check_not_by_itself(sample: Objective) -> None:
    """Refuse networks that differentiate a part of themselves: the rest would miss it."""
    inside = [name for name, p in sample.parameters.items() if p.grad is not None]
    for name in inside:
        sample.parameters[name].grad = None
    if inside:
        raise UnsupportedError(
            f"the network differentiates a part of itself that holds {inside[0]}, as activation "
            "checkpointing of its own does; switch that off while measuring"
        )


def check_differentiable_twice(sample: Objective, loss: Tensor) -> None:
    """Check that no function in the graph of a loss is marked as differentiable only once.

    torch would return zeros for its second derivative, without an error.

    Args:
        sample: The loss that is differentiated.
        loss: Computed from it, with its graph.

    Raises:
        UnsupportedError: If there is one; names its layer.
    """
    once = _once_differentiable([loss])
    if once:
        where = _blamed(sample, 2) or "the network"
        raise UnsupportedError(_message(where, 2, f"{once} is marked @once_differentiable"))


def _once_differentiable(tensors: list[Tensor]) -> str | None:
    """Name of a custom function in the graph of tensors that is differentiable only once."""
    stack: list[Any] = [tensor.grad_fn for tensor in tensors]
    seen: set[Any] = {None}
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        custom = getattr(node, "_forward_cls", None)
        if custom is not None and getattr(custom.backward, "__code__", None) is _ONCE:
            return str(custom.__name__)
        stack += [child for child, _ in node.next_functions]
    return None


def _message(where: str, order: Order, error: object) -> str:
    text = str(error).splitlines()[0].rstrip(".")
    operation = _OPERATION.search(text)
    reason = f"of {operation[1]}" if operation else f"here: {text}"
    leave_out = (
        "leave it out by parameters= with names or patterns of the parameters after it alone, so "
        "that no derivative passes through it"
    )
    if order == 1:
        return f"{where} cannot be differentiated: torch has no derivative {reason}; {leave_out}"
    columns = ", ".join(repr(name) for name in _FIRST_ORDER)
    return (
        f"{where} cannot be differentiated twice: torch has no second derivative {reason}. "
        "Columns theta_hg* need one; measure the others, such as with "
        f"columns=[{columns}], or {leave_out}"
    )


def _blamed(sample: Objective, order: Order) -> str | None:
    """The first layer, inner ones before outer ones, that cannot be differentiated by itself."""
    found: list[str] = []

    def check(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: object) -> None:
            if not found and not _differentiates(module.forward, args, kwargs, module, order):
                found.append(name)

        return hook

    x, y = sample.first_examples()
    with ExitStack() as stack:
        for name, module in sample.model.named_modules():
            handle = module.register_forward_hook(check(name), with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(Followed(sample.parameters))
        output = sample.output(x)
    if found:
        return described_layer(sample.model, found[0])

    def loss(given: Any) -> Tensor:
        return sample.loss(given, y)

    return None if _differentiates(loss, (output,), {}, None, order) else "the loss"


def _differentiates(
    function: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
    module: nn.Module | None,
    order: Order,
) -> bool:
    """Whether a function can be differentiated by its inputs and parameters."""
    args, kwargs = mapped((args, kwargs), _as_leaf)
    inputs = [*tensors_in((args, kwargs)), *(module.parameters() if module else ())]
    leaves = [leaf for leaf in inputs if leaf.requires_grad]
    outputs = [t for t in tensors_in(function(*args, **kwargs)) if t.requires_grad]
    if not leaves or not outputs:
        return True
    if order == 2 and _once_differentiable(outputs):
        return False
    try:
        value = torch.stack([t.abs().square().sum() for t in outputs]).sum()
        g = torch.autograd.grad(value, leaves, create_graph=order == 2, allow_unused=True)
        slopes = [part.abs().square().sum() for part in g if part is not None]
        slopes = [slope for slope in slopes if slope.requires_grad]
        if slopes:
            torch.autograd.grad(torch.stack(slopes).sum(), leaves, allow_unused=True)
    except Exception as error:
        return is_out_of_memory(error)
    return True


def _as_leaf(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    return copied.requires_grad_() if copied.is_floating_point() else copied
