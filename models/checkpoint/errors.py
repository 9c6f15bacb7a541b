"""What can be wrong with a checkpoint, its folder or the hub it comes from."""

from pipeline.errors import Conflict, InvalidInput, ModelUnavailable


class DamagedCheckpoint(InvalidInput):
    """A file of a checkpoint is missing, truncated, or not what its list says."""


class UnknownCheckpoint(InvalidInput):
    """A checkpoint of an architecture, a layout or with tensors that are not known."""


class NotEnoughSpace(ModelUnavailable):
    """The disk has less room than the files need."""


class LicenceNotAccepted(Conflict):
    """The weights come under a licence that nobody has accepted yet."""


class HubRefused(Conflict):
    """The hub wants a token, or does not let this one in."""


class WrongChecksum(ModelUnavailable):
    """The bytes that came are not those that the hub lists."""
