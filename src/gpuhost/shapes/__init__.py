"""The JSON objects that more than one room handles, as types; a test holds each against its schema in data/.

What runs on a target imports them for the type checker alone: Python 3.6 has no TypedDict.
"""
