"""Clairvoyant bounds and the hazard oracle."""
