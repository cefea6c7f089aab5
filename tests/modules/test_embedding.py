import pytest
import torch
import torch.nn.functional as F

from wavenet.modules import CausalEmbedding


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_look_ups_equal_a_convolution_of_one_hot_classes(kernel_size: int) -> None:
    embedding = CausalEmbedding(7, 3, kernel_size)
    codes = torch.randint(7, (2, 20))
    one_hot = F.one_hot(codes, 7).float().transpose(1, 2)
    weight = embedding.weight.permute(2, 1, 0)  # (channels, classes, kernel_size)

    expected = F.conv1d(F.pad(one_hot, (kernel_size - 1, 0)), weight, embedding.bias)

    torch.testing.assert_close(embedding(codes), expected)


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_step_equals_forward_at_every_sample(kernel_size: int) -> None:
    embedding = CausalEmbedding(7, 3, kernel_size)
    codes = torch.randint(7, (2, 20))
    queue = embedding.new_queue(batch_size=2)

    stepped = torch.stack([embedding.step(codes[:, t], queue, t) for t in range(20)], dim=-1)

    torch.testing.assert_close(stepped, embedding(codes))


def test_a_signal_shorter_than_the_kernel_is_embedded() -> None:
    embedding = CausalEmbedding(7, 3, 5)

    assert embedding(torch.tensor([[1, 2]])).shape == (1, 3, 2)
