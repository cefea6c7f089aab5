"""Constants that several subpackages share."""

NULL_SPEAKER = -1  # speaker id that stands for no speaker or an unknown one
