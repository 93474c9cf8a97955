"""The rules that a stack has to satisfy, as a table of small predicates."""
