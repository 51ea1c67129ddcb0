"""What every package uses: errors, progress, files written whole, paths, locks, processes."""
