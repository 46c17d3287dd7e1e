"""Places in the scripted runs' recorded evaluation."""

from __future__ import annotations

from tests.support.runs import INCIDENT

SCENARIOS = INCIDENT.scenarios(INCIDENT.selections[0], [1000, 1001])
# Episode of the first policy in a hard incident that a rogue agent has caused; each further policy has it so much later.
ROGUE = next(number for number, one in enumerate(SCENARIOS) if (one.case, one.tier) == ("rogue_deploy_bot", "hard"))
STRIDE = len(SCENARIOS)
