"""Masks against plain numpy: packing, ranking, algebra, controls, files, and what is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from erase.runtime.errors import UserError
from erase.runtime.fingerprint import fingerprint
from erase.unlearn.mask import Mask, union, unpack, unpack_by_shifts

shapes = st.lists(
    st.lists(st.integers(1, 6), max_size=4).map(tuple) | st.just((0, 3)), min_size=1, max_size=6
).map(lambda found: {f"layer.{i}": s for i, s in enumerate(found)})


def values_of(
    layout: dict[str, tuple[int, ...]], seed: int, levels: int
) -> dict[str, NDArray[np.float32]]:
    """Magnitudes of few levels, so that many tie."""
    rng = np.random.default_rng(seed)
    return {n: rng.integers(0, levels, s).astype(np.float32) for n, s in layout.items()}


def flat(mask: Mask) -> NDArray[np.bool_]:
    return np.concatenate([mask.dense(n).reshape(-1).numpy() for n in mask.bits])


class Net(nn.Module):
    """A denoiser in miniature: one layer outside and one inside cross-attention."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Linear(5, 7)
        self.attn2 = nn.ModuleDict({k: nn.Linear(6, 6, bias=False) for k in ("to_q", "to_k")})


@given(layout=shapes, ratio=st.floats(0.001, 1), seed=st.integers(0, 99), levels=st.integers(1, 9))
def test_top_equals_one_stable_sort_over_all_weights(
    layout: dict[str, tuple[int, ...]], ratio: float, seed: int, levels: int
) -> None:
    saliency = values_of(layout, seed, levels)
    everything = np.concatenate([v.ravel() for v in saliency.values()])
    k = math.floor(Fraction(str(ratio)) * everything.size)
    expected = np.zeros(everything.size, bool)
    expected[np.argsort(-everything, kind="stable")[:k]] = True
    mask = Mask.top(saliency, ratio)
    np.testing.assert_array_equal(flat(mask), expected)
    assert mask.count == k and mask.size == everything.size
    start = 0
    for name, n in ((n, math.prod(s)) for n, s in layout.items()):
        packed = np.packbits(expected[start : start + n], bitorder="little")
        np.testing.assert_array_equal(mask.bits[name].numpy(), packed)
        assert mask.dense(name).shape == layout[name]
        start += n


@given(layout=shapes, seed=st.integers(0, 99), a=st.floats(0.01, 1), b=st.floats(0.01, 1))
def test_a_union_has_the_bits_of_any(
    layout: dict[str, tuple[int, ...]], seed: int, a: float, b: float
) -> None:
    x, y = (Mask.top(values_of(layout, seed + i, 50), r) for i, r in enumerate((a, b)))
    either = union(x, y)
    np.testing.assert_array_equal(flat(either), flat(x) | flat(y))
    np.testing.assert_array_equal(flat(union(y, x, x)), flat(either))


@given(layout=shapes, ratio=st.floats(0.01, 1), seed=st.integers(0, 2**40))
def test_random_control_has_the_same_count(
    layout: dict[str, tuple[int, ...]], ratio: float, seed: int
) -> None:
    mask = Mask.top(values_of(layout, 0, 5), ratio)
    control = mask.random(ratio, seed)
    assert control.count == mask.count
    np.testing.assert_array_equal(flat(control), flat(mask.random(ratio, seed)))


def test_random_draws_evenly_over_the_whole_scope_and_nowhere_else() -> None:
    net = Net()
    cross = {n: p.detach().abs() for n, p in net.named_parameters() if "attn2" in n}
    mask = Mask.top(cross, 0.25, net, {"scope": "xattn"})
    assert mask.size == 72 and mask.count == 18
    hits = np.zeros(sum(p.numel() for p in net.parameters()))
    for seed in range(400):
        hits += flat(mask.random(0.25, seed))
    assert not hits[: 5 * 7 + 7].any()
    # Binomial(400, 1/4): mean 100, standard deviation 8.7; 72 weights stay within five of them.
    assert np.abs(hits[5 * 7 + 7 :] - 100).max() < 5 * 8.7
    control = mask.random(0.25, 0)
    assert control.provenance["mask"] == "random"
    # Layers of one shape are drawn apart.
    assert not torch.equal(control.bits["attn2.to_q.weight"], control.bits["attn2.to_k.weight"])


def test_full_covers_its_parameters_and_no_others() -> None:
    net = Net()
    mask = Mask.full(dict(net.conv.named_parameters(prefix="conv")), net, {"scope": "noxattn"})
    assert list(mask.bits) == [n for n, _ in net.named_parameters()]
    assert mask.per_layer() == [("conv.weight", 35, 35), ("conv.bias", 7, 7)]
    assert mask.count == mask.size and not mask.dense("attn2.to_q.weight").any()


def test_per_layer_counts() -> None:
    mask = Mask.top({"a": torch.tensor([3.0, 0, 0]), "b": torch.tensor([[1.0], [2.0]])}, 0.6)
    assert mask.per_layer() == [("a", 1, 3), ("b", 2, 2)]


def test_signed_values_rank_by_magnitude_and_any_memory_layout_will_do() -> None:
    values = torch.tensor([[-3.0, 1.0], [0.5, -2.0]])
    expected = [[True, False], [False, True]]
    assert Mask.top({"w": values}, 0.5).dense("w").tolist() == expected
    transposed = values.t().contiguous().t()
    assert Mask.top({"w": transposed}, 0.5).dense("w").tolist() == expected


def test_combinations_know_their_scope() -> None:
    net = Net()

    def of(scope: str, *parts: str) -> Mask:
        chosen = {n: p for n, p in net.named_parameters() if any(x in n for x in parts)}
        return Mask.full(chosen, net, {"scope": scope})

    cross, keys, rest = of("xattn", "attn2"), of("xattn-kv", "to_k"), of("noxattn", "conv")
    assert union(cross, keys).names == cross.names
    assert keys.names and rest.names and union(keys, rest).names == keys.names | rest.names
    assert union(cross, rest).names is None  # all there are
    both = union(cross, cross).provenance
    assert both["scope"] == both["of"][1]["scope"] == "xattn"
    assert "scope" not in union(keys, rest).provenance


def test_file_keeps_the_contract(tmp_path: Path) -> None:
    net = Net()
    saliency = {n: p.detach() for n, p in net.named_parameters()}
    mask = Mask.top(saliency, 0.3, net, {"scope": "full", "concept": "café", "seed": 3})
    mask.save(tmp_path / "a" / "mask.safetensors")
    # Read with the library alone, as another tool would.
    with safe_open(tmp_path / "a" / "mask.safetensors", framework="np") as file:
        assert set(file.keys()) == set(saliency)
        layout = json.loads(file.metadata()["shapes"])
        assert json.loads(file.metadata()["provenance"])["concept"] == "café"
        for name in saliency:
            bits = np.unpackbits(file.get_tensor(name), bitorder="little")
            dense = bits[: math.prod(layout[name])].reshape(layout[name])
            np.testing.assert_array_equal(dense, mask.dense(name).numpy())
    again = Mask.load(tmp_path / "a" / "mask.safetensors")
    assert again.provenance == mask.provenance and again.shapes == mask.shapes
    assert list(again.bits) == list(mask.bits)
    again.check_fits(net)
    again.save(tmp_path / "b.safetensors")
    first = (tmp_path / "a" / "mask.safetensors").read_bytes()
    assert first == (tmp_path / "b.safetensors").read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["mask.safetensors"]


def test_scalars_and_empty_tensors_survive_a_file(tmp_path: Path) -> None:
    mask = Mask.top({"scalar": torch.tensor(2.0), "none": torch.empty(0, 4)}, 1.0)
    mask.save(tmp_path / "m.safetensors")
    again = Mask.load(tmp_path / "m.safetensors")
    assert again.count == 1 and again.dense("none").shape == (0, 4) and again.dense("scalar").item()


def test_another_model_is_refused() -> None:
    net = Net()
    params = dict(net.named_parameters())
    mask = Mask.full(params, net)
    mask.check_fits(net)
    mask.check_fits(net, fingerprint(net))
    with pytest.raises(UserError, match="other weights"):
        mask.check_fits(Net(1))
    with pytest.raises(UserError, match="other weights"):
        mask.check_fits(net, "0" * 64)
    with pytest.raises(UserError, match="at 'extra.weight'"):
        larger = Net()
        larger.extra = nn.Linear(1, 1)
        mask.check_fits(larger)
    with pytest.raises(UserError, match=r"at 'conv.weight'.*\(7, 5\).*\(2, 5\)"):
        other = Net()
        other.conv.weight = nn.Parameter(torch.zeros(2, 5))
        mask.check_fits(other)
    net.conv.weight.data[0, 0] += 1
    with pytest.raises(UserError, match="other weights"):
        mask.check_fits(net)


def test_masks_of_different_models_do_not_combine() -> None:
    one, other = (Mask.full(dict(n.named_parameters()), n) for n in (Net(0), Net(1)))
    with pytest.raises(UserError, match="different models"):
        union(one, other)
    a, b = Mask.top({"w": torch.ones(3)}, 1.0), Mask.top({"w": torch.ones(4)}, 1.0)
    with pytest.raises(UserError, match="at 'w'"):
        union(a, b)


def test_a_ratio_counts_as_it_is_written() -> None:
    """In binary, 0.29 · 100 comes out below 29."""
    saliency = {"w": torch.arange(100.0)}
    for percent in range(1, 101):
        mask = Mask.top(saliency, percent / 100)
        assert (mask.count, mask.random(percent / 100, 0).count) == (percent, percent)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_ratio_is_checked(ratio: float) -> None:
    with pytest.raises(UserError, match=r"not in \(0, 1\]"):
        Mask.top({"w": torch.ones(4)}, ratio)


def test_bad_saliency_is_refused() -> None:
    with pytest.raises(UserError, match="'b' is not finite"):
        Mask.top({"a": torch.ones(4), "b": torch.tensor([1.0, float("nan")])}, 0.5)
    with pytest.raises(UserError, match="give float32"):
        Mask.top({"w": torch.ones(4, dtype=torch.float64)}, 0.5)
    with pytest.raises(UserError, match="no weights 'w'"):
        Mask.top({"w": torch.ones(4)}, 0.5, Net())


def test_bad_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mask.safetensors"
    with pytest.raises(UserError, match="can't be read as a mask"):
        Mask.load(file)
    file.write_bytes(b"not safetensors at all")
    with pytest.raises(UserError, match="can't be read as a mask"):
        Mask.load(file)
    save_file({"w": torch.zeros(2, dtype=torch.uint8)}, file)
    with pytest.raises(UserError, match="can't be read as a mask"):
        Mask.load(file)

    def written(tensor: Tensor, layout: str) -> None:
        save_file({"w": tensor}, file, {"shapes": layout, "provenance": "{}"})

    written(torch.zeros(2, dtype=torch.uint8), '{"w": [17]}')
    with pytest.raises(UserError, match="don't fit its shape"):
        Mask.load(file)
    written(torch.full((2,), 255, dtype=torch.uint8), '{"w": [15]}')  # a bit beyond the end
    with pytest.raises(UserError, match="don't fit its shape"):
        Mask.load(file)
    written(torch.zeros(2, dtype=torch.uint8), '{"v": [16]}')
    with pytest.raises(UserError, match="can't be read as a mask"):
        Mask.load(file)
    with pytest.raises(UserError, match="can't be read as a mask"):
        Mask.load(tmp_path)


def test_unpacking_on_an_accelerator_gives_the_same() -> None:
    bits = torch.tensor([0b10110001, 0b00000110], dtype=torch.uint8)
    expected = [True, False, False, False, True, True, False, True, False, True, True]
    assert unpack(bits, (11,)).tolist() == expected
    assert unpack_by_shifts(bits).tolist() == expected + 5 * [False]
    assert unpack(bits.to("meta"), (11, 1)).shape == (11, 1)
