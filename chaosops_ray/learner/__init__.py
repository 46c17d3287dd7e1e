"""The learner: advantages, batches, the update, and the adapters that come of them."""
