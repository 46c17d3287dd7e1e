#!/bin/sh
# Plays a task on which the oracle, who is told the truth, earns more than every other baseline.
exec chaosops play fleet/colluding.benign/iid/1002 --policy oracle --plain
