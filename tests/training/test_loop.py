from pathlib import Path

import torch

from tests.training.small import build_loop, new_state, single_process
from wavenet.training.checkpointing import find_checkpoints, read_run_checkpoint


def test_a_resumed_loop_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    uninterrupted = new_state()
    build_loop(tmp_path / "uninterrupted", uninterrupted, max_steps=6).run()
    torch.manual_seed(0)
    loop = build_loop(tmp_path / "parts", new_state(), max_steps=6, save_every_n_steps=3)
    segments = iter(loop.loader)
    for _ in range(3):
        loop.validation.add_loss(loop.state, loop.update(segments))
    loop.checkpoints.save_if_due(loop.state)

    resumed = new_state()
    (path,) = find_checkpoints(tmp_path / "parts")
    resumed.load_state_dict(read_run_checkpoint(path, resumed), single_process())
    build_loop(tmp_path / "parts", resumed, max_steps=6).run()

    assert resumed.step == uninterrupted.step == 6
    pairs = zip(resumed.parameters(), uninterrupted.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_accumulated_batches_give_the_gradient_of_their_mean_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = new_state()
    loop = build_loop(tmp_path, state, global_batch_size=2, accumulate_grad_batches=2)
    batches = [batch for batch, _ in zip(loop.loader, range(2), strict=False)]

    for batch in batches:
        loop.backward(batch)

    found = [weight.grad for weight in state.model.parameters()]
    mean_loss = torch.stack([loop.objective(batch) for batch in batches]).mean()
    expected = torch.autograd.grad(mean_loss, list(state.model.parameters()))
    torch.testing.assert_close(found, list(expected))
