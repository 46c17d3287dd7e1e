"""chaosops_ray: train language models to catch the AI agents that cause incidents."""

__version__ = "0.1.0"
