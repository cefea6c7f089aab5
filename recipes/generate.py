"""Generate audio from a model: `wavenet-generate RUN/model seconds=5`."""

import dataclasses
import logging
import time

import wavenet
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.data.audio_output import is_stream
from wavenet.generation.backend import build_sampler, choose_device
from wavenet.generation.generate import (
    WavJob,
    generate_folder,
    generate_wavs,
    sampling_config,
    speaker_and_guidance,
    speed_text,
)
from wavenet.generation.inputs import example_input, read_inputs
from wavenet.generation.options import (
    GenerateCommand,
    check_input,
    input_folder,
    mel_consistency,
    output_paths,
    resolve_length,
)
from wavenet.utils.errors import printable
from wavenet.utils.files import remove_abandoned
from wavenet.utils.progress import progress

log = logging.getLogger("wavenet")


def generate(options: GenerateCommand, composed: Composed) -> None:
    """Write audio files, and print the speed."""
    if options.input is None and options.prompt is None:
        options = dataclasses.replace(options, input=example_input(options.checkpoint))
    folder = input_folder(options)
    loaded = wavenet.load(options.checkpoint, choose_device(options))
    audio, sample_rate = loaded.audio, loaded.audio.sample_rate
    check_input(options, loaded.model.config, audio)
    if folder is not None:
        result = generate_folder(options, folder, loaded)
        print(result.text())
        result.raise_failures()
        return

    # What the model is given: a prompt to continue, frames for local conditioning, a speaker.
    paths = output_paths(options)
    remove_abandoned(paths)  # of a generation that was killed
    prompt, frames, available = read_inputs(
        options.input, options.prompt, audio, options.mel_preset
    )
    conditioning = speaker_and_guidance(options, audio)
    sampling = sampling_config(options, loaded)

    # From noise to audio files, in chunks.
    length = resolve_length(options.seconds, available, sample_rate)
    sampler = build_sampler(options, loaded.model)
    jobs = [
        WavJob(
            path,
            options.seed + number,
            length,
            frames,
            prompt,
            options.include_prompt,
            replace=options.overwrite,
        )
        for number, path in enumerate(paths)
    ]
    log.info(
        "generating %d x %.2f s at %d Hz: sampler %s, %s, temperature %s",
        *(len(jobs), length / sample_rate, sample_rate, sampler.name, options.weight_dtype),
        sampling.temperatures,
    )
    consistency = mel_consistency(options, audio)  # what brings the mel of the input back
    total, started = length * len(jobs), time.perf_counter()
    with progress(total, unit="sample", description="generating") as advance:
        generate_wavs(jobs, sampler, audio, sampling, advance, consistency, **conditioning)
    text = speed_text(total, time.perf_counter() - started, sample_rate)
    if is_stream(paths[0]):  # standard output may be the audio
        log.info("%s", text)
        return
    print(text, *map(printable, paths), sep="\n")


if __name__ == "__main__":
    run_process("generate", generate)
