"""Event-level choices, one compiled rule a file."""
