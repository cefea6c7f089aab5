"""From a command line to a typed config, and from an error to an exit code."""
