"""A published dataset: its name, recordings, speakers and download."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.corpora.layout import seen_in
from wavenet.data.preparation.sources import SourceListing
from wavenet.utils.errors import DataError, printable


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes:
        name: As in `data.corpus=NAME`.
        about: One line: content, size, license and source.
        find: Return the recordings below a root, each with its speaker and its score if it has one;
            raises `DataError` if something is missing, with the source.
        fetch: Downloads or renders the recordings into a root that does not exist yet; absent if
            the user has to.
    """

    name: str
    about: str
    find: Callable[[Path], SourceListing]
    fetch: Callable[[Path], None] | None = None

    def absent(self, folder: Path, wanted: str) -> DataError:
        """Return the error that `folder` holds no part of this corpus."""
        return DataError(
            f"{printable(folder)} does not hold the corpus {self.name}: found {seen_in(folder)}; "
            f"wanted {wanted}. {self._source_text}"
        )

    def incomplete(self, folder: Path, missing: str, found: SourceListing) -> DataError:
        """Return the error that recordings of this corpus are missing in `folder`."""
        linked = found.linked_folders
        note = f"; linked folders there, which are not followed: {linked}" if linked else ""
        return DataError(
            f"{printable(folder)} does not hold all of the corpus {self.name}: {missing}{note}. "
            f"Unpack it again, or use what there is, without speakers, with data.corpus=folder. "
            f"{self._source_text}"
        )

    @property
    def _source_text(self) -> str:
        if self.fetch is None:
            return f"{self.about}."
        return f"{self.about}. data.download=true downloads it to a new data.root."
