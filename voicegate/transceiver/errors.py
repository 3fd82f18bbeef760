"""What the transceiver tells whoever asks it for a session."""


class FullError(Exception):
    """This process carries as many sessions as it can."""
