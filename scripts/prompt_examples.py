"""Prints the conversations of docs/models.md: one of each world, in full style, with an answer to its first view.

python -m scripts.prompt_examples
"""

from __future__ import annotations

from chaosops_ray.agents.seat import ChatSeat
from chaosops_ray.sim.worlds import environment_of

SCENARIOS = {
    "incident": ("incident/db_deadlock/easy/7", "manager"),
    "tools": ("tools/capital-gdp/synthetic/7", "agent"),
}


def conversation(world: str) -> str:
    """Return the conversation as text, up to the first view."""
    identity, role = SCENARIOS[world]
    environment = environment_of(identity)
    scenario = environment.scenario(identity)
    state = environment.start(scenario, environment.rules("strict"))
    while environment.acting(state) != role:
        state = environment.step(state, environment.parse_action("noop")).world
    messages = ChatSeat(environment, role, "strict").ask(environment.view(state, role))
    return "\n\n".join([f"[{message['role']}]\n{message['content']}" for message in messages])


def main() -> None:
    """Print the conversations."""
    for world in SCENARIOS:
        print(f"```text\n{conversation(world)}\n```\n")


if __name__ == "__main__":
    main()
