"""A data set by name: where its recordings lie, who speaks, and how they are had."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.corpora.layout import seen_in
from wavenet.data.preparation.sources import SourceListing
from wavenet.utils.errors import DataError, printable


@dataclass(frozen=True)
class Corpus:
    """A data set.

    Attributes:
        name: As in `data.corpus=NAME`.
        about: One line: what is in it, how large, under which licence, where to get it.
        find: Return the recordings below a root, each with its speaker and its score if it has one;
            raises `DataError` where something is missing, and says where to get it.
        fetch: Download or make the recordings into a root, which does not exist yet; absent where
            the user must do it.
    """

    name: str
    about: str
    find: Callable[[Path], SourceListing]
    fetch: Callable[[Path], None] | None = None

    def absent(self, folder: Path, wanted: str) -> DataError:
        """Return the error that `folder` does not hold this corpus, nor a part of it."""
        return DataError(
            f"{printable(folder)} does not hold the corpus {self.name}: found {seen_in(folder)}; "
            f"wanted {wanted}. {self._way_out}"
        )

    def incomplete(self, folder: Path, missing: str, found: SourceListing) -> DataError:
        """Return the error that `folder` holds this corpus with holes."""
        linked = found.linked_folders
        note = f"; linked folders there, which are not followed: {linked}" if linked else ""
        return DataError(
            f"{printable(folder)} does not hold all of the corpus {self.name}: {missing}{note}. "
            f"Unpack it anew, or take what there is, without speakers, by data.corpus=folder. "
            f"{self._way_out}"
        )

    @property
    def _way_out(self) -> str:
        if self.fetch is None:
            return f"{self.about}."
        return f"{self.about}. data.download=true fetches it, to a data.root that is not there yet."
