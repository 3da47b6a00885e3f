"""One module a command: arguments in, one call down, results out. Cheap to import."""
