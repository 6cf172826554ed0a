"""The decision problem: cluster model, workloads and environments."""
