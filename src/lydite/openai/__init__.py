"""A client that checks its own receipts, in one line: ``OpenAI(http_client=verified_client(...))``.

The transport hashes what goes out and comes in, and lets no answer of a model through whose receipt
is missing, forged or about other bytes. Knows nothing of models, and needs nothing but the HTTP
library that the SDK brings.
"""

from lydite.openai.client import verified_async_client, verified_client
from lydite.openai.ledger import Fault, Receipts

__all__ = ["Fault", "Receipts", "verified_async_client", "verified_client"]
