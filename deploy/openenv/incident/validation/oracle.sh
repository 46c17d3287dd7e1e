#!/bin/sh
# Plays a task on which the oracle earns the most that an episode can: 184.
exec chaosops play incident/rogue_deploy_bot/hard/353 --policy oracle --plain
