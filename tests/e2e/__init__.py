"""Whole-host tests: the documented commands, run on machines made for the purpose."""
