"""The one table of metrics, and the sinks that are made from it."""
