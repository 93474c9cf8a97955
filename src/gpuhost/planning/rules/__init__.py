"""The rules of the stack, as a table of small predicates."""
