"""Every error pruneviz raises on purpose; each message says what came, what was expected and what to do."""


class PrunevizError(ValueError):
    """The root of all errors that pruneviz raises on purpose, so that one `except` catches them all."""


class DataError(PrunevizError):
    """A data set or a measurement sample is missing, damaged, empty or too small."""


class MeasureError(PrunevizError):
    """A model or a sample cannot be measured: no filters, labels out of range, a loss that is not finite, two different answers."""


class LogError(PrunevizError):
    """A run directory is missing, unfinished, corrupt, of a newer schema, or already holds another run."""


class ScoreError(PrunevizError):
    """A pruning measure is unknown, or the table lacks a column that it needs."""


class AnalysisError(PrunevizError):
    """A correlation or a mask distance was asked for that the table cannot answer."""


class FigureError(PrunevizError):
    """A figure is unknown, or the recordings that it needs are missing."""


class PresetError(PrunevizError):
    """A preset, network or data set is unknown."""


class PruningError(PrunevizError):
    """A network cannot be pruned as asked: the target is out of reach, a layer would vanish, a filter has no score."""


class TrainingError(PrunevizError):
    """A training run cannot go on: its loss is no longer finite."""
