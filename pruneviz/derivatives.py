"""The gradient g and Hessian-gradient products Hg of the loss on a whole sample: chunked, exact, free of side effects.

The network is called through `torch.func.functional_call` on its parameters, as they are or laid out anew, and copies of its buffers, and
differentiated with `torch.autograd.grad`: `.grad`, running statistics and requires_grad flags are never touched. A chunk
is the number of examples differentiated at once, so it bounds the memory. g is accumulated over all chunks before any
Hg is formed: Hg = sum over chunks of H_chunk g with g the gradient on the whole sample, reverse mode over reverse mode along the
direction g (`pruneviz.directional`). The temperatures share the forward pass of a chunk.

Why this way: counted in products of a layer, a forward pass is 1. The gradients at two temperatures are 5. Hg at both is 17 by
plain double backward, which forms every gradient by a weight twice, 15 along a direction, and 11 for the filters' inner products
theta_p^T (Hg)_p alone. Keeping the activations of the first for the second would save 1 more and hold the whole sample in memory. On CPUs
four-dimensional tensors are laid out channels last, which the convolutions of narrow layers are up to several times faster in; on GPUs
never: their exact float32 convolutions, with the kernels that cuDNN's heuristics choose, took more than twice as long that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import CheckpointError

from pruneviz.directional import Followed
from pruneviz.errors import MeasureError
from pruneviz.masking import kept_entries
from pruneviz.sample import Batch, sample_size

Named: TypeAlias = dict[str, Tensor]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Answer = TypeVar("Answer")


class Listener:
    """Hears of what filters contribute to a derivative, chunk by chunk, while it is formed; this one ignores it.

    `filters` are the weights [filters, ...] of which it wants to hear.
    """

    filters: Collection[str] = ()

    def gather(self, weight: str, terms: Tensor) -> None:
        """The layer of this weight has contributed `terms` [examples, filters] to the inner products with the weight."""

    def end_chunk(self, examples: int, part: Named) -> None:
        """A chunk of that many examples is done; `part` is its share of the derivative, by parameter, as far as it was formed."""


@dataclass(frozen=True)
class Objective:
    """The loss L(Theta) on a sample, at one or more temperatures: the mean over all examples of loss(output / T, target).

    `parameters` and `buffers` are the model's own, by name, in the dtype and layout of the measurement. With `rechunk` the
    batches may be cut freely; without it every batch is one chunk, because its examples share statistics. `kept` says which entries
    of parameters are not pruned; pruned ones are no parameters, and every derivative by them is 0. `channels_last` is how chunks of
    images, and the parameters, are laid out in memory.
    """

    model: nn.Module
    parameters: Named
    buffers: Named
    batches: Sequence[Batch]
    temperatures: tuple[float, ...]
    loss: Loss
    rechunk: bool
    kept: Named = field(default_factory=dict)
    channels_last: bool = False

    @property
    def examples(self) -> int:
        """Number of examples in the sample."""
        return sample_size(self.batches)

    @property
    def device(self) -> torch.device:
        """Where it is all computed."""
        return self.batches[0][0].device

    def chunks(self, chunk: int) -> Iterator[Batch]:
        """The sample in pieces of at most `chunk` examples (whole batches where they may not be cut)."""
        for x, y in self.batches:
            pieces = zip(x.split(chunk), y.split(chunk), strict=True) if self.rechunk else [(x, y)]
            yield from ((self.laid_out(part), of_part) for part, of_part in pieces)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor as all of four dimensions lie in memory here."""
        form = torch.channels_last if self.channels_last and tensor.ndim == 4 else torch.contiguous_format
        return tensor.contiguous(memory_format=form)

    def output(self, x: Tensor) -> Tensor:
        """The network's output; the graph reaches `parameters`, buffers are written to copies only."""
        copies = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return functional_call(self.model, (self.parameters, copies), (x,))

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """This chunk's share of L at every temperature, from one forward pass."""
        output = self.output(x)
        share = len(x) / self.examples
        return [self.loss(output if t == 1 else output / t, y) * share for t in self.temperatures]


def objective(
    model: nn.Module, batches: Sequence[Batch], *, temperatures: tuple[float, ...], loss: Loss | None, rechunk: bool, dtype: torch.dtype
) -> Objective:
    """Build the objective of a model that is already in the mode in which it is to be measured.

    Theta is all floating-point parameters of the model, frozen ones included. Errors: `MeasureError` for an output that is no
    tensor, a loss that is not one number, and, with cross-entropy, labels that the network has no output for.
    """
    # laid out anew, because a network that trains channels last is not measured fastest that way on a GPU
    parameters = {name: _alias(p, dtype).contiguous().requires_grad_() for name, p in model.named_parameters() if p.is_floating_point()}
    buffers = {name: _alias(b, dtype) for name, b in model.named_buffers()}
    built = Objective(model, parameters, buffers, batches, temperatures, loss or F.cross_entropy, rechunk, kept_entries(model))
    _check_loss(built)
    # of float64 oneDNN has no convolutions, and what torch falls back to gains nothing
    return _turned(built) if batches[0][0].device.type == "cpu" and dtype == torch.float32 else built


def gradients(sample: Objective, chunk: int, listener: Listener | None = None) -> tuple[list[float], list[Named]]:
    """Loss and gradient on the whole sample, one each per temperature; the listener hears of the first.

    Returns: losses (float) and gradients {parameter: tensor of its shape, float64}.
    """
    listener = listener or Listener()
    totals = [_zeros(sample.parameters) for _ in sample.temperatures]
    loss_totals = torch.zeros(len(totals), dtype=torch.float64, device=sample.device)
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, filters=listener.filters) as followed:
            losses = sample.losses(x, y)
            loss_totals += torch.stack(losses).detach().double().to(sample.device)  # a loss may be computed elsewhere
            for i, (loss, total) in enumerate(zip(losses, totals, strict=True)):
                followed.gather = listener.gather if i == 0 else None
                part = _grad(loss, sample.parameters, retain_graph=i + 1 < len(losses))
                _add(total, part)
                if i == 0:
                    listener.end_chunk(len(x), part)
    return loss_totals.tolist(), [_without_pruned(sample, total) for total in totals]


def hessian_products(sample: Objective, vectors: Sequence[Named], chunk: int) -> list[Named]:
    """The Hessian of the loss at every temperature times that temperature's vector, on the whole sample.

    Returns: {parameter: tensor of its shape, float64} per temperature.
    """
    totals = [_zeros(sample.parameters) for _ in vectors]
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, whole=sample.parameters) as followed:
            losses = sample.losses(x, y)
            for i, (loss, vector, total) in enumerate(zip(losses, vectors, totals, strict=True)):
                _add(total, _second_derivative(followed, sample, loss, vector, retain_graph=i + 1 < len(losses)))
    return [_without_pruned(sample, total) for total in totals]


def filter_products(sample: Objective, vectors: Sequence[Named], chunk: int, listeners: Sequence[Listener]) -> float:
    """What `hessian_products` gives of filters: the inner products of weights with H v, told to a listener for each temperature.

    The parts that the listeners are told of are H v as far as it comes from other uses of a parameter than those whose terms they gather.
    Returns: v^T H v at the first temperature. Takes 11 products a layer where H v takes 15.
    """
    bend = torch.zeros((), dtype=torch.float64, device=sample.device)
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, filters=listeners[0].filters) as followed:
            losses = sample.losses(x, y)
            for i, (loss, vector, listener) in enumerate(zip(losses, vectors, listeners, strict=True)):
                followed.gather = listener.gather
                followed.bend = bend if i == 0 else None
                part = _second_derivative(followed, sample, loss, vector, retain_graph=i + 1 < len(losses))
                listener.end_chunk(len(x), part)
                if i == 0:
                    for name, d in part.items():
                        bend += (vector[name] * d).sum()
    return float(bend)


def halved_on_out_of_memory(measure: Callable[[int], Answer], chunk: int) -> tuple[Answer, int]:
    """Run `measure(chunk)`, halving the chunk for as long as memory runs out; returns its answer and the chunk that fitted."""
    while True:
        try:
            return measure(chunk), chunk
        except CheckpointError as error:
            repair = "switch activation checkpointing off while measuring, such as with model.set_grad_checkpointing(False)"
            raise MeasureError(
                f"a part of the network that is computed anew for its derivative is not measured as it ran; {repair}"
            ) from error
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if chunk == 1:
                raise MeasureError("out of memory at the smallest chunk; use smaller batches or a larger device") from error
        # outside the handler, so that the traceback no longer holds the tensors of the failed attempt
        chunk //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def automatic_chunk(sample: Objective) -> int:
    """A chunk whose second derivative fits the memory: bytes kept for one example's backward pass, times six, within the budget.

    Six is what reverse mode over reverse mode keeps beside the forward graph, measured; the budget is half of what a GPU has
    free for this process and 2.5 GB on a CPU, where larger chunks are hardly faster. The chunks of the largest batch are about
    equally large: a small last one would take a GPU less time than the host needs to ask for it.
    """
    most = max(1, _memory_budget(sample.device) // max(1, 6 * _bytes_kept_for_backward(sample)))
    largest = max(len(x) for x, _ in sample.batches)
    return math.ceil(largest / math.ceil(largest / most))


def _memory_budget(device: torch.device) -> int:
    if device.type != "cuda":
        return 5 * 1024**3 // 2
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    # what torch keeps of earlier tensors is free for new ones; a second snapshot would have smaller chunks than the first without it
    free += torch.cuda.memory_reserved(device) - used
    # processes that share a GPU are each held to a fraction of it
    share = total * torch.cuda.get_per_process_memory_fraction(device) - used
    return int(min(free, share)) // 2


def check_finite(sample: Objective, losses: Sequence[float], derivatives: Sequence[Named], what: str) -> None:
    """Raise `MeasureError` that names the layer when a loss or a derivative is NaN or infinite."""
    finite = torch.stack([d[name].isfinite().all() for name in derivatives[0] for d in derivatives]).view(-1, len(derivatives)).all(1)
    bad = [name for name, is_finite in zip(derivatives[0], finite.tolist(), strict=True) if not is_finite]
    if all(map(math.isfinite, losses)) and not bad:
        return
    broken = [name for name, p in sample.parameters.items() if not p.isfinite().all()]
    if broken:
        raise MeasureError(f"{what} is not finite because the parameter {broken[0]} is not; the training diverged before this measurement")
    where = _first_nonfinite_layer(sample)
    found = f"first in the output of layer {where}" if where else f"in the derivative by {bad[0]}" if bad else "in the loss itself"
    repair = "check the inputs, lower the learning rate, or measure with dtype=torch.float64"
    raise MeasureError(f"{what} is NaN or infinite, {found}; {repair}")


def _second_derivative(followed: Followed, sample: Objective, loss: Tensor, vector: Named, *, retain_graph: bool) -> Named:
    """The part of H v that the followed layers do not keep to themselves; without the parameters that it has nothing of."""
    parameters = sample.parameters
    followed.phase = "slope"
    cast = {name: v.to(parameters[name].dtype) for name, v in vector.items()}
    followed.direction = {name: sample.laid_out(v) for name, v in cast.items()}
    first = torch.autograd.grad(loss, [followed.step, *parameters.values()], create_graph=True, allow_unused=True)
    others = {name: g for name, g in zip(parameters, first[1:], strict=True) if g is not None}
    slopes = [(g * followed.direction[name]).sum() for name, g in others.items()] + ([] if first[0] is None else [first[0]])
    along = torch.stack(slopes).sum() if slopes else followed.step.detach()
    followed.phase = "curvature"
    if not along.requires_grad:
        return {}
    second = torch.autograd.grad(along, list(parameters.values()), retain_graph=retain_graph, allow_unused=True)
    return {name: d for name, d in zip(parameters, second, strict=True) if d is not None}


def _turned(sample: Objective) -> Objective:
    """The same objective laid out channels last, if the network can be called with such tensors."""
    turned = replace(sample, channels_last=True)
    turned = replace(turned, parameters={name: turned.laid_out(p.detach()).requires_grad_() for name, p in sample.parameters.items()})
    try:
        _check_loss(turned)
    except RuntimeError:  # a network that views its activations as vectors needs the ordinary layout
        return sample
    return turned


def _alias(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach()


def _grad(loss: Tensor, parameters: Named, *, retain_graph: bool) -> Named:
    parts = torch.autograd.grad(loss, list(parameters.values()), retain_graph=retain_graph, materialize_grads=True)
    return dict(zip(parameters, parts, strict=True))


def _zeros(like: Named) -> Named:
    # float64 totals: the sum over thousands of chunks must not depend on the chunk
    return {name: torch.zeros_like(t, dtype=torch.float64) for name, t in like.items()}


def _without_pruned(sample: Objective, total: Named) -> Named:
    return {name: t.masked_fill(~sample.kept[name], 0.0) if name in sample.kept else t for name, t in total.items()}


def _add(total: Named, part: Named) -> None:
    for name, tensor in part.items():
        total[name] += tensor.detach()


def _check_loss(sample: Objective) -> None:
    x, y = _first_examples(sample)
    output = sample.output(x)
    if not isinstance(output, Tensor):
        if sample.loss is F.cross_entropy:
            raise MeasureError(f"the model returns {type(output).__name__}, not a tensor of logits; pass loss=callable(output, target)")
        if sample.temperatures != (1.0,):
            raise MeasureError(f"the model returns {type(output).__name__}, which no temperature divides; pass temperatures=(1.0,)")
    elif sample.loss is F.cross_entropy:
        _check_labels(sample, output, y)
    value = sample.loss(output, y)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise MeasureError(f"the loss is {came}; it must be the mean over the examples, one number with a gradient by the parameters")


def _first_examples(sample: Objective) -> Batch:
    """Two examples, or a whole batch where it may not be cut; copies, since a slice would keep the memory of its whole batch."""
    x, y = (part[: 2 if sample.rechunk else None] for part in sample.batches[0])
    return sample.laid_out(x).clone(), y.clone()


def _check_labels(sample: Objective, output: Tensor, y: Tensor) -> None:
    fits = y.shape == output.shape if y.is_floating_point() else y.shape == output.shape[:1] + output.shape[2:] and output.ndim > 1
    if not fits or y.dtype in (torch.bool, torch.int8, torch.int16, torch.int32):
        came = f"for {len(y)} examples, {y.dtype} labels of shape {tuple(y.shape)} do not fit outputs of shape {tuple(output.shape)}"
        raise MeasureError(f"{came}; give int64 labels, one per example, or probabilities of the outputs' shape, or pass loss=callable")
    labels = [y for _, y in sample.batches if not y.is_floating_point()]
    low, high = min((int(y.min()) for y in labels), default=0), max((int(y.max()) for y in labels), default=0)
    classes = output.shape[1]
    if low < 0 or high >= classes:
        raise MeasureError(f"labels run from {low} to {high}, but the network has {classes} outputs; labels must lie in 0..{classes - 1}")


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _bytes_kept_for_backward(sample: Objective) -> int:
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice
    own = {p.untyped_storage().data_ptr() for p in sample.parameters.values()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor.detach()  # to hold an output itself would tie its graph into a knot that is never freed

    x, y = _first_examples(sample)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sample.losses(x, y)
    return sum(storage.nbytes() for storage in kept.values()) // len(x)


def _first_nonfinite_layer(sample: Objective) -> str | None:
    found: list[str] = []

    def hook_for(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return hook

    leaves = [(name, module) for name, module in sample.model.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(hook_for(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            for x, _ in sample.chunks(64):
                sample.output(x)
                if found:
                    break
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
