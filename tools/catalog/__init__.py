"""Renew the catalog from sources that machines can read: a module per source, `rows` for what they share."""
