"""How a pool child comes by the stored values that its tasks refer to."""

from __future__ import annotations

import os

import msgpack

from manyhands_shared import loans
from manyhands_shared.serial import Buffer
from manyhands_shared.stored import Place

#: A child waits so long for a value; its client may be about to come back.
_PATIENCE_SECONDS = 3600.0


class Bringer:
    """The child's side: brings stored values from the node.

    Args:
        lender: the node's.
    """

    def __init__(self, lender: str) -> None:
        self._lender = lender
        self._borrower: loans.Borrower | None = None

    def bring(self, place: Place, private: bool) -> tuple[Buffer, ...]:
        """The buffers of a place. Private ones may be written to without anybody seeing it.

        Raises:
            RuntimeError: they are not to be had.
        """
        if self._borrower is None:
            self._borrower = loans.Borrower()
        hint = msgpack.packb([place.host, place.lender, place.owner], use_bin_type=True)
        size = loans.span(place.lengths)
        found = self._borrower.borrow(self._lender, place.key, hint, _PATIENCE_SECONDS)
        fd, at = (-1, 0) if found is None else found
        back = self._borrower.returning(self._lender, place.key)
        view = loans.private_view if private else loans.shared_view
        try:
            if found is None or not loans.fits(fd, size, at):
                raise RuntimeError(
                    f"a value of {size} bytes that the task refers to is not to be had: "
                    "the client that kept it has let go of it, or is gone"
                )
            return loans.cut(view(fd, size, back, at), place.lengths)
        except BaseException:
            if found is not None:
                back()
            raise
        finally:
            if found is not None:
                os.close(fd)
