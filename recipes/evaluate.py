"""Bits per sample on held-out audio: `wavenet-evaluate checkpoint=RUN/model data.root=FOLDER`."""

from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.cli.console import progress_bar
from wavenet.cli.options import EvaluateCommand


def evaluate(options: EvaluateCommand, composed: Composed) -> None:
    """Print the model's bits per sample beside four yardsticks on the same audio."""
    from wavenet.cli.evaluation import evaluated_clips
    from wavenet.evaluation.scores import score_table, scores

    loaded, excerpts, clips = evaluated_clips(options)
    samples = sum(clip.frames for clip in clips)
    with progress_bar(samples, "sample") as advance:
        bits = scores(loaded.model, excerpts, clips, advance)
    print(f"{len(clips)} held-out clips, {samples / clips[0].sample_rate / 60:.2f} minutes")
    print(score_table(bits))


def main() -> None:
    """Run `wavenet-evaluate`."""
    command("evaluate", __file__, EvaluateCommand, evaluate, extra="train")


if __name__ == "__main__":
    main()
