"""The assembled network: frozen backbone, hooks only while it runs, copies, threads, any number of classes and axes."""

import copy
import math
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.heads.losses import paper_loss
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import dynunet_spec
from SegWithUCore.network.weights import all_finite, load_state, unique_state
from SegWithUCore.util.errors import InputError

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Pyramid(nn.Module):
    """A backbone that is no DynUNet: BatchNorm, dropout, and taps below full resolution only."""

    def __init__(self, classes: int = 3, axes: int = 3) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.mode = {2: "bilinear", 3: "trilinear"}[axes]
        self.down = nn.Sequential(convolution(1, 6, 3, stride=2, padding=1), NORMS[axes](6), nn.ReLU())
        self.deeper = convolution(6, 8, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.last = convolution(8, classes, 1)
        self.never = convolution(8, 8, 1)
        self.vector = nn.Linear(8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.dropout(torch.relu(self.deeper(self.down(image))))
        features = features + self.vector(features.flatten(2).mean(2)).view(
            *features.shape[:2], *[1] * (image.ndim - 2)
        )
        return nn.functional.interpolate(self.last(features), image.shape[2:], mode=self.mode, align_corners=False)


def pyramid_network(classes: int = 3, axes: int = 3, aleatoric: bool = True, seed: int = 0) -> SegWithU:
    torch.manual_seed(seed)
    backbone = Pyramid(classes, axes)
    backbone(torch.randn(4, 1, *[16] * axes))  # BatchNorm's running figures away from 0 and 1
    example = torch.zeros(1, 1, *[16] * axes)
    return SegWithU(backbone, ["deeper", "last"], example, features=5, aleatoric=aleatoric).eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("aleatoric", [True, False])
def test_any_axes_classes_and_branches(axes: int, classes: int, aleatoric: bool) -> None:
    network = pyramid_network(classes, axes, aleatoric)
    image = noise(2, 1, *[19, 16, 13][:axes])  # not divisible by the pyramid's stride
    with torch.no_grad():
        logits, maps = network(image)
    assert logits.shape == (2, classes, *image.shape[2:])
    assert (maps.aleatoric is not None) == aleatoric
    for name in ("calibration", "ranking", "epistemic", "residual", "margin", "entropy", "ambiguity", "anchor"):
        tensor = getattr(maps, name)
        assert tensor.shape == (2, 1, *image.shape[2:]), name
        assert torch.isfinite(tensor).all(), name
    assert (maps.calibration >= 0).all()
    assert float(maps.ranking.std()) > 0


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 output channel, but must have 2 or more"):
        pyramid_network(classes=1)


def test_the_segmentation_is_the_backbones_own_bit_for_bit() -> None:
    network, image = pyramid_network(), noise(1, 1, 20, 16, 12)
    with torch.no_grad():
        assert torch.equal(network(image)[0], network.backbone(image))
        network.train()
        assert torch.equal(network(image)[0], network.backbone(image))


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("deepr", "no module 'deepr': choose one of down, down.0, .*, deeper, dropout, last"),
        ("nothing_like_it", "no module 'nothing_like_it': choose one of down"),
        ("never", "'never' does not run in a forward pass: choose another tap"),
        ("vector", "'vector' is not fed a feature map of 5 axes: choose another tap"),
    ],
)
def test_a_wrong_tap_is_one_clear_error_and_leaves_no_hook(tap: str, message: str) -> None:
    backbone = Pyramid()
    with pytest.raises(InputError, match=message):
        SegWithU(backbone, ["deeper", tap], torch.zeros(1, 1, 16, 16, 16))
    assert hooks(backbone) == 0


def test_a_module_called_by_keyword_only_is_a_clear_error() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv3d(1, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.last(input=image)
            return logits

    with pytest.raises(InputError, match="'last' is not fed a feature map of 5 axes"):
        SegWithU(Keyword(), ["last"], torch.zeros(1, 1, 8, 8, 8))


def test_hooks_exist_only_during_a_forward_pass() -> None:
    network, image = pyramid_network(), noise(1, 1, 16, 16, 16)
    counted: list[int] = []
    watch = network.backbone.deeper.register_forward_hook(lambda *_: counted.append(hooks(network.backbone)))
    assert hooks(network.backbone) == 1
    network(image)
    assert counted == [3]  # the watch and two taps
    assert hooks(network.backbone) == 1
    watch.remove()


def test_hooks_are_gone_after_an_exception() -> None:
    network = pyramid_network()

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    bomb = network.backbone.last.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        network(noise(1, 1, 16, 16, 16))
    bomb.remove()
    assert hooks(network.backbone) == 0


def trained_dynunet() -> nn.Module:
    """A DynUNet after one training step with deep supervision: it keeps tensors of its graph."""
    torch.manual_seed(0)
    spec = dynunet_spec(1, 3, [4, 8, 8, 8])
    backbone = build_backbone(type(spec)(spec.kind, {**spec.arguments, "deep_supervision_heads": 2}))
    output = backbone.train()(noise(2, 1, 16, 16, 16))
    output.square().mean().backward()
    return backbone


def dynunet_network() -> SegWithU:
    return SegWithU(
        trained_dynunet(), ["upsamples.1.conv_block", "output_block"], torch.zeros(1, 1, 16, 16, 16), features=4
    )


def test_a_copy_of_a_trained_dynunet_captures_its_own_features() -> None:
    network, image = dynunet_network().eval(), noise(1, 1, 16, 24, 16)
    network(image)
    other = copy.deepcopy(network)
    with torch.no_grad():
        before = network(image)
        assert torch.equal(before[1].ranking, other(image)[1].ranking)
        for parameter in other.backbone.parameters():
            parameter.mul_(0.5)
        changed = other(image)
        after = network(image)
    assert not torch.equal(changed[1].ranking, before[1].ranking)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1].ranking, before[1].ranking)


def test_sizes_off_the_stride_of_a_dynunet_do_not_pass_silently() -> None:
    network = dynunet_network()
    with pytest.raises((RuntimeError, InputError)):
        network(noise(1, 1, 16, 17, 16))
    assert hooks(network.backbone) == 0


@pytest.fixture
def one_thread() -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["pyramid", "dynunet"])
def test_two_heads_on_one_backbone_in_two_threads_equal_one_after_the_other(kind: str) -> None:
    first = pyramid_network() if kind == "pyramid" else dynunet_network().eval()
    taps = ["deeper", "down.1"] if kind == "pyramid" else ["upsamples.2.conv_block", "output_block"]
    second = SegWithU(first.backbone, taps, torch.zeros(1, 1, 16, 16, 16), features=3).eval()
    images = [noise(1, 1, 16, 16, 16, seed=seed) for seed in range(12)]
    jobs = {0: (first, images), 1: (second, images[::-1])}
    found: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def work(number: int) -> None:
        network, inputs = jobs[number]
        with torch.no_grad():
            for image in inputs:
                start.wait()
                found[number].append(network(image)[1].ranking)

    start = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(number,)) for number in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        for number, (network, inputs) in jobs.items():
            for image, ranking in zip(inputs, found[number], strict=True):
                assert torch.equal(network(image)[1].ranking, ranking)
    assert hooks(first.backbone) == 0


def head_steps(network: SegWithU, steps: int = 3) -> list[float]:
    """Train the head with the paper's losses; returns the losses."""
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    network.train()
    losses = []
    kind = network.head.scale.dtype
    labels = torch.randint(3, (2, 1, 16, 16, 16), generator=torch.Generator().manual_seed(5))
    for _ in range(steps):
        logits, maps = network(noise(2, 1, 16, 16, 16).to(kind))
        loss = paper_loss(logits, maps, labels, torch.ones_like(labels), torch.Generator().manual_seed(0)).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_head_training_leaves_the_backbone_in_eval_mode_and_bit_identical() -> None:
    network = pyramid_network()
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    losses = head_steps(network)
    assert losses[-1] < losses[0]
    assert network.training
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(p.requires_grad or p.grad is not None for p in network.backbone.parameters())


@pytest.mark.parametrize("aleatoric", [True, False])
def test_gradients_reach_every_parameter_of_fusion_and_head(aleatoric: bool) -> None:
    network = pyramid_network(aleatoric=aleatoric).double()
    head_steps(network, steps=1)
    for part in ("fusion", "head"):
        for name, parameter in getattr(network, part).named_parameters():
            assert parameter.grad is not None, name
            # The offset alone has none: every loss ignores a shift of the ranking map (METHOD.md 3.13).
            assert (float(parameter.grad.abs().max()) > 1e-9) == (name != "offset"), f"{part}.{name}"


def test_state_holds_each_tensor_once_and_loads_back() -> None:
    network = dynunet_network()
    state = unique_state(network.backbone)
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert len(state) < len(network.backbone.state_dict())  # DynUNet names its decoder twice
    assert {t.data_ptr() for t in state.values()} == {t.data_ptr() for t in network.backbone.state_dict().values()}
    other = trained_dynunet()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_state(other, state, "test")
    image = noise(1, 1, 16, 16, 16)
    assert torch.equal(other.eval()(image), network.backbone(image))
    assert all(name.startswith(("fusion.", "head.")) for name in network.head_state())
    assert not any(name.endswith("signs") for name in network.head_state())


def test_finite_numbers_whose_sum_overflows_are_finite() -> None:
    assert all_finite(torch.full((4,), 3e38))
    for bad in (math.nan, math.inf, -math.inf):
        assert not all_finite(torch.tensor([3e38, 3e38, bad]))
    assert not all_finite(torch.tensor([math.inf, -math.inf]))
