"""The cluster model: spec, compiled event engine, start-up path, rules and bill."""
