"""Hypothesis without a clock and without chance, so that a slow or unlucky machine fails nothing.

`--hypothesis-profile=explore` draws at random, for whoever looks for new failures.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True, max_examples=60)
settings.load_profile("steady")
