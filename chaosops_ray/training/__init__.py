"""One training run: the loop, its plan, its base model, and the way from a configuration to a report."""
