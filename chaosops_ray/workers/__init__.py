"""Ray actors that play episodes: shards that host environments, samplers that hold engines, and the pool of them."""
