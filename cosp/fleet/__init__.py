"""Devices, fleets, what a task costs on them, and the virtual clock. No torch, no Flower, no wall clock."""

from __future__ import annotations

from cosp.fleet.availability import Availability, Diurnal, Trace
from cosp.fleet.board import Board, Change
from cosp.fleet.cost import Cost, Work, cost, cost_range, idle_j, jitter, step_s, task_j, task_s
from cosp.fleet.fleet import Fleet, fleet_names, load_fleet
from cosp.fleet.links import Link
from cosp.fleet.live import End, Errand, LiveFleet
from cosp.fleet.network import ServerLink, SharedLink, fair_rates
from cosp.fleet.profiles import Description, DeviceProfile, Fact, describe, load_profile, profile_names
from cosp.fleet.speed import Speed, speed_of
from cosp.fleet.thermal import Throttle
from cosp.fleet.timeline import Timeline

__all__ = [
    "Availability",
    "Board",
    "Change",
    "Cost",
    "Description",
    "DeviceProfile",
    "Diurnal",
    "End",
    "Errand",
    "Fact",
    "Fleet",
    "Link",
    "LiveFleet",
    "ServerLink",
    "SharedLink",
    "Speed",
    "Throttle",
    "Timeline",
    "Trace",
    "Work",
    "cost",
    "cost_range",
    "describe",
    "fair_rates",
    "fleet_names",
    "idle_j",
    "jitter",
    "load_fleet",
    "load_profile",
    "profile_names",
    "speed_of",
    "step_s",
    "task_j",
    "task_s",
]
