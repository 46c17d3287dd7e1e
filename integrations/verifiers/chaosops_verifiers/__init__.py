"""One seat of a world as a taskset of verifiers' v1 API."""

from chaosops_verifiers.taskset import SeatEnv, SeatTaskset, load_taskset

__all__ = ["SeatEnv", "SeatTaskset", "load_taskset"]
