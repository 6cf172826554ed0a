"""Clairvoyant bounds and the hazard oracle.

`lower_bound` is the one to call; `relaxation` states what it is a bound of. Import it from its
file (`stoker.baselines.bounds.lagrangian`): this module stays free of compiled code.
"""
