"""A copy of a gateway's log that believes nothing: every leaf fetched, every root recomputed.

A fork, a truncation or a rewritten entry shows as an error, not as a different copy.
"""

from lydite.appraisal.selection import witnessed
from lydite.auditor.gateway_client import Gateway
from lydite.errors import Reason, VerificationError
from lydite.messages import entry
from lydite.messages.entry import Entry
from lydite.tlog import tiles
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.merkle import Tree
from lydite.tlog.policy import Policy as LogPolicy


class Mirror:
    """The leaves of one log up to its newest witnessed checkpoint."""

    def __init__(self, client: Gateway, log: LogPolicy) -> None:
        self._client = client
        self._log = log
        self.leaves: list[bytes] = []
        self.tree = Tree()
        self.note = b""
        self.checkpoint: Checkpoint | None = None

    @property
    def size(self) -> int:
        """Number of leaves that a witnessed checkpoint covers."""
        return len(self.leaves)

    def entry(self, number: int) -> Entry:
        """Return the 1-based entry ``number``."""
        return entry.parse(self.leaves[number - 1])

    def sync(self) -> Checkpoint:
        """Fetch what is new and return the checkpoint that covers it.

        1. The checkpoint is the log's and witnessed.
        2. It is not smaller than one seen before.
        3. The leaves seen before and the new ones hash to its root.

        Raises:
            UnavailableError: the gateway does not answer.
            VerificationError: a step fails.
        """
        # 1.
        note = self._client.checkpoint()
        checkpoint = witnessed(note, self._log).checkpoint
        # 2.
        if checkpoint.size < self.size:
            raise VerificationError(
                Reason.INCONSISTENT_LOG,
                f"the log shrank from {self.size} to {checkpoint.size} entries",
            )
        fresh = self._fetch(self.size, checkpoint.size)
        # 3. A refused root leaves the copy as it was.
        self.tree.extend(fresh)
        if self.tree.root(checkpoint.size) != checkpoint.root:
            self.tree = Tree()
            self.tree.extend(self.leaves)
            raise VerificationError(
                Reason.INCONSISTENT_LOG, f"the entries do not give the root at {checkpoint.size}"
            )
        self.leaves += fresh
        self.note, self.checkpoint = note, checkpoint
        return checkpoint

    def _fetch(self, old: int, size: int) -> list[bytes]:
        leaves: list[bytes] = []
        for index in range(old // tiles.WIDTH, -(-size // tiles.WIDTH)):
            width = min(tiles.WIDTH, size - index * tiles.WIDTH)
            tile = tiles.Tile(level=None, index=index, width=width)
            leaves += tiles.decode_bundle(self._client.tile(tile.path), width)
        return leaves[old % tiles.WIDTH :]
