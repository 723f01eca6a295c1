"""Dagster: the only folder that imports it. Assets, jobs, schedules and sensors out of a project.

No `from __future__ import annotations` in here: Dagster reads annotations at run time.
"""
