"""One run and its child process."""
