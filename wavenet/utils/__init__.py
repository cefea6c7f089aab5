"""What every part uses: errors, files, dataclass conversion, sharding, progress."""
