"""The real backend: obeys the same decisions on real models."""
