"""A model that leaves the house.

Reading order: ``portable`` (operations that every runtime gets right), ``graph`` (all from pixels
to classes as one graph, and as a file), ``parity`` (a file held against its checkpoint), ``card``
(the model card), ``exporting`` (these in a row); ``encoding``, ``computing``, ``volumes`` and
``answers`` (what the page asks for), ``serving`` (the page); ``commands`` (from a config).
"""

from liverseg.sharing.commands import export, page_server
from liverseg.sharing.exporting import Exported

__all__ = ["Exported", "export", "page_server"]
