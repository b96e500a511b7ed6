"""Recording a run while it trains: the recorder, its history, and the weights kept for later."""
