"""A run's figures in the trackers that people know, as local stores; nothing is sent anywhere."""

from __future__ import annotations

from cosp.track.tracks import Tracks, check_tracks

__all__ = ["Tracks", "check_tracks"]
