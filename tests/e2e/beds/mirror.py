"""The vendor mirror (to come): its address and certificate authority are set up already."""


class Mirror:
    """The vendor mirror."""
