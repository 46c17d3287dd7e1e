"""The nine failures: one file each, listed here and nowhere else."""

from chaosops_ray.sim.incident.failures import (
    autoscaler_cost_cut,
    bad_config_push,
    cascade,
    db_deadlock,
    disk_full,
    dns_outage,
    memory_leak,
    misrouted_traffic,
    rogue_deploy_bot,
)

_ALL = (
    db_deadlock.FAILURE,
    memory_leak.FAILURE,
    bad_config_push.FAILURE,
    dns_outage.FAILURE,
    disk_full.FAILURE,
    cascade.FAILURE,
    autoscaler_cost_cut.FAILURE,
    misrouted_traffic.FAILURE,
    rogue_deploy_bot.FAILURE,
)
FAILURES = {failure.name: failure for failure in _ALL}
