"""The process in which models play for the control room: requests and answers as serve/control_room/models.py has them.

It holds one model at a time. Before each performance everything that the model is made of is checked on disk again; a
model that cannot be loaded is answered with the reason, and nothing plays in its place. Nothing is downloaded. It ends
when its input ends, which is when its parent does, and when nothing was asked for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from importlib import import_module
from typing import IO, Any

from chaosops_ray.plain_text import one_line
from chaosops_ray.process_environment import set_variables
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.worlds import environment_named
from chaosops_ray.wire import UNTRAINED, Origin

IDLE_SECONDS = 300.0
# It is found missing where only the core of this program is installed.
_POLICIES, _ERRORS, _MODELS, _CHECK = (
    f"chaosops_ray.training.{name}" for name in ("policies", "errors", "base_models", "check")
)


class UnavailableError(Exception):
    """A model that cannot be loaded; the message says why."""


class Held:
    """The model that is loaded, and its episode."""

    def __init__(self, sampler: str) -> None:
        self._sampler = sampler
        self._stack = ExitStack()
        self._key: Any = None  # what tells which model is loaded, and in which world
        self._begin: Any = None
        self._environment: AnyEnvironment
        self._voice: Any = None
        self._world: Any = None

    def play(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the model if it is another one, and begin an episode."""
        environment = environment_named(request["world"])
        player = self._player(environment, request["policy"])
        key = (environment.name, request["policy"], tuple(player.model.items()))
        if key != self._key:
            self.close()
            if hasattr(player, "voices"):
                self._begin = self._stack.enter_context(player.voices())
            else:
                self._begin = _untraced(self._stack.enter_context(player.live()))
            self._key = key
        scenario, rules = environment.scenario(request["scenario"]), environment.rules(request["rules"])
        self._environment, self._voice = environment, self._begin(scenario, rules)
        self._world = environment.start(scenario, rules)
        model = dict(player.model)
        is_ours = "digest" in model or "base" in model
        return {
            "name": request["policy"].partition("=")[0],
            "version": model.get("version", UNTRAINED.version),
            "digest": model.get("digest", model.get("base", "")) if is_ours else "",
            "model": model,
            "colleagues": dict(player.colleagues),
            "style": player.run.rendering if hasattr(player, "run") else "full",
        }

    def _player(self, environment: AnyEnvironment, spelling: str) -> Any:
        policies = import_module(_POLICIES)
        kind, _, what = spelling.partition("=")
        if kind == "trained":
            run = import_module(_CHECK).recorded(policies.version_named(what)[0])
            name, world = run.model, run.world
        else:
            name, world = (what, environment.name) if kind == "model" else (None, "")
        if name is not None and import_module(_MODELS).on_disk(name, world) is None:
            raise UnavailableError(
                f"its base model {name} is not on this machine; `chaosops evaluate --policies {kind}=…` makes or "
                "downloads it"
            )
        (player,) = policies.players(environment, spelling, self._sampler, structured="no").values()
        return player

    def turn(self, taken: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
        """Follow the episode to the model's turn, and take it."""
        for spelled, completion in taken:
            if completion is not None:
                self._voice.remember(self._view(), completion)
            self._world = self._environment.step(self._world, self._environment.load_action(spelled)).world
        action, origin = self._voice.act(self._view())
        return {"action": self._environment.dump_action(action), **origin._asdict()}

    def _view(self) -> Any:
        role = self._environment.acting(self._world)
        if role is None:
            raise InputError("the episode is over")
        return self._environment.view(self._world, role)

    def close(self) -> None:
        """Let go of the model."""
        self._key = self._begin = self._voice = None
        self._stack.close()


def _untraced(build: Any) -> Any:
    """Return what begins an episode of a policy that does not tell where its actions come from."""

    class Voice:
        def __init__(self, scenario: Any, rules: str) -> None:
            self._policy = build(scenario, rules)

        def act(self, view: Any) -> tuple[Any, Origin]:
            return self._policy(view), UNTRAINED

        def remember(self, _view: Any, _completion: str) -> None:
            """Nothing that was recorded is known to be of a policy like this."""

    return Voice


def answer(held: Held, request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request; what is known to fail is said in words."""
    is_load = "play" in request
    failed = "unavailable" if is_load else "failed"
    try:
        errors = import_module(_ERRORS).as_input_errors
    except ModuleNotFoundError as error:
        return {failed: f"{error.name} is not installed; install chaosops-ray[train]"}
    try:
        with errors():
            return {"ready": held.play(request["play"])} if is_load else held.turn(request["turn"]["taken"])
    except (InputError, UnavailableError) as error:
        return {failed: str(error)}
    except ModuleNotFoundError as error:
        return {failed: f"{error.name} is not installed; install chaosops-ray[train]"}
    except MemoryError:
        return {failed: "this machine has too little memory for it"}
    except Exception as error:  # noqa: BLE001 - whatever a damaged model makes libraries raise, it cannot be loaded
        held.close()
        return {failed: one_line(f"it cannot be used ({type(error).__name__}: {error})")}


def serve(lines: IO[bytes], out: IO[bytes], held: Held, idle: float) -> None:
    """Answer requests until the input ends, or until none came for so long."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            requests.put(line)
        # Whatever is being computed, nobody is left to read it.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = requests.get(timeout=idle)
        except queue.Empty:
            return
        out.write(json.dumps(answer(held, json.loads(line))).encode() + b"\n")
        out.flush()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampler", default="torch")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    given = parser.parse_args()
    set_variables()
    # A download of gigabytes is nothing that a click on a page may start.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Libraries print; only answers may come out where answers are read.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out, nullcontext(sys.stdin.buffer) as lines:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(lines, out, Held(given.sampler), given.idle)
        out.flush()
        os._exit(0)  # the thread that reads would wait for a line


if __name__ == "__main__":
    main()
