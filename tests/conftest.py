"""Shared by every test: a quiet, repeatable hypothesis."""

from hypothesis import settings

settings.register_profile("pliant", deadline=None, derandomize=True)
settings.load_profile("pliant")
