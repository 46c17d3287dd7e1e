#!/bin/sh
# Plays a task on which the oracle earns the most that an episode can: 1.
exec chaosops play tools/sector-total/synthetic/9 --policy oracle --plain
