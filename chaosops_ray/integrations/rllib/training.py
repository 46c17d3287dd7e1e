"""A PPO run from its settings to its folder: RLlib plays and learns, and now and then it is tried out greedily."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from chaosops_ray.config import Schedule
from chaosops_ray.integrations.game import Game
from chaosops_ray.integrations.rllib import policy
from chaosops_ray.integrations.rllib.environment import Table
from chaosops_ray.integrations.rllib.module import MaskedModule
from chaosops_ray.integrations.rllib.network import Network
from chaosops_ray.integrations.rllib.settings import Ppo
from chaosops_ray.integrations.scenarios import Scenarios
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim import seats
from chaosops_ray.sim.contract import NOTHING
from chaosops_ray.sim.episode import play
from chaosops_ray.sim.errors import InputError, unknown
from chaosops_ray.sim.rng import stream
from chaosops_ray.store import files

METRICS = "metrics.jsonl"


class Trained(NamedTuple):
    """The networks of a run, and a row for each time that they were tried out."""

    networks: Mapping[str, Network]
    rows: tuple[Mapping[str, float], ...]


def game_settings(settings: Ppo) -> dict[str, Any]:
    """Return the settings of the environment; what they name is looked up when it is made."""
    return {
        "world": settings.world,
        "rules": settings.rules,
        "selection": None if settings.cases == "auto" else settings.cases,
        "tiers": settings.tiers,
        "colleagues": settings.seats,
        "pay": "stream",
        "size": settings.features,
        "scale": settings.reward_scale,
        "weights": settings.streams,
    }


def check(settings: Ppo) -> Game:
    """Look up everything that the settings name, before Ray starts."""
    game = Table(game_settings(settings)).game
    known = tuple(game.environment.streams(NOTHING))
    for role, weights in settings.streams.items():
        if role not in game.roles:
            raise unknown(f"role that learns in world {game.environment.name}", role, game.roles)
        for name in weights:
            if name not in known:
                raise unknown(f"stream of world {game.environment.name}", name, known)
    return game


def run(settings: Ppo, out: Path, tell: Callable[[str], None]) -> policy.PpoPlayer:
    """Train on a Ray of this machine, and write the run's folder whole; `tell` is given a line after each try."""
    game = check(settings)
    files.make_folder(out.parent)
    with files.atomic_folder(out, replace=False) as folder:
        with _ray(settings.samplers):
            trained = train(settings, tell)
        files.write_lines(folder / METRICS, trained.rows)
        steps = int(trained.rows[-1]["steps"])
        policy.write(folder, game.environment, trained.networks, settings.model_dump(mode="json"), steps)
    return policy.player(game.environment, str(out), game.colleagues)


def train(settings: Ppo, tell: Callable[[str], None]) -> Trained:
    """Train until the steps are done."""
    game = check(settings)
    for library in ("ray.rllib", "ray.tune"):
        logging.getLogger(library).setLevel(logging.ERROR)  # they warn of their own ways
    torch.set_num_threads(1)  # the networks are so small that threads would only wait for each other
    began, rows = time.monotonic(), []
    algorithm = configured(settings, game).build_algo()
    try:
        updates = 0
        while True:
            steps = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
            updates += 1
            is_last = steps >= settings.steps
            if is_last or updates % settings.probe_every == 0:
                seconds = time.monotonic() - began
                reached = probed(settings, game, _networks(algorithm, game))
                rows.append({"updates": updates, "steps": steps, "seconds": round(seconds, 1), "return": reached})
                left = seconds * max(0, settings.steps - steps) / steps
                tried = f"return {reached:+.1f} on {settings.probe} scenarios of training"
                tell(f"{steps} of {settings.steps} steps · {tried} · {seconds:.0f} s, about {left:.0f} s left")
            if is_last:
                return Trained(_networks(algorithm, game), tuple(rows))
    finally:
        algorithm.stop()
        # RLlib makes a folder for logs in ~/ray_results, and leaves it empty.
        shutil.rmtree(algorithm.logdir, ignore_errors=True)


def probed(settings: Ppo, game: Game, networks: Mapping[str, Network]) -> float:
    """Return the mean return of greedy play on scenarios with seeds of training, the same ones each time."""
    environment = game.environment
    scenarios = Scenarios(environment, game_settings(settings)["selection"], settings.tiers)
    build = seats.beside(environment, policy.factory(environment, networks, settings.features), game.colleagues)
    draw = stream(settings.seed, "integrations/probe")
    chosen = [scenarios.drawn(draw) for _ in range(settings.probe)]
    return float(np.mean([play(environment, one, game.rules, build(one, game.rules)).total for one in chosen]))


def configured(settings: Ppo, game: Game) -> PPOConfig:
    """Return RLlib's configuration: a module for each role, on the new API stack."""
    table = Table(game_settings(settings))
    modules = {
        role: RLModuleSpec(
            module_class=MaskedModule,
            observation_space=table.observation_spaces[role],
            action_space=table.action_spaces[role],
            model_config={"hidden": settings.hidden},
        )
        for role in game.roles
    }
    return (
        PPOConfig()
        .environment(Table, env_config=game_settings(settings), disable_env_checking=True)
        .env_runners(num_env_runners=settings.samplers, num_envs_per_env_runner=settings.episodes)
        .learners(num_learners=0)
        .multi_agent(policies=set(game.roles), policy_mapping_fn=_module_of)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=modules))
        .training(
            lr=_schedule(settings.learning_rate, settings.steps),
            entropy_coeff=_schedule(settings.entropy, settings.steps),
            train_batch_size_per_learner=settings.batch,
            minibatch_size=settings.minibatch,
            num_epochs=settings.epochs,
            shuffle_batch_per_epoch=True,
            gamma=settings.discount,
            lambda_=settings.smoothing,
            clip_param=settings.clip,
            grad_clip=settings.gradient_norm,
            use_kl_loss=False,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
        )
        .debugging(seed=settings.seed, log_level="ERROR")
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    )


def _module_of(agent: str, *_others: Any, **_more: Any) -> str:
    return agent


def _schedule(schedule: Schedule, steps: int) -> list[list[float]]:
    """Write a schedule as RLlib reads it: corners of a line, each at a number of steps."""
    begins, ends = schedule.after * steps, schedule.until * steps
    corners = [[0, schedule.start], [begins, schedule.start], [ends, schedule.end]]
    return corners if begins else corners[1:]


def _networks(algorithm: Algorithm, game: Game) -> dict[str, Network]:
    return {role: algorithm.get_module(role).network for role in game.roles}


@contextmanager
def _ray(samplers: int) -> Iterator[None]:
    """Start Ray on this machine, unless this process is connected to one."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            "local", num_cpus=1 + samplers, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            _system_config={"prestart_worker_first_driver": False},
        )  # fmt: skip
    except Exception as error:
        # Ray raises a bare Exception if its processes do not start in time; subclasses that are not listed are defects.
        if type(error) is not Exception and not isinstance(error, ConnectionError | RuntimeError | ValueError):
            raise
        raise InputError(f"Ray does not start: {one_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()
