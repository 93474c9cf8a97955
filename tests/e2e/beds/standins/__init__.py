"""Programs and files that stand in for what only the outside world can give (see ../../README.md)."""
