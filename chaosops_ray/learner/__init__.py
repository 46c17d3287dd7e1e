"""The learner: advantages, batches, the update, and the adapters that it publishes."""
