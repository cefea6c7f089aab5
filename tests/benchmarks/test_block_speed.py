"""The benchmark of residual stacks: its plain form computes what `ResidualStack` does."""

import pytest
import torch
from torch import nn

from wavenet.benchmarks.block_speed import (
    BlockCase,
    TextbookDiffWave,
    TextbookWN,
    block_cases,
    measure_blocks,
    residual_stack,
    stack_inputs,
)
from wavenet.modules import ResidualStack

TEXTBOOKS = {
    "vits": lambda: TextbookWN(channels=16, blocks=3),
    "diffwave": lambda: TextbookDiffWave(channels=16, blocks=4, cycle=2),
}


def copy_weights(textbook: nn.Module, stack: ResidualStack) -> None:
    """Give the textbook form, where residual and skip are one convolution, a stack's weights."""
    weights = stack.state_dict()
    for index, output in enumerate(textbook.get_submodule("outputs").children()):
        names = [f"blocks.{index}.{part}_conv" for part in ("residual", "skip")]
        for kind in ("weight", "bias"):
            parts = [weights[f"{name}.{kind}"] for name in names if f"{name}.{kind}" in weights]
            target = output.get_parameter(kind)
            target[-sum(map(len, parts)) :] = torch.cat(parts)
    for own, theirs in {"conv": "convs", "step_projection": "steps"}.items():
        for index, block in enumerate(stack.blocks):
            if getattr(block, own) is not None:
                part = textbook.get_submodule(f"{theirs}.{index}")
                part.load_state_dict(block.get_submodule(own).state_dict())
    if stack.conditioning_conv is not None:
        shared = textbook.get_submodule("conditioning")
        shared.load_state_dict(stack.conditioning_conv.state_dict())
        return
    for index, block in enumerate(stack.blocks):
        part = textbook.get_submodule(f"conditionings.{index}")
        part.get_parameter("weight").copy_(
            block.get_submodule("conditioning_conv").get_parameter("weight")
        )
        part.get_parameter("bias").zero_()


@pytest.mark.parametrize("name", TEXTBOOKS)
@torch.no_grad()
def test_the_textbook_form_has_the_numbers_of_the_stack(name: str) -> None:
    textbook = TEXTBOOKS[name]().double()
    stack = residual_stack(textbook).double()
    copy_weights(textbook, stack)
    inputs = {key: x.double() for key, x in stack_inputs(textbook, 3, 20).items()}

    torch.testing.assert_close(stack(**inputs), textbook(**inputs))


@pytest.mark.parametrize("name", TEXTBOOKS)
def test_each_case_is_compared_with_the_textbook_of_its_pass(name: str) -> None:
    cases = block_cases(
        ["textbook", "fused"], ["forward", "training"], ["32-true", "bf16-mixed"], "cpu", "2x8"
    )

    measured = measure_blocks(TEXTBOOKS[name](), cases, repeats=2, seconds=1e-3)

    assert [one.case for one in measured] == cases
    assert all(len(one.timings) == 2 and one.median > 0 for one in measured)
    baseline = BlockCase("textbook", "training", "bf16-mixed", "cpu", 2, 8)
    (compared,) = (case for case in cases if case != baseline and baseline.is_baseline_of(case))
    assert compared == BlockCase("fused", "training", "bf16-mixed", "cpu", 2, 8)
