"""The configuration of a PPO run, read as strictly as that of any other run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from chaosops_ray import config
from chaosops_ray.config import Schedule, Scheduled, Section, Weight


class Ppo(Section):
    """A run of RLlib's PPO: one small network for each role, which sees symbols and no text."""

    world: str = Field(default="incident", description="the world")
    rules: str = Field(default="strict", description="a rule set and its options; a name means its present version")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of every random draw")
    cases: str = Field(
        default="auto", description="the set with the training cases; auto: the one that the world names for it"
    )
    tiers: tuple[str, ...] = Field(default=(), description="the tiers that scenarios are drawn from; none: all")
    seats: dict[str, str] = Field(
        default={}, description="by role, the baseline that plays this seat; a role that is not listed learns"
    )
    streams: dict[str, dict[str, Weight]] = Field(
        default={},
        description="by role, the weights of its streams of reward; a role that is not listed has the stream that its "
        "world defines for it",
    )
    steps: int = Field(default=100_000, ge=1, description="steps of the world to train on")
    features: int = Field(default=512, ge=16, le=65_536, description="size of the vectors that views are hashed into")
    hidden: int = Field(default=64, ge=1, le=4096, description="width of the networks' two hidden layers")
    batch: int = Field(default=4000, ge=8, description="steps of the world between two updates")
    minibatch: int = Field(default=256, ge=1, description="steps of a role in each optimizer step")
    epochs: int = Field(default=6, ge=1, description="how often each update goes through its batch")
    learning_rate: Scheduled = Field(default=Schedule(start=1e-3, end=1e-3), description="learning rate")
    entropy: Scheduled = Field(default=Schedule(start=0.01, end=0.01), description="coefficient of the entropy bonus")
    discount: float = Field(default=0.95, ge=0, le=1, description="discount of later rewards, by turn of a role")
    smoothing: float = Field(default=0.9, ge=0, le=1, description="lambda of generalised advantage estimation")
    clip: float = Field(default=0.2, gt=0, lt=1, description="ratios outside of 1 plus or minus this are clipped")
    gradient_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")
    reward_scale: float = Field(default=0.02, gt=0, description="what rewards are multiplied by for the learner")
    episodes: int = Field(default=8, ge=1, description="episodes that are played side by side")
    samplers: int = Field(default=0, ge=0, description="processes that play; 0: the one that learns plays, too")
    probe: int = Field(
        default=48, ge=1, description="scenarios that are played greedily after an update, to see how far it is"
    )
    probe_every: int = Field(default=5, ge=1, description="updates between two of these")

    @model_validator(mode="after")
    def _fits(self) -> Ppo:
        if self.minibatch > self.batch:
            raise ValueError(f"minibatch must not be above batch, got {self.minibatch} and {self.batch}")
        return self


def load(path: Path, settings: Sequence[str], seed: str | None) -> Ppo:
    """Read a file; settings of the command line replace values of the file."""
    given = config.parse_settings([*settings, *([] if seed is None else [f"seed={seed}"])])
    return config.validated(Ppo, config.read(path) | given, str(path))
