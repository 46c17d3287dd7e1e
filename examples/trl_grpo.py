"""Train a model in one seat of a world with TRL's own GRPOTrainer, for a few steps on a CPU.

    python examples/trl_grpo.py incident --role dev
    python examples/trl_grpo.py tools
    python examples/trl_grpo.py tools --model Qwen/Qwen3-0.6B    # a real model, where one can be had and run

Without --model, a tiny one is made on the spot (tiny_chat_model.py): at random, it makes the calls that the heuristic
makes in these scenarios. A few steps show that TRL's trainer plays the world through tool calls and is paid by it; they
are too few to learn anything.
"""

from __future__ import annotations

import argparse
import os
import tempfile

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from datasets import Dataset
from tiny_chat_model import make
from trl import GRPOConfig, GRPOTrainer

from chaosops_ray.agents.seat_spec import seat_spec
from chaosops_ray.integrations.trl import SeatEnvironment, environment_class, rows, session_of
from chaosops_ray.sim import ENVIRONMENTS, InputError

GROUP = 4


def main() -> None:
    """Train, and print a line for each step and each episode of the last one."""
    parser = argparse.ArgumentParser(description="Train a seat of a world with TRL's GRPOTrainer.")
    parser.add_argument("world", choices=list(ENVIRONMENTS))
    parser.add_argument("--role", default="", help="the seat, where the world has several")
    parser.add_argument(
        "--colleagues", default="", help="the baseline that plays the other seats (default: the world's rules of thumb)"
    )
    parser.add_argument("--scenarios", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", help="a model's name or folder; without it, a tiny model is made")
    given = parser.parse_args()

    easiest = ENVIRONMENTS[given.world].tiers[:1]
    try:
        seat = seat_spec(given.world, given.role, colleagues=given.colleagues, tiers=easiest)
        data = rows(seat, given.scenarios)
    except InputError as error:
        parser.error(str(error))
    model, tokenizer = (given.model, None) if given.model else make(seat, data, (seat.environment.usual,))
    made = environment_class(seat)
    environments: list[SeatEnvironment] = []

    def environment() -> SeatEnvironment:
        environments.append(made())
        return environments[-1]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(data),
            environment_factory=environment,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=given.steps,
                per_device_train_batch_size=2 * GROUP,
                num_generations=GROUP,
                max_completion_length=4_000,
                max_tool_calling_iterations=12,
                learning_rate=1e-6 if given.model else 1e-3,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
                seed=0,
            ),
        )
        trainer.train()
    for logged in trainer.state.log_history[: given.steps]:
        calls, reward = logged["tools/call_frequency"], logged["reward"]
        print(f"step {logged['step']}: {calls:.1f} calls a rollout, reward {reward:+.4f}")
    for played in environments:
        episode = session_of(played).episode
        print(f"episode: {len(episode.steps)} turns of all seats, return {episode.total:+.4f}")


if __name__ == "__main__":
    main()
