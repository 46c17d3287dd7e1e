"""Who plays: shards that host environments, samplers that speak for the policy, and the actors they live in."""
