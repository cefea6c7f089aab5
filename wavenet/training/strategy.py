"""Lightning's part in a team: it trains in each process as if that were alone.

What the processes do together is done by `Updates` and the team, in one place and one order; so
Lightning needs to know no more than which process writes.
"""

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.strategies import SingleDeviceStrategy

from wavenet.training.distributed.process_group import ProcessGroup


class TeamStrategy(SingleDeviceStrategy):
    """A process among its like, each of which has the whole model.

    Args:
        team: The processes.
    """

    def __init__(self, team: ProcessGroup) -> None:
        assert team.device is not None
        super().__init__(device=team.device)
        self.team = team
        rank_zero_only.rank = team.rank  # type: ignore[attr-defined] # loggers ask it

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes."""
        return self.team.rank == 0

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write a save in process 0; where that fails, it fails in all."""
        self.team.share(lambda: self.checkpoint_io.save_checkpoint(checkpoint, filepath))
