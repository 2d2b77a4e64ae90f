"""The masked optimizer against plain optimizers, hand-computed steps and bit patterns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from erase.runtime.errors import UserError
from erase.unlearn.mask import Mask
from erase.unlearn.optimizer import MaskedOptimizer, written

Params = list[nn.Parameter]
MAKERS: dict[str, Callable[[Params], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}


def network(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return model.to(dtype)


def half(model: nn.Module, ratio: float = 0.5) -> Mask:
    g = torch.Generator().manual_seed(3)
    saliency = {n: torch.rand(p.shape, generator=g) for n, p in model.named_parameters()}
    return Mask.top(saliency, ratio)


def loss(model: nn.Module, step: int) -> Tensor:
    g = torch.Generator().manual_seed(step)
    x, y = torch.randn(4, 3, 6, 6, generator=g), torch.randn(4, 5, generator=g)
    dtype = next(model.parameters()).dtype
    return mse_loss(model(x.to(dtype)).float(), y)


def train(model: nn.Module, optimizer: MaskedOptimizer, steps: range) -> None:
    for step in steps:
        torch.autograd.backward(loss(model, step))
        optimizer.step()
        optimizer.zero_grad()


def bits(tensor: Tensor) -> Tensor:
    kinds = {2: torch.int16, 4: torch.int32}
    return tensor.detach().contiguous().view(kinds[tensor.element_size()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MAKERS)
def test_weights_outside_the_mask_keep_their_bits(name: str, dtype: torch.dtype) -> None:
    model = network(dtype)
    with torch.no_grad():  # values that arithmetic would not leave alone
        flat = model.get_parameter("3.weight").view(-1)
        flat[:4] = torch.tensor([-0.0, float("nan"), float("inf"), 1e-40])
    mask = half(model)
    keep = mask.dense("3.weight")
    keep.view(-1)[:4] = False
    mask = Mask(
        {
            **mask.bits,
            "3.weight": Mask.top({"w": keep.float()}, float(keep.float().mean())).bits["w"],
        },
        mask.shapes,
    )
    before = copy.deepcopy(model)
    optimizer = MaskedOptimizer(dict(model.named_parameters()), mask, MAKERS[name])
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=g).to(dtype)
        optimizer.step()
    moved = 0
    for (n, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        same = bits(p) == bits(q)
        assert same[~mask.dense(n)].all(), n
        moved += int((~same).sum())
    assert moved > 0.8 * mask.count


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_equals_the_plain_optimizer_on_masked_gradients(name: str) -> None:
    # Without weight decay a zero gradient moves nothing, so that the two must agree.
    makers: dict[str, Callable[[Params], torch.optim.Optimizer]] = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    }
    ours, plain = network(), network()
    mask = half(ours)
    optimizer = MaskedOptimizer(dict(ours.named_parameters()), mask, makers[name])
    reference = makers[name](list(plain.parameters()))
    for step in range(10):
        train(ours, optimizer, range(step, step + 1))
        torch.autograd.backward(loss(plain, step))
        for n, p in plain.named_parameters():
            assert p.grad is not None
            p.grad *= mask.dense(n)
        reference.step()
        reference.zero_grad()
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_two_steps_by_hand() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    mask = Mask.top({"w": torch.tensor([1.0, 0.0, 1.0])}, 0.7)
    optimizer = MaskedOptimizer(
        {"w": w}, mask, lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.5, weight_decay=0.25)
    )
    w.grad = torch.tensor([1.0, 1.0, 1.0])
    optimizer.step()
    # g = 1 + w/4: 1.25 and 1.75; w - g/2: 0.375 and 2.125.
    assert w.tolist() == [0.375, 2.0, 2.125]
    assert [p.grad for p in (w,)] == [None]  # used up
    w.grad = torch.tensor([1.0, 1.0, 1.0])
    optimizer.step()
    # v = v/2 + 1 + w/4: 1.71875 and 2.40625; w - v/2: -0.484375 and 0.921875.
    assert w.tolist() == [-0.484375, 2.0, 0.921875]


def test_updates_below_the_precision_of_bf16_add_up() -> None:
    w = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    mask = Mask.top({"w": torch.tensor([1.0, 0.0])}, 0.5)
    optimizer = MaskedOptimizer({"w": w}, mask, lambda p: torch.optim.SGD(p, lr=1e-3))
    for _ in range(10):
        w.grad = torch.ones(2, dtype=torch.bfloat16)
        optimizer.step()
    # 1 - 0.001 rounds back to 1 in bf16; ten of them make 0.99.
    assert w.tolist() == [float(torch.tensor(0.99, dtype=torch.bfloat16)), 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MAKERS)
def test_resuming_gives_the_same_bits(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    whole = network(dtype)
    mask = half(whole)
    optimizer = MaskedOptimizer(dict(whole.named_parameters()), mask, MAKERS[name])
    train(whole, optimizer, range(3))
    torch.save(optimizer.state_dict(), file)
    train(whole, optimizer, range(3, 6))

    resumed = network(dtype)
    again = MaskedOptimizer(dict(resumed.named_parameters()), mask, MAKERS[name])
    again.load_state_dict(torch.load(file, weights_only=True))
    train(resumed, again, range(3, 6))
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(bits(p), bits(q))


def test_layers_without_a_masked_weight_need_no_gradient() -> None:
    model = network()
    mask = Mask.full(dict(model[3].named_parameters(prefix="3")), model)  # type: ignore[index]
    optimizer = MaskedOptimizer(dict(model.named_parameters()), mask, MAKERS["adam"])
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    before = model.get_parameter("0.weight").clone()
    train(model, optimizer, range(2))
    assert torch.equal(before, model.get_parameter("0.weight"))


def test_state_has_the_size_of_the_masked_weights() -> None:
    model = network()
    mask = half(model, 0.25)
    optimizer = MaskedOptimizer(dict(model.named_parameters()), mask, MAKERS["adam"])
    train(model, optimizer, range(2))
    held = [t for s in optimizer.optimizer.state.values() for k, t in s.items() if k != "step"]
    held += [p for group in optimizer.optimizer.param_groups for p in group["params"]]
    # Two moments; no copy of the weights between steps.
    assert sum(t.numel() for t in held) == 2 * mask.count
    values = optimizer.state_dict()["values"]
    assert {n: len(v) for n, v in values.items()} == {n: c for n, c, _ in mask.per_layer() if c}


def test_a_parameter_without_a_gradient_stays() -> None:
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    mask = Mask.full({"a": a, "b": b})
    optimizer = MaskedOptimizer({"a": a, "b": b}, mask, MAKERS["adamw"])
    a.grad = torch.ones(3)
    optimizer.step()
    assert (a != 1).all() and (b == 1).all()


def test_channels_last_weights_are_masked_in_logical_order() -> None:
    plain, last = network(), network()
    last.to(memory_format=torch.channels_last)
    mask = half(plain)
    for model in (plain, last):
        optimizer = MaskedOptimizer(dict(model.named_parameters()), mask, MAKERS["adamw"])
        g = torch.Generator().manual_seed(0)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=g)
        optimizer.step()
    for p, q in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.equal(p, q)


@given(
    shape=st.lists(st.integers(1, 5), max_size=3),
    ratio=st.floats(0.2, 1),
    seed=st.integers(0, 1000),
)
def test_one_step_of_sgd_is_its_formula_inside_the_mask(
    shape: list[int], ratio: float, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    start, gradient, saliency = (torch.randn(*shape, 2, 3, generator=g) for _ in range(3))
    w = nn.Parameter(start.clone())
    mask = Mask.top({"w": saliency}, ratio)
    optimizer = MaskedOptimizer({"w": w}, mask, lambda p: torch.optim.SGD(p, lr=0.5))
    w.grad = gradient.clone()
    optimizer.step()
    # Halving is exact, so that the two round alike.
    assert torch.equal(w, torch.where(mask.dense("w"), start - 0.5 * gradient, start))


def test_masks_that_do_not_fit_are_refused() -> None:
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    both = Mask.full({"a": a, "b": b})
    with pytest.raises(UserError, match="moves 'b'"):
        MaskedOptimizer({"a": a}, both, MAKERS["adam"])
    with pytest.raises(UserError, match="no bits for 'a'"):
        MaskedOptimizer({"a": b, "b": b}, both, MAKERS["adam"])
    nothing = Mask.top({"a": torch.ones(3)}, 0.1)
    with pytest.raises(UserError, match="no weight move"):
        MaskedOptimizer({"a": a}, nothing, MAKERS["adam"])


def test_a_state_of_another_mask_is_refused() -> None:
    model = network()
    params = dict(model.named_parameters())
    state = MaskedOptimizer(params, half(model, 0.5), MAKERS["adam"]).state_dict()
    other = MaskedOptimizer(params, half(model, 0.25), MAKERS["adam"])
    with pytest.raises(UserError, match="another mask"):
        other.load_state_dict(state)


def test_gradients_are_taken_over_as_backward_finds_them() -> None:
    """Over several backwards they add up, and no whole gradient is left on the weights."""
    model, twin = network(), network()
    optimizer = MaskedOptimizer(dict(model.named_parameters()), half(model), MAKERS["sgd"])
    for step in range(2):
        torch.autograd.backward(loss(model, step))
        torch.autograd.backward(loss(twin, step))
        assert all(p.grad is None for p in model.parameters())
    optimizer.step()
    MAKERS["sgd"](list(twin.parameters())).step()
    mask = half(model)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        chosen = mask.dense(name)
        assert torch.equal(ours[chosen], theirs[chosen])
    optimizer.close()
    torch.autograd.backward(loss(model, 0))
    assert all(p.grad is not None for p in model.parameters())


def test_low_precision_weights_are_written_from_their_masters() -> None:
    """A bf16 copy is trained, yet what is saved is the base with the fp32 masters in it."""
    base = network()
    model, mask = copy.deepcopy(base).to(torch.bfloat16), half(base)
    state = dict(base.named_parameters())
    optimizer = MaskedOptimizer(dict(model.named_parameters()), mask, MAKERS["adam"], state)
    untouched = written(state, mask, optimizer.masters())
    assert all(torch.equal(untouched[name], value) for name, value in state.items())
    train(model, optimizer, range(3))
    found = written(state, mask, optimizer.masters())
    for name, value in found.items():
        chosen = mask.dense(name)
        assert value.dtype == torch.float32
        assert torch.equal(value[~chosen], state[name][~chosen])
        trained = model.get_parameter(name)
        assert torch.equal(value[chosen].to(torch.bfloat16), trained[chosen])
        assert not torch.equal(value[chosen], value[chosen].to(torch.bfloat16).float())
    assert not MaskedOptimizer(dict(base.named_parameters()), mask, MAKERS["adam"]).masters()


def test_eight_bit_moments() -> None:
    """bitsandbytes' Adam over the masked weights: a quarter of the memory, nearly the same path."""
    from bitsandbytes.optim import Adam8bit

    torch.manual_seed(0)
    models = [nn.Linear(256, 128, bias=False) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    mask = half(models[0])
    makers: list[Callable[[Params], torch.optim.Optimizer]] = [
        lambda p: torch.optim.Adam(p, lr=1e-3),
        lambda p: Adam8bit(p, lr=1e-3),
    ]
    before = models[0].weight.detach().clone()
    for model, make in zip(models, makers, strict=True):
        optimizer = MaskedOptimizer({"weight": model.weight}, mask, make)
        for step in range(20):
            x = torch.randn(8, 256, generator=torch.Generator().manual_seed(step))
            torch.autograd.backward(model(x).square().mean())
            optimizer.step()
    state = next(iter(optimizer.optimizer.state.values()))
    assert state["state1"].dtype == torch.uint8 and len(state["state1"]) == mask.count
    chosen = mask.dense("weight")
    full, eight = (m.weight.detach() for m in models)
    assert torch.equal(eight[~chosen], before[~chosen])
    apart, moved = (full - eight)[chosen].abs().mean(), (full - before)[chosen].abs().mean()
    assert float(apart) < 0.1 * float(moved)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_in_parts_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for part in (1 << 25, 100):
        monkeypatch.setattr("erase.unlearn.optimizer.PART", part)
        model = network()
        optimizer = MaskedOptimizer(dict(model.named_parameters()), half(model), MAKERS[name])
        train(model, optimizer, range(4))
        found.append(model.state_dict())
    assert all(torch.equal(found[1][n], value) for n, value in found[0].items())
