"""Old names of config keys and command line words, each with its new one.

They are refused with the new name. Nothing is read under an old one, except that a key which could
have one value only may stand in a file that has it.
"""

import re


def _pairs(text: str) -> dict[str, str]:
    """Return the names of `old=new ...`; a name without `=` is not new itself."""
    parts = (pair.partition("=") for pair in text.split())
    return {old: new or old for old, _, new in parts}


_SECTIONS = {  # those with another name
    "audio.pitch": "audio.f0",
    "audio.notes": "audio.score",
    "audio.shaping": "audio.filter",
    "report": "evaluation",
}
_KEYS = {  # old section: its keys
    "audio": "speakers=speaker_names pitch=f0 notes=score shaping=filter",
    "audio.mel": """
        fft_size=n_fft hop_size=hop_length window_size=win_length bins=n_mels fmin=f_min fmax=f_max
        padding=pad_mode log=log_base floor=log_floor clip=clamp""",
    "audio.pitch": "sample_rate hop_size=hop_length fmin=f_min fmax=f_max",
    "audio.notes": "sample_rate hop_size=hop_length lowest=midi_min highest=midi_max",
    "audio.shaping": "gain high_pass=low_shelf_hz pre_emphasis noise_shaping predictor",
    "model": """
        output=output_distribution levels=quantization_channels components=num_mixtures
        input=input_type speakers=num_speakers vector_channels=global_in_channels
        unknown_rate=conditioning_dropout""",
    "model.local": "width=channels scales=upsample_scales upsampling=upsample",
    "data": """
        prepared=processed_dir mixdown=mono zero_nan=nan_to_num keep_truncated=allow_truncated
        keep_silent=allow_silent skip_bad=skip_invalid trim_db=trim_top_db split_db=split_top_db
        speaker_folders=speaker_from_folder normalise=normalize_mel jobs=num_workers
        speakers=use_speakers""",
    "optim": "clip_norm=max_grad_norm final_lr_ratio=min_lr_ratio schedule=lr_schedule",
    "trainer": """
        batch_size=global_batch_size crop=segment_length accumulate=accumulate_grad_batches
        workers=num_workers save_every=save_every_n_steps valid_every=val_every_n_steps
        keep_last=save_last_k keep_best=save_best valid_seconds=val_seconds
        timeout_seconds=ddp_timeout_seconds requeue=auto_requeue compile=torch_compile""",
    "report": """
        seconds=sample_seconds count=num_samples copies=num_resynthesis
        copy_seconds=resynthesis_seconds evaluate_seconds=eval_seconds prompt_seconds
        temperature""",
}
RENAMED_KEYS = {
    f"{section}.{old}": f"{_SECTIONS.get(section, section)}.{new}"
    for section, keys in _KEYS.items()
    for old, new in _pairs(keys).items()
} | {
    "report": "evaluation",
    "optim.name": "optim=adam or optim=adamw",
    "audio.companding": "model.companding",
}
RETIRED_KEYS = {"audio.companding": "mu-law"}  # with the only value that files have there

RENAMED_COMMAND_KEYS = {  # keys of one command
    "generate": {"batch": "num_samples, or batch_size for the inputs of a folder"}
    | _pairs(
        "guidance=guidance_scale mel_convention=mel_preset precision=weight_dtype "
        "threads=num_threads"
    ),
    "benchmark": _pairs(
        "told=conditioning batches=batch_sizes precisions=weight_dtypes rounds=repeats "
        "startup=measure_startup threads=num_threads"
    ),
    "benchmark_train": _pairs("crops=batch_shapes ways=implementations rounds=repeats"),
}
_GROUPS = {"cluster": "launcher", "search": "sweeper", "report": "evaluation"}
RENAMED_WORDS = {  # words of a command line, as patterns of the whole word
    "audio=22khz": "audio.sample_rate=22050",
    "audio=44khz": "audio.sample_rate=44100",
    r"audio=(\d+)khz": r"audio.sample_rate=\g<1>000",
    r"audio=mel_(\w+)": r"audio.mel=\1",
    r"audio\.mel=\$\{mel:(\w+)\}": r"audio.mel=\1",
    "cluster=here": "launcher=basic",
    "cluster=cores": "launcher=joblib",
    r"cluster=(local|slurm)": r"launcher=submitit_\1",
    "search=grid": "sweeper=basic",
    "search=optuna": "sweeper=optuna",
    "report=default": "evaluation=base",
    r"optim\.name=(adamw?)": r"optim=\1",
    r"(data|trainer|evaluation)=default": r"\1=base",
    r"trainer\.precision=fp32": "trainer.precision=32-true",
    r"trainer\.precision=bf16": "trainer.precision=bf16-mixed",
    r"shard=all/(\d+)": r"merge_shards=\1",
}


def _ends(path: str) -> list[str]:
    """Return a dotted key without its first parts: all of it, then without one, and so on."""
    parts = path.split(".")
    return [".".join(parts[first:]) for first in range(len(parts))]


def renamed_key(path: str) -> str | None:
    """Return the new name of a dotted key, by its last parts; `None` for a key that never was."""
    return next((RENAMED_KEYS[end] for end in _ends(path) if end in RENAMED_KEYS), None)


def is_retired(path: str, value: object) -> bool:
    """Return whether a file's key says what always held: it is read as if it were not there."""
    return value in [RETIRED_KEYS[end] for end in _ends(path) if end in RETIRED_KEYS]


def renamed_word(verb: str, word: str) -> str | None:
    """Return the new form of a word of a command line; `None` if it was not renamed.

    Args:
        verb: Name of the command's config, such as `benchmark_train`.
        word: Such as `trainer.crop=8192`.
    """
    if (verb, word) == ("benchmark", "train"):
        return "the command wavenet-benchmark-train"
    for pattern, new in RENAMED_WORDS.items():
        match = re.fullmatch(pattern, word)
        if match:
            return match.expand(new)
    key, equals, _ = word.partition("=")
    keys = {**RENAMED_KEYS, **RENAMED_COMMAND_KEYS.get(verb, {}), **_GROUPS}
    return keys[key] if equals and key in keys else None
