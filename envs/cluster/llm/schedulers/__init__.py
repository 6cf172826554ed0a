"""Schedulers: how the next iteration is formed, one file each, under its system's name."""
