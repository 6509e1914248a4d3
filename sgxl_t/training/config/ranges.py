"""Ranges of single settings; each raises ValueError with the value, the rule and the way out."""

from __future__ import annotations


def check_positive(group: str, config: object, *names: str) -> None:
    """Settings greater than 0, or none."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{group}.{name}={value} must be greater than 0: choose a positive number")


def check_not_negative(group: str, config: object, *names: str) -> None:
    """Settings of 0 or more."""
    for name in names:
        if getattr(config, name) < 0:
            raise ValueError(f"{group}.{name}={getattr(config, name)} must not be below 0: use 0 or more")


def check_share(group: str, config: object, *names: str) -> None:
    """Settings from 0 to 1."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{group}.{name}={getattr(config, name)} is no share: use a number from 0 to 1")


def check_decay(group: str, config: object, *names: str) -> None:
    """Settings from 0 to below 1."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(
                f"{group}.{name}={getattr(config, name)} is no decay: use a number from 0 to below 1"
            )
