"""Classic reinforcement learning on a world with RLlib: its environment, and PPO as a baseline."""
