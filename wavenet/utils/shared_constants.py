"""Numbers that PyTorch's definition and the compiled code, which needs no PyTorch, agree on."""

LEVELS = 65536  # codes of 16-bit samples
SILENCE_CODE = -1  # class of the samples before the first: it adds nothing

MIN_UNIFORM = 2.0**-25  # uniforms of [0, 1) are moved away from 0 and 1: finite quantiles

# Of linear prediction.
COEFFICIENT_STEP = 2.0**-20
MAX_COEFFICIENT = 2.0**10  # far above those of speech; products of 16-bit samples stay exact
RESIDUAL_RANGE = 8.0  # scales of the residual that an input in [-1, 1] covers
