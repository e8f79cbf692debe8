"""Devices, fleets, what a task costs on them, and the virtual clock. No torch, no Flower, no wall clock."""

from __future__ import annotations

from cosp.fleet.cost import Cost, Work, cost, cost_range, idle_j, jitter, step_s
from cosp.fleet.fleet import Board, Link, fleet_names, load_fleet
from cosp.fleet.profiles import Description, DeviceProfile, Fact, describe, load_profile, profile_names
from cosp.fleet.timeline import Timeline

__all__ = [
    "Board",
    "Cost",
    "Description",
    "DeviceProfile",
    "Fact",
    "Link",
    "Timeline",
    "Work",
    "cost",
    "cost_range",
    "describe",
    "fleet_names",
    "idle_j",
    "jitter",
    "load_fleet",
    "load_profile",
    "profile_names",
    "step_s",
]
