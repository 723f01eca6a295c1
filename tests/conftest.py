"""Fixtures of the whole suite: real apps and servers on loopback."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures"]

# How long an example takes says something of the machine and who else uses it, not of the code.
settings.register_profile(
    "membrane_sync", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("membrane_sync")
