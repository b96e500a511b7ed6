"""Recording in other people's training loops: callbacks for Lightning and Transformers."""
