"""Recorded and invented worlds, and policies run through them under a virtual clock."""
