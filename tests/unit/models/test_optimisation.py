import math

import pytest
import torch
from torch import nn

from models.training.objective import ParameterGroup, all_weights
from models.training.optimisation import build_optimizer, rate_factor, update_average
from models.training.settings import AdamW, Schedule, Sgd


def test_rates_rise_evenly_while_warming_up():
    schedule = Schedule(steps=100, warm_up_steps=4, decay="none")
    assert [rate_factor(schedule, step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_and_polynomial_begin_at_one_and_end_at_zero():
    for decay in ("cosine", "polynomial"):
        schedule = Schedule(steps=10, decay=decay)
        assert rate_factor(schedule, 0, 0.0) == 1
        assert rate_factor(schedule, 10, 1.0) == pytest.approx(0)
    assert rate_factor(Schedule(steps=10, decay="cosine"), 5, 0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert rate_factor(Schedule(steps=10, decay="polynomial", power=2.0), 5, 0.25) == pytest.approx(0.5625)


class WithEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def test_a_pretrained_encoder_learns_at_its_own_rate():
    network = WithEncoder()
    settings = AdamW(optimizer="adamw", rate=1e-2, encoder_rate=1e-3)
    optimizer = build_optimizer(all_weights(network), settings)
    by_rate = {group["lr"]: group["params"] for group in optimizer.param_groups}
    assert [id(one) for one in by_rate[1e-3]] == [id(one) for one in network.encoder.parameters()]
    assert [id(one) for one in by_rate[1e-2]] == [id(one) for one in network.head.parameters()]


def test_weights_that_do_not_learn_are_in_no_group():
    network = WithEncoder()
    network.encoder.requires_grad_(False)
    (group,) = all_weights(network)
    assert not group.is_encoder


def test_sgd_looks_ahead_as_nesterov_says():
    weight = nn.Parameter(torch.tensor([1.0]))
    settings = Sgd(optimizer="sgd", rate=0.1, weight_decay=0.0, momentum=0.5)
    optimizer = build_optimizer([ParameterGroup([weight])], settings)
    for _ in range(2):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
    # Velocity 1, then 1.5; each step goes by gradient + momentum * velocity.
    assert weight.item() == pytest.approx(1 - 0.1 * (1 + 0.5) - 0.1 * (1 + 0.75))


def test_the_average_follows_weights_and_copies_counters():
    network = nn.BatchNorm1d(1)
    average = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.75)
    assert average["weight"].item() == pytest.approx(0.75 * 1 + 0.25 * 3)
    assert average["num_batches_tracked"].item() == 7
