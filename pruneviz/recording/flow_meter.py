"""A meter on an optimiser: what every step does to the norms of filters, against gradient flow."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.utils.hooks import RemovableHandle

from pruneviz.errors import MeasureError, PrunevizError
from pruneviz.log.arguments import is_whole
from pruneviz.log.flow_columns import FLOW
from pruneviz.measuring.options import Options
from pruneviz.measuring.repeatability import check_repeatable, fixed_batches
from pruneviz.measuring.rows import PrunedRows
from pruneviz.measuring.snapshot import rows_of
from pruneviz.model.filters import Layer, unwrap
from pruneviz.model.isolation import generators_preserved
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Sample, model_device
from pruneviz.recording.flow_sample import SampleFlow, Velocity, sample_flow
from pruneviz.recording.flow_sums import OF_SGD, FlowSums, flow_rows
from pruneviz.recording.recorder import Recorder
from pruneviz.recording.step_change import StepChange, double
from pruneviz.recording.step_rules import StepRule, check_optimizer, is_skipped, step_rule

_logger = logging.getLogger("pruneviz")
_NULL = "gradient, momentum, update, sample and curvature are null from this epoch on"


class FlowMeter:
    """Compare what training does to norms of filters with what gradient flow predicts.

    The theory behind the paper predicts d norm(theta_p)^2 / dt = -2 theta_p^T g_p. A meter follows
    the steps of an optimiser through its hooks, with the gradients that the training loop computes:
    of the mini-batch, at the training temperature, in the mode that trains. It sums up, filter by
    filter, the change of every step and its predictions; `pruneviz.flow_table` makes slopes and R^2
    of them. The training loop stays as it is, and training with and without a meter gives the same
    weights.

    Use it as a context manager, or call `start()` and `stop()`. Filters whose parameter has no
    gradient, or is not the optimiser's, and pruned filters are left out.

    Args:
        model: Network that is trained, as for `pruneviz.measure`.
        optimizer: Its optimiser. Of `torch.optim.SGD` (momentum, Nesterov, dampening, weight decay,
            maximize) all predictions are made; of others only `flow`, at their learning rate, and
            `displacement`.
        sample: Measurement sample: shows which layers there are; its gradient is measured at steps
            of `sample_every`.
        every: Meter every so many steps.
        sample_every: Measure the gradient of the sample and its slope before and after every so
            many of the metered steps. Default: never.
        recorder: Recorder of the same training; `take` then writes into its run.
        **measuring: Options of `pruneviz.measure` that say how the sample is measured: give the
            training loss, as by `temperatures=5.0` (default 1) or `loss`. Batch norm is in
            training mode (`bn="batch"`, every batch of the sample by its own statistics), dropout
            is off. `layers` and `skip` choose filters.

    Attributes:
        layers: Names of the layers with filters, as in a filters table.
        table: Rows of all epochs taken so far.

    Raises:
        DataError: If two passes over the sample differ.
        MeasureError: If an option is invalid, the optimiser takes several gradients per step, or
            the network or sample cannot be measured.

    References:
        Lubana and Dick, ICLR 2021.

    Example:
        >>> with pv.FlowMeter(model, optimizer, (images, labels), temperatures=5.0) as meter:
        ...     for epoch in range(1, 11):
        ...         train_one_epoch(model, optimizer)
        ...         meter.take(epoch)
        >>> pv.flow_table(meter.table, by=["epoch", "layer"])
    """

    def __init__(
        self,
        model: AnyNetwork,
        optimizer: Optimizer,
        sample: Sample,
        *,
        every: int = 1,
        sample_every: int | None = None,
        recorder: Recorder | None = None,
        **measuring: Any,
    ) -> None:
        check_optimizer(optimizer)
        self._model, self._optimizer, self._recorder = unwrap(model), optimizer, recorder
        self._every = _checked_steps("every", every)
        self._sample_every = (
            None if sample_every is None else _checked_steps("sample_every", sample_every)
        )
        self._options = _options(measuring)
        self._batches = fixed_batches(self._model, sample, self._options)
        with generators_preserved(self._batches, model_device(self._model)):
            rows = rows_of(self._model, self._batches, self._options)
        self._layers = [layer for layer in rows.layers if isinstance(layer, Layer)]
        self._whole = ""
        if sample_every is not None:
            self._whole = check_repeatable(self._model, self._batches, self._options)
        self.layers = tuple(layer.name for layer in self._layers)
        self._pruned = {
            layer.name: PrunedRows(self._model, layer, "filter") for layer in self._layers
        }
        open_run = recorder is not None and recorder.records and not recorder.finished
        if recorder and open_run and not recorder.log.spec.extra.get("flow"):
            recorder.log.note({"flow": True}, of_pruneviz=True)  # so that the run has the table
        self._handles: list[RemovableHandle] = []
        self._closure = False
        self._taken: list[pd.DataFrame] = []
        self._said: set[str] = set()
        self._lags: dict[str, float] = {}  # c of the averaged iterate after the last step
        self._unknown = False  # whether a step was not that of SGD
        self._restart()

    @property
    def table(self) -> pd.DataFrame:
        """Rows of all epochs taken so far, with the columns of `pruneviz.load(...).flow`."""
        run = "" if self._recorder is None else self._recorder.spec.run
        held = [rows.assign(run=run) for rows in self._taken if len(rows)]
        if not held:
            return pd.DataFrame(columns=list(FLOW))
        return pd.concat(held, ignore_index=True).reindex(columns=list(FLOW))

    def start(self) -> None:
        """Meter the steps from now on."""
        if not self._handles:
            self._handles = [
                self._optimizer.register_step_pre_hook(self._before),
                self._optimizer.register_step_post_hook(self._after),
            ]

    def stop(self) -> None:
        """Take the hooks off the optimiser; what was summed up stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._before_step.clear()
        self._lags.clear()  # steps that are not seen may have others

    def take(self, epoch: int) -> pd.DataFrame:
        """Take the sums of the steps since the last call, and begin anew.

        Args:
            epoch: Number of epochs trained, the one of these steps included.

        Returns:
            One row per filter; empty if no step was metered. With a recorder it is also written
            into the run, before or after `after_epoch` of this epoch.

        Raises:
            LogError: If the run is closed, holds these layers at this epoch, such as from another
                meter, or the disk cannot be written to.
            MeasureError: If the epoch was taken before. Sums stay, to be taken under another.
        """
        if not is_whole(epoch) or epoch < 0:
            raise MeasureError(f"epoch={epoch!r}; give the number of epochs trained, such as 1")
        rows = flow_rows(self._sums, int(epoch), OF_SGD if self._unknown else ())
        if len(rows) and self._recorder is not None and self._recorder.records:
            self._recorder.log.add_flow(int(epoch), rows)
            self._taken = [held for held in self._taken if not _holds(held, epoch)]  # rewound
        elif any(_holds(held, epoch) for held in self._taken):
            raise MeasureError(
                f"epoch={epoch} was taken before; take the steps since under another number"
            )
        self._taken.append(rows)
        self._restart()
        return rows

    def __enter__(self) -> FlowMeter:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _restart(self) -> None:
        self._sums = [FlowSums(layer) for layer in self._layers]
        self._step = 0
        self._before_step: dict[str, StepChange] = {}
        self._sampled: SampleFlow | None = None
        self._coming: dict[int, StepRule] = {}  # rules of the step that is taken
        self._theta: dict[str, Tensor] = {}  # before a step at which the sample is measured

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._before_step, self._sampled, self._coming = {}, None, {}
        if is_skipped(optimizer):
            return
        step, self._step = self._step, self._step + 1
        self._closure = _has_closure(args, kwargs)
        rules = self._coming = self._rules()
        if step % self._every:
            return
        for layer in self._layers:
            parameter = self._model.get_parameter(layer.weight)
            if id(parameter) in rules:
                state, lag = optimizer.state.get(parameter, {}), self._lags.get(layer.name)
                before = StepChange(rules[id(parameter)], parameter, state, lag)
                if not self._closure:
                    before.read(layer, parameter.grad)
                self._before_step[layer.name] = before
        at = None if self._sample_every is None else step // self._every % self._sample_every
        if at == 0 and self._before_step:
            self._theta = {name: double(p) for name, p in self._model.named_parameters()}
            self._sampled = self._on_sample(self._velocity(rules))

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        of_sample = {} if self._sampled is None else self._of_sample(self._sampled)
        strays = {}
        for layer, sums in zip(self._layers, self._sums, strict=True):
            parameter, before = (
                self._model.get_parameter(layer.weight),
                self._before_step.get(layer.name),
            )
            if id(parameter) in self._coming and parameter.grad is not None:
                self._lags[layer.name] = self._coming[id(parameter)].lag
            if before is None:
                continue
            if self._closure:
                before.read(layer, parameter.grad)
            values, gone = before.against(layer, parameter), self._pruned[layer.name].mask()
            if values:
                sums.add(values | of_sample.get(layer.name, {}), gone)
            if values and before.rule.known:
                found = before.strays(layer, parameter)
                strays[layer.name] = (found if gone is None else found & ~gone).any()
        self._doubt(strays)
        self._before_step, self._theta = {}, {}

    def _doubt(self, strays: dict[str, Tensor]) -> None:
        """After a step that the rule of SGD does not give, make no prediction that needs it."""
        if any(not before.rule.known for before in self._before_step.values()):
            if not self._unknown and isinstance(self._optimizer, SGD):
                self._say(f"momentum of 1 or more has no effective learning rate; {_NULL}")
            self._unknown = True
        if self._unknown or not strays:
            return
        device = model_device(self._model)
        found = torch.stack([value.to(device) for value in strays.values()])
        if found.any():
            self._unknown = True
            names = [name for name, value in zip(strays, found.tolist(), strict=True) if value]
            self._say(
                f"a step of {type(self._optimizer).__name__} changed {', '.join(names[:3])} "
                "otherwise than torch.optim.SGD does with the gradient before it, by its own rule "
                f"or by a hook that comes after the meter's; {_NULL}"
            )

    def _say(self, words: str) -> None:
        """Warn once."""
        if words not in self._said:
            self._said.add(words)
            _logger.warning("%s", words)

    def _of_sample(self, before: SampleFlow) -> dict[str, dict[str, Tensor]]:
        """What a step did to theta^T g on the sample, and what was predicted, by layer."""
        theta = self._theta

        def step(name: str, now: Tensor, g: Tensor) -> Tensor:
            return now - theta[name].to(now.device) if name in theta else torch.zeros_like(now)

        after = self._on_sample(step)
        found = {}
        for name, change in self._before_step.items():
            rule = change.rule
            values = {
                "theta_g_change": after.theta_g[name] - before.theta_g[name],
                "displacement": after.slope[name],
                "sample_flow": -2 * change.effective * rule.sign * before.theta_g[name],
            }
            if rule.known:
                values["curvature"] = -before.slope[name]
            device = change.theta.device
            found[name] = {key: value.to(device) for key, value in values.items()}
        return found

    def _on_sample(self, velocity: Velocity) -> SampleFlow:
        """Gradient flow of the sample at the weights of now; not a number where it is not finite.

        It is measured inside of `optimizer.step()`, which must not fail for it.
        """
        try:
            return sample_flow(*self._own(), velocity, self._whole)
        except PrunevizError as error:
            self._say(f"the flow of the sample is null at some steps: {error}")
        none = {
            layer.name: torch.full((layer.filters,), torch.nan, dtype=torch.float64)
            for layer in self._layers
        }
        return SampleFlow(none, none)

    def _rules(self) -> dict[int, StepRule]:
        """The rule of every parameter with a gradient, by identity."""
        found = {}
        for group in self._optimizer.param_groups:
            rule = step_rule(self._optimizer, group)
            found.update({id(parameter): rule for parameter in group["params"]})
        return found

    def _velocity(self, rules: dict[int, StepRule]) -> Velocity:
        """Gradient flow of the sample before a step."""
        by_id = {
            name: (rules[id(parameter)], self._optimizer.state.get(parameter, {}))
            for name, parameter in self._model.named_parameters()
            if id(parameter) in rules and parameter.requires_grad
        }

        def velocity(name: str, theta: Tensor, g: Tensor) -> Tensor:
            if name not in by_id:  # a parameter that is not trained stays
                return torch.zeros_like(g)
            rule, state = by_id[name]
            rate = rule.effective_of(state.get("momentum_buffer"))
            return rate * (rule.sign * g + rule.decay * theta)

        return velocity

    def _own(self) -> tuple[Any, Any, Any, Any]:
        return self._model, self._batches, self._layers, self._options


def _holds(rows: pd.DataFrame, epoch: int) -> bool:
    return len(rows) > 0 and bool((rows["epoch"] == epoch).any())


def _has_closure(args: Any, kwargs: Any) -> bool:
    return any(callable(value) for value in (*args, *kwargs.values()))


def _options(measuring: dict[str, Any]) -> Options:
    options = Options.of(**{"bn": "batch", "temperatures": 1.0, **measuring})
    if options.row_kind != "filter":
        raise MeasureError(f"unit={options.unit!r}; a FlowMeter follows filters, leave it out")
    if len(options.temperatures) != 1:
        raise MeasureError(
            f"temperatures={options.temperatures!r}; training has one temperature, give that, such "
            "as temperatures=5.0"
        )
    return options


def _checked_steps(name: str, steps: int) -> int:
    if not is_whole(steps) or steps < 1:
        raise MeasureError(f"{name}={steps!r}; give a number of steps, 1 or more")
    return int(steps)
