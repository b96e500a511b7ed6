"""The flow meter of a plan's run."""

from __future__ import annotations

import math

from torch import Tensor

from pruneviz.experiment.training import TrainingState
from pruneviz.plans.run_plan import RunPlan
from pruneviz.recording.flow_meter import FlowMeter
from pruneviz.recording.recorder import Recorder

_SAMPLED_PER_EPOCH = 2  # steps of a metered epoch at which the sample is measured too


def flow_meter(
    state: TrainingState, sample: tuple[Tensor, Tensor], plan: RunPlan, recorder: Recorder
) -> FlowMeter:
    """A meter on the training of a plan; even batches of the sample, as large as those of training.

    Args:
        state: Network and optimiser.
        sample: Measurement sample.
        plan: Training protocol.
        recorder: Open recorder, into whose run the meter writes.
    """
    steps = math.ceil(recorder.spec.to_dict()["train_images"] / plan.batch_size)
    batches = math.ceil(len(sample[1]) / plan.batch_size)
    images, labels = (part.tensor_split(batches) for part in sample)
    return FlowMeter(
        state.network,
        state.optimizer,
        list(zip(images, labels, strict=True)),
        sample_every=max(1, steps // _SAMPLED_PER_EPOCH),
        recorder=recorder,
        temperatures=plan.train_temperature,
    )
