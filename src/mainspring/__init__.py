"""Mainspring: the systems behind the apps everyone uses, in one package."""

__version__ = "0.1.0"
