"""What all tests share: property tests draw the same examples in every run, so that a failure is the same failure."""

from hypothesis import settings

from chaosops_ray.process_environment import set_variables

# Before anything is imported that reads it: progress bars have no place in what a command is asserted to print.
set_variables()
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("searching", max_examples=3000, database=None, deadline=None)
settings.load_profile("repeatable")
