"""Muon against PyTorch's own, matrix by matrix, and what its iteration does to singular values."""

import pytest
import torch
from torch import nn

from loracast.engine.muon import Muon, orthogonalise


def test_it_is_pytorchs_muon():
    torch.manual_seed(0)
    shapes = [(8, 4), (4, 8), (8, 4), (6, 6)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(matrix.detach().clone()) for matrix in ours]
    starts = [matrix.detach().clone() for matrix in ours]
    muon = Muon(ours, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for matrix, other in zip(ours, theirs):
            matrix.grad = torch.randn_like(matrix)
            other.grad = matrix.grad.clone()
        muon.step()
        reference.step()
    for matrix, other, start in zip(ours, theirs, starts):
        torch.testing.assert_close(matrix, other)
        assert (matrix - start).abs().mean() > 1e-3


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_singular_values_end_near_one(shape: tuple[int, int, int]):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    before = torch.linalg.svdvals(matrices)
    assert before.amax() / before.amin() > 2 * values.amax() / values.amin()
    assert (values > 0.3).all()
    assert (values < 1.4).all()


def test_nothing_comes_of_no_gradient():
    matrix = nn.Parameter(torch.ones(4, 4))
    matrix.grad = torch.zeros(4, 4)
    Muon([matrix], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(matrix.detach(), torch.ones(4, 4))
