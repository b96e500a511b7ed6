"""Recording a run during training: the recorder, its history, and kept weights."""
