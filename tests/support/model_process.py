"""A scripted process for models: it speaks the protocol of serve/control_room/models.py, and misbehaves when asked to.

The policy that it is asked to play says what it does: `well`, or `die`, `hang`, `flood`, `nonsense`, `foreign`, …, and
`load-die` and so on do the same while they are loaded. It plays a baseline under the name of a model. Each start and
each load is written to the file that is its first argument.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

DIGEST = "d" * 64
ODD: dict[str, Any] = {
    "list": [],
    "no-action": {"version": 7, "digest": DIGEST, "completion": "x", "log_probs": []},
    "no-number": {
        "action": '{"action": "noop"}',
        "version": 7,
        "digest": DIGEST,
        "completion": "x",
        "log_probs": ["x"],
    },
    "no-such-action": {"action": "{}", "version": 7, "digest": DIGEST, "completion": "x", "log_probs": []},
    "foreign": {"action": '{"action": "noop"}', "version": 6, "digest": DIGEST, "completion": "x", "log_probs": []},
    "failed": {"failed": "the engine\nis gone"},
}


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def misbehave(how: str) -> None:
    if how == "die":
        os._exit(3)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        signal.pause()
    if how == "flood":
        while True:
            sys.stdout.write("x" * 65536)
    if how == "nonsense":
        print("Loading weights: 100 %", flush=True)
    answer(ODD.get(how, {"unavailable": how}))


def ready(policy: str) -> dict[str, Any]:
    model = {"name": policy.partition("=")[0], "version": 7, "digest": DIGEST, "model": {"run": "over"}}
    return {**model, "colleagues": {}, "style": "compact"}


def main() -> None:
    log = Path(sys.argv[1])

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(f"{text}\n")

    note("started")
    how = ""
    environment: Any = None
    policy: Any = None
    world: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if "play" in request:
            asked = request["play"]
            how = asked["policy"].rpartition("=")[2].rpartition("/")[2]
            note(f"play {how}")
            if how.startswith("load-"):
                misbehave(how.removeprefix("load-"))
                continue
            if how == "well":
                # Imported here: it takes most of the time until a process that misbehaves can do so.
                from chaosops_ray.sim import environment_named

                environment = environment_named(asked["world"])
                scenario = environment.scenario(asked["scenario"])
                policy = environment.policies["heuristic"](scenario, asked["rules"])
                world = environment.start(scenario, asked["rules"])
            answer({"ready": ready(asked["policy"])})
            continue
        note(f"turn {json.dumps(request['turn']['taken'])}")
        if how != "well":
            misbehave(how)
            continue
        for action, _ in request["turn"]["taken"]:
            world = environment.step(world, environment.load_action(action)).world
        action = policy(environment.view(world, environment.acting(world)))
        spelled = environment.dump_action(action)
        answer({"action": spelled, "version": 7, "digest": DIGEST, "completion": "as it wrote", "log_probs": [-0.5]})


if __name__ == "__main__":
    main()
