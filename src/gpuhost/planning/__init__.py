"""The catalog, the rules, the resolver, plans and locks. Pure: nothing here prints or parses a command line."""
