"""What autocast leaves in float32."""

from __future__ import annotations

import torch
from torch import nn

from srlvae.training.precision import keep_norms_float32


def test_group_norms_compute_in_float32_and_convolutions_do_not():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3))
    seen = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        plain = net(x)
        assert set(seen.values()) == {torch.bfloat16}
        keep_norms_float32(net)
        kept = net(x)
    assert seen == {"0": torch.bfloat16, "1": torch.float32, "2": torch.bfloat16}
    # Numbers of about one, with eight bits: a few of their last ones.
    torch.testing.assert_close(kept, plain, rtol=0, atol=0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
