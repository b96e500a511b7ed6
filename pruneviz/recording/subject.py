"""The network of a recorder and its sample: what is read and measured of them at an epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from pruneviz.analysis.formulas import SAMPLE_SIZE
from pruneviz.log.arguments import as_tuple
from pruneviz.measuring.coverage import coverage_of
from pruneviz.measuring.options import Options
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.measuring.repeatability import check_repeatable, fixed_batches
from pruneviz.measuring.sample_digest import not_compared, sample_digest
from pruneviz.measuring.sharing import check_equal
from pruneviz.measuring.snapshot import Snapshot, rows_of, take_snapshot
from pruneviz.model.isolation import generators_preserved, tried_kernels
from pruneviz.model.sample import Sample, model_device
from pruneviz.recording.cheap_tables import CheapTables
from pruneviz.recording.epoch_facts import epoch_named
from pruneviz.recording.epoch_writer import joined
from pruneviz.recording.run_facts import check_layer_names, sampling_facts

_logger = logging.getLogger("pruneviz")


class Subject:
    """A network and a sample that answer the same twice.

    Args:
        model: The network, not wrapped.
        sample: Measurement sample.
        options: How the network is measured.
        ranks: The processes that share the check that the network answers twice.

    Attributes:
        model: The network.
        layers: Its layers or units.
        coverage: Which of its parameters are measured.
        cheap: Its cheap columns.
        sampling: Facts of the sample, under their names in the spec.

    Raises:
        DataError, MeasureError: As for `pruneviz.Recorder`.
    """

    def __init__(
        self, model: nn.Module, sample: Sample, options: Options, ranks: Ranks = ALONE
    ) -> None:
        self.model, self._sample, self._options = model, sample, options
        check_layer_names(name for name, _ in (*model.named_modules(), *model.named_parameters()))
        batches = fixed_batches(model, sample, options)
        check_equal(ranks, model, options, batches)
        with generators_preserved(batches, self.device()):
            rows_found = rows_of(model, batches, options)
        self.layers = rows_found.layers
        self.coverage = coverage_of(model, rows_found)
        tables = options.row_kind, options.kept, options.wanted()
        self.cheap = CheapTables(model, self.layers, *tables)
        self._whole = check_repeatable(model, batches, options, ranks)
        self.sampling = sampling_facts(batches, options, self._whole)
        self.sampling["sample_digest"] = sample_digest(batches)
        if unread := not_compared(batches):
            _logger.warning(
                "the sample holds %s, whose values cannot be read; if the recording is continued, "
                "they are not compared with those of before",
                ", ".join(unread),
            )

    def device(self) -> torch.device:
        """The device of the network at present."""
        return model_device(self.model)

    def measured(self, epoch: int, options: Options, ranks: Ranks = ALONE) -> Snapshot:
        """Measure the network.

        Args:
            epoch: Number of epochs trained, for errors.
            options: What to measure at this epoch.
            ranks: The processes that share the sample.
        """
        # Kernels are benchmarked only once, because all snapshots have the same shapes.
        with epoch_named(epoch), tried_kernels(self.device()):
            own = self.model, self._sample
            return take_snapshot(*own, options, self.layers, whole=self._whole, ranks=ranks)

    def loss(self, epoch: int) -> float:
        """The loss of the network on the sample, as it is measured for the log.

        Args:
            epoch: Number of epochs trained, for errors.
        """
        least = replace(self._options, columns=("theta_g",), oracle=None, samples=1)
        return self.measured(epoch, least).sample_loss

    def for_ranking(
        self,
        epoch: int,
        columns: Sequence[str],
        temperatures: float | Sequence[float] | None,
        ranks: Ranks = ALONE,
    ) -> Snapshot:
        """Columns that are measured now, to rank rows by them; an empty snapshot for none.

        Args:
            epoch: Number of epochs trained.
            columns: Derivative columns to measure.
            temperatures: Logit temperatures. Default: those of the options.
            ranks: The processes that share the sample.
        """
        if not columns:
            return Snapshot(pd.DataFrame())
        own = self._options.temperatures
        at = own if temperatures is None else as_tuple(temperatures)
        asked = tuple(columns)
        options = replace(self._options, columns=asked, temperatures=at, oracle=None, samples=1)
        return self.measured(epoch, options, ranks)


def ranking_table(cheap: pd.DataFrame, taken: Snapshot) -> pd.DataFrame:
    """Cheap columns and measured ones, with facts that measures need.

    Args:
        cheap: Cheap columns of the network and their changes.
        taken: What was measured of it.
    """
    table = joined(cheap, taken.filters)
    table.attrs |= {SAMPLE_SIZE: taken.terms, **taken.degrees}
    return table
