"""The fast form of PReLU computes PReLU."""

import pytest
import torch
from torch import nn

from roadworthy.export.activations import SplitPReLU, with_split_prelu


@pytest.mark.parametrize("slopes", [[0.25, 0.1, 0.0], [-0.4, 1.0, 0.9], [0.2, 1.7, -3.0]])
def test_equals_torch(slopes: list[float]) -> None:
    prelu = nn.PReLU(3)
    prelu.weight.data = torch.tensor(slopes)
    x = torch.randn(2, 3, 5, 7) * 10
    x[0, :, 0, 0] = 0
    with torch.no_grad():
        torch.testing.assert_close(SplitPReLU(prelu)(x), prelu(x), rtol=1e-6, atol=1e-5)


def test_one_shared_slope() -> None:
    shared = with_split_prelu(nn.Sequential(nn.PReLU(init=0.3)))
    x = torch.randn(2, 3, 5, 7)
    assert isinstance(shared[0], nn.LeakyReLU)  # type: ignore[index]
    torch.testing.assert_close(shared(x), torch.where(x > 0, x, 0.3 * x))


def test_nested_modules_are_replaced_in_a_copy() -> None:
    class Own(nn.PReLU):  # a subclass with its own backward pass, as training may use
        pass

    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.PReLU(4), nn.Sequential(Own(4))))
    fast = with_split_prelu(network)
    assert not any(isinstance(module, nn.PReLU) for module in fast.modules())
    assert sum(isinstance(module, nn.PReLU) for module in network.modules()) == 2
    x = torch.randn(1, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x))
