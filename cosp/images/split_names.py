"""What people call the splits of a data set: one list for folders, arrays, files and Hugging Face sets."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, Optional, Tuple

from cosp.errors import DataError

ROLES: Mapping[str, Tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def role_of(name: str) -> Optional[str]:
    """``train``, ``validation`` or ``test``, whatever case the name is in; None if it is no split's name."""
    return next((role for role, names in ROLES.items() if name.lower() in names), None)


def by_role(names: Iterable[str], *, origin: str) -> Dict[str, str]:
    """The name that stands for each role; DataError if two do for one. Other names are left out."""
    found: Dict[str, str] = {}
    for name in sorted(names):
        role = role_of(name)
        if role is not None and found.setdefault(role, name) != name:
            raise DataError(f"{origin}: '{found[role]}' and '{name}' are both the {role} split; keep one of them")
    return found
