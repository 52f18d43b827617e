"""The programs: Hydra composes a config, the library does the work."""
