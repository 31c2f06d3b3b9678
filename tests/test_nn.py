"""pytest tests/test_nn.py: modules are walked, replaced, saved, loaded, switched; layers compute what PyTorch's do."""

import copy
import pickle
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

import minilora.functional as F
from minilora import Tensor, backend, nn
from minilora.errors import MiniloraError


def host(a) -> np.ndarray:
    return backend.to_numpy(a)


class Small(nn.Module):
    """The module of golden/make_nn.py."""

    def __init__(self):
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.layers = [nn.Linear(4, 4), nn.Linear(4, 3, bias=False)]

    def forward(self, ids):
        return self.layers[1](F.gelu(self.layers[0](self.norm(self.embed(ids)))))


class Zoo(nn.Module):
    """A module with every way to hold something."""

    def __init__(self):
        self.scale = nn.Parameter(np.ones(2, "float32"))
        self.layers = [nn.Linear(2, 2), Small()]
        self.pair = (nn.Linear(2, 2, bias=False), nn.Dropout(0.5))
        self.by_name = {"a": nn.Linear(2, 2), "b": nn.RMSNorm(2)}
        self.number, self.text, self.nothing, self.array = 3, "text", None, np.ones(2)
        self.late = None


GOLDEN = load_file(Path(__file__).parent / "golden" / "nn.safetensors")


def golden_state() -> dict[str, np.ndarray]:
    return {key.removeprefix("state."): a for key, a in GOLDEN.items() if key.startswith("state.")}


# Against PyTorch


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-9)])
def test_a_state_dict_of_pytorch_loads_and_computes_the_same(dtype, tolerance):
    model = Small()
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    model.load_state_dict(golden_state())
    out = model(GOLDEN["ids"])
    assert out.dtype == dtype
    np.testing.assert_allclose(out.numpy(), GOLDEN["out"], rtol=0, atol=tolerance / 10)
    out.backward(GOLDEN["flow"])
    for name, p in model.named_parameters():
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(host(p.grad), GOLDEN[f"grad.{name}"], rtol=tolerance, atol=tolerance, err_msg=name)


# Walking


def test_modules_and_parameters_are_walked_in_attributes_lists_and_dictionaries():
    zoo = Zoo()
    modules = """ layers.0 layers.1 layers.1.embed layers.1.norm layers.1.layers.0 layers.1.layers.1 pair.0 pair.1
        by_name.a by_name.b""".split()
    assert [name for name, _ in zoo.named_modules()] == ["", *modules]
    assert all(zoo.get_submodule(name) is module for name, module in zoo.named_modules())
    names = """scale layers.0.weight layers.0.bias layers.1.embed.weight layers.1.norm.weight layers.1.norm.bias
        layers.1.layers.0.weight layers.1.layers.0.bias layers.1.layers.1.weight pair.0.weight
        by_name.a.weight by_name.a.bias by_name.b.weight""".split()
    assert [name for name, _ in zoo.named_parameters()] == names == list(zoo.state_dict())
    assert [id(p) for p in zoo.parameters()] == [id(p) for _, p in zoo.named_parameters()]


def nested() -> nn.Module:
    model = nn.Module()
    model.grid = [[nn.Linear(2, 2)], ({"a": nn.RMSNorm(2)}, nn.Parameter(np.ones(2)))]
    model.experts = {"first": [nn.Linear(2, 2, bias=False)]}
    return model


def test_containers_in_containers_are_walked():
    model = nested()
    paths = ["grid.0.0", "grid.1.0.a", "experts.first.0"]
    assert [path for path, _ in model.named_modules()] == ["", *paths]
    names = ["grid.1.1", "grid.0.0.weight", "grid.0.0.bias", "grid.1.0.a.weight", "experts.first.0.weight"]
    assert [name for name, _ in model.named_parameters()] == names
    for path in paths:
        assert model.get_submodule(path) is dict(model.named_modules())[path]
        model.replace(path, new := nn.Dropout(0.5))
        assert model.get_submodule(path) is new
    state, model = {name: np.full(a.shape, 2.0) for name, a in nested().state_dict().items()}, nested()
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    assert all((p.numpy() == 2).all() and not p.requires_grad for p in model.parameters())
    assert not model.grid[0][0].training
    model = nested()
    model.load_stored(Stored.of(state))
    assert all((p.numpy() == 2).all() for p in model.parameters())


def with_a_buffer() -> nn.Module:
    model = nn.Module()
    model.layer = nn.Linear(2, 2, bias=False)
    model.frozen = nn.Parameter(np.ones(2), requires_grad=False)
    model.table = Tensor(np.arange(3))
    model.tables = [model.table]
    return model


def test_a_tensor_that_never_trained_is_a_buffer():
    """A buffer is saved and loaded, but is not a parameter; a frozen parameter stays one."""
    model = with_a_buffer()
    assert [name for name, _ in model.named_parameters()] == ["frozen", "layer.weight"]
    assert [name for name, tensor in model.named_tensors() if not tensor.is_parameter] == ["table", "tables.0"]
    assert list(model.state_dict()) == ["frozen", "table", "tables.0", "layer.weight"]
    model.requires_grad_(False)
    assert [name for name, _ in model.named_parameters()] == ["frozen", "layer.weight"]
    model.requires_grad_(True)
    assert model.frozen.requires_grad and not model.table.requires_grad
    state = with_a_buffer().state_dict() | {"table": np.array([7, 8, 9]), "tables.0": np.array([7, 8, 9])}
    model.load_state_dict(state)
    assert model.table.dtype == np.int64 and model.table.numpy().tolist() == [7, 8, 9]
    for twin in (copy.deepcopy(with_a_buffer()), pickle.loads(pickle.dumps(with_a_buffer()))):
        assert [name for name, tensor in twin.named_tensors() if not tensor.is_parameter] == ["table", "tables.0"]
        assert [p.requires_grad for p in twin.parameters()] == [False, True]


def tied() -> nn.Module:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    model.head.weight = model.embed.weight
    return model


def test_a_shared_parameter_is_listed_once():
    model = tied()
    assert [name for name, _ in model.named_parameters()] == ["embed.weight"]
    assert set(model.state_dict()) == {"embed.weight", "head.weight"}
    model.head(model.embed(np.array([0, 1]))).sum().backward()
    both = host(model.embed.weight.grad)
    model.head.weight = nn.Parameter(model.embed.weight.numpy())
    model.embed.weight.grad = None
    model.head(model.embed(np.array([0, 1]))).sum().backward()
    np.testing.assert_allclose(both, host(model.embed.weight.grad) + host(model.head.weight.grad), rtol=1e-6)


def test_a_shared_parameter_is_loaded_from_either_name_but_not_from_two_that_differ():
    """Otherwise the last of the two names would silently win."""
    new = np.arange(15.0).reshape(5, 3)
    for names in (["embed.weight"], ["head.weight"], ["embed.weight", "head.weight"]):
        model = tied()
        model.load_state_dict({name: new for name in names})
        assert model.head.weight is model.embed.weight
        np.testing.assert_array_equal(model.embed.weight.numpy(), new)
    with pytest.raises(MiniloraError, match=r"embed\.weight and head\.weight are the same parameter"):
        model.load_state_dict({"embed.weight": new + 1, "head.weight": new})
    np.testing.assert_array_equal(model.embed.weight.numpy(), new)


@pytest.mark.parametrize(
    "path",
    """nope layers.2 layers.x layers.-1 layers.0.weight layers by_name.c number text layers.0.weight.T forward layers..0
       .layers nothing array.T""".split(),
)
def test_get_submodule_says_what_is_missing(path):
    with pytest.raises(AttributeError, match="Zoo"):
        Zoo().get_submodule(path)


@pytest.mark.parametrize("path", ["layers.0", "layers.1.norm", "layers.1.layers.1", "by_name.b"])
def test_replace(path):
    zoo, new = Zoo(), nn.Dropout(0.25)
    others = {name: module for name, module in zoo.named_modules() if not f"{name}.".startswith(f"{path}.")}
    zoo.replace(path, new)
    assert zoo.get_submodule(path) is new
    assert all(zoo.get_submodule(name) is module for name, module in others.items())


@pytest.mark.parametrize("path", ["", "nope", "layers.7", "layers", "scale", "by_name.z"])
def test_replace_refuses_what_is_no_module(path):
    zoo = Zoo()
    before = set(vars(zoo))
    with pytest.raises((AttributeError, ValueError)):
        zoo.replace(path, nn.Linear(2, 2))
    assert set(vars(zoo)) == before and set(zoo.by_name) == {"a", "b"}


def test_a_missing_forward_and_attribute_are_named():
    with pytest.raises(NotImplementedError, match="Module"):
        nn.Module()(1)
    with pytest.raises(AttributeError, match="wieght"):
        _ = nn.Linear(2, 2).wieght


def test_repr_shows_the_tree():
    text = repr(Zoo())
    assert "(layers.1): Small(" in text and "Linear(4, 3, bias=False)" in text and "Dropout(p=0.5)" in text
    assert repr(nn.Embedding(3, 2)) == "Embedding(3, 2)" and repr(nn.RMSNorm(2)) == "RMSNorm(2, eps=1e-06)"


# State


@pytest.mark.parametrize(
    "kind",
    [lambda a: a, backend.asarray, Tensor, lambda a: a.T.copy().T, lambda a: a[::-1].copy()[::-1],
     lambda a: a.astype("float64")],
    ids=["numpy", "backend", "tensor", "transposed", "reversed", "float64"],
)  # fmt: skip
def test_loading_copies_any_kind_of_array_and_keeps_the_parameters_and_their_dtypes(kind):
    model = Small()
    parameters = list(model.parameters())
    state = {name: kind(a.copy()) for name, a in golden_state().items()}
    model.load_state_dict(state)
    (state["norm.weight"].data if kind is Tensor else state["norm.weight"])[...] = 99
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert all(p.dtype == np.float32 and p.requires_grad for p in parameters)
    assert all(backend.is_array(a) for a in model.state_dict().values())
    for name, a in golden_state().items():
        np.testing.assert_allclose(host(model.state_dict()[name]), a, rtol=1e-6)


def test_a_state_that_does_not_fit_is_refused_whole():
    """One message lists missing, unexpected and misshapen names, and no parameter changes."""
    model = Small()
    before = {name: host(a).copy() for name, a in model.state_dict().items()}
    state = golden_state()
    del state["norm.bias"], state["layers.0.weight"]
    state |= {"extra.weight": np.ones(2), "embed.weight": np.ones((7, 5))}
    words = (
        r"missing norm.bias, layers.0.weight; unexpected extra.weight; embed.weight has shape \(7, 5\), not \(7, 4\)"
    )
    with pytest.raises(MiniloraError, match=words):
        model.load_state_dict(state)
    with pytest.raises(ValueError):
        model.load_state_dict(golden_state() | {"layers.1.weight": np.full((3, 4), "x")})
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(host(a), before[name])


def test_loading_in_part():
    model = Small()
    before = host(model.embed.weight.data).copy()
    model.load_state_dict({"norm.bias": np.full(4, 7.0), "extra": np.ones(2)}, strict=False)
    np.testing.assert_array_equal(model.norm.bias.numpy(), 7)
    np.testing.assert_array_equal(model.embed.weight.numpy(), before)
    with pytest.raises(MiniloraError, match=r"norm\.weight has shape \(1,\)"):
        model.load_state_dict({"norm.bias": np.zeros(4), "norm.weight": np.ones(1)}, strict=False)
    np.testing.assert_array_equal(model.norm.bias.numpy(), 7)


# Switches


def test_train_and_eval_reach_everything():
    zoo = Zoo()
    assert all(module.training for _, module in zoo.named_modules())
    assert zoo.eval() is zoo
    assert not any(module.training for _, module in zoo.named_modules())
    assert zoo.layers[1].train() is zoo.layers[1]
    assert zoo.layers[1].norm.training and not zoo.layers[0].training
    assert all(module.training for _, module in zoo.train(True).named_modules())


def test_requires_grad_():
    zoo = Zoo()
    assert all(p.requires_grad for p in zoo.parameters())
    assert zoo.requires_grad_(False) is zoo
    assert not any(p.requires_grad for p in zoo.parameters())
    zoo.layers[1].norm.requires_grad_(True)
    trains = [name for name, p in zoo.named_parameters() if p.requires_grad]
    assert trains == ["layers.1.norm.weight", "layers.1.norm.bias"]


# Layers


def test_linear_starts_as_pytorchs():
    layer = nn.Linear(100, 400, rng=np.random.default_rng(1))
    for p in (layer.weight, layer.bias):
        a = p.numpy()
        assert np.abs(a).max() <= 0.1 and np.abs(a).max() > 0.099
        assert a.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1) and abs(a.mean()) < 0.01


@pytest.mark.parametrize("layer", [nn.Linear, nn.Embedding])
def test_layers_start_the_same_from_the_same_seed(layer):
    same = [layer(3, 2, rng=rng).weight.numpy() for rng in (1, np.int64(1), np.random.default_rng(1), 2)]
    assert [np.array_equal(same[0], other) for other in same] == [True, True, True, False]
    drawn = []
    for seed in (3, 3, 4):
        nn.manual_seed(seed)
        drawn.append([layer(3, 2).weight.numpy() for _ in range(2)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0][0] != drawn[2][0]).any() and (drawn[0][0] != drawn[0][1]).any()  # two layers of one shape differ


def test_from_arrays():
    weight, bias = np.arange(6, dtype="float32").reshape(2, 3), np.ones(2, "float32")
    layer = nn.Linear.from_arrays(backend.asarray(weight), backend.asarray(bias))
    assert (layer.in_features, layer.out_features) == (3, 2) and layer.weight.requires_grad and layer.bias.requires_grad
    np.testing.assert_array_equal(layer(Tensor([[1.0, 0, 0]])).numpy(), [[1, 4]])
    assert nn.Linear.from_arrays(backend.asarray(weight)).bias is nn.Linear(5, 3, bias=False).bias is None
    table = nn.Embedding.from_array(backend.asarray(weight))
    assert (table.num_embeddings, table.embedding_dim) == (2, 3) and table.weight.requires_grad
    table(np.array([[1, 0], [1, 1]])).sum().backward()
    np.testing.assert_array_equal(host(table.weight.grad), [[1] * 3, [3] * 3])


def test_norms():
    x = Tensor(np.random.default_rng(0).standard_normal((4, 5)).astype("float32"))
    for layer, plain in ((nn.LayerNorm(5, eps=3.0), F.layer_norm), (nn.RMSNorm(5, eps=3.0), F.rms_norm)):
        np.testing.assert_allclose(layer(x).numpy(), plain(x, eps=3.0).numpy(), rtol=1e-5, atol=1e-6)


def test_dropout_in_training_and_not():
    nn.manual_seed(0)
    layer, x = nn.Dropout(0.5), Tensor(np.ones(1000, "float32"))
    dropped = layer(x).numpy()
    assert set(np.unique(dropped)) == {0, 2} and 400 < (dropped == 0).sum() < 600
    for other in (layer, nn.Dropout(0.5)):
        assert (other(x).numpy() != dropped).any()  # a new draw each time, and of each layer
    nn.manual_seed(0)
    np.testing.assert_array_equal(nn.Dropout(0.5)(x).numpy(), dropped)
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), 1)
    np.testing.assert_array_equal(nn.Dropout(0.0)(x).numpy(), 1)
    for p in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="0 <= p < 1"):
            nn.Dropout(p)


def test_dropout_follows_its_seed_and_the_generator_that_is_set():
    x = Tensor(np.ones(100, "float32"))
    first, second, other = nn.Dropout(0.5, seed=1), nn.Dropout(0.5, seed=1), nn.Dropout(0.5, seed=2)
    for _ in range(2):
        a = first(x).numpy()
        np.testing.assert_array_equal(a, second(x).numpy())
        assert (a != other(x).numpy()).any()
    draws = []
    for layer in (first, other):
        with nn.dropout_rng(np.random.default_rng(7)):
            draws.append(layer(x).numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(first(x).numpy(), second(x).numpy())  # its own generator went on where it was


# Reading one by one


class Stored:
    """An array that is still in a file, and that counts its reads and the copies that are alive."""

    alive: ClassVar[set] = set()
    beside: ClassVar[set] = set()  # what was alive of one layer when another was read
    reads: ClassVar[list] = []

    def __init__(self, name, array):
        self.name, self.array, self.shape = name, array, array.shape

    @classmethod
    def of(cls, state: dict) -> dict:
        cls.alive.clear()
        cls.reads.clear()
        cls.beside.clear()
        return {name: cls(name, backend.to_numpy(array)) for name, array in state.items()}

    def read(self):
        copy = self.array.copy()
        Stored.reads.append(self.name)
        Stored.beside |= {other for other in Stored.alive if other.rpartition(".")[0] != self.name.rpartition(".")[0]}
        Stored.alive.add(self.name)
        weakref.finalize(copy, Stored.alive.discard, self.name)
        return copy


class Three(nn.Module):
    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.layers = [nn.Linear(3, 4, rng=rng), nn.Linear(4, 3, bias=False, rng=rng)]
        self.head = nn.Linear(3, 4, bias=False, rng=rng)


def test_load_stored_replaces_and_lets_go():
    model, calls = Three(0), []

    def each(path, module):
        calls.append((path, type(module)))
        if not isinstance(module, nn.Linear):
            return module
        np.testing.assert_array_equal(module.weight.numpy(), source[f"{path}.weight"].array)  # it is there already
        return nn.RMSNorm(2)

    source = Stored.of(Three(1).state_dict())
    model.load_stored(source, each)
    assert calls == [("", Three), ("layers.0", nn.Linear), ("layers.1", nn.Linear), ("head", nn.Linear)]
    assert [type(module) for _, module in model.named_modules()] == [Three, nn.RMSNorm, nn.RMSNorm, nn.RMSNorm]
    if backend.name == "numpy":
        assert not Stored.beside and not Stored.alive


@pytest.mark.parametrize("each", [None, lambda path, module: module])
def test_load_stored_says_all_that_is_wrong_before_it_reads(each):
    model = Three(0)
    state = Stored.of(model.state_dict())
    del state["layers.0.bias"]
    state["more"] = Stored("more", np.zeros(3))
    state["head.weight"] = Stored("head.weight", np.zeros((3, 4), dtype="float32"))
    with pytest.raises(MiniloraError) as error:
        model.load_stored(state, each)
    for words in ("missing layers.0.bias", "unexpected more", "head.weight has shape (3, 4), not (4, 3)"):
        assert words in str(error.value)
    assert Stored.reads == []


def test_load_stored_and_tied_parameters():
    model = Three(0)
    model.layers[0].weight = model.head.weight
    state = Stored.of(model.state_dict())
    state["head.weight"].array = state["layers.0.weight"].array = np.ones((4, 3), dtype="float32")
    model.load_stored(state)
    assert (model.head.weight.numpy() == 1).all() and model.layers[0].weight is model.head.weight
    for name in ("layers.0.weight", "head.weight"):  # one side will do
        model.head.weight.data = model.head.weight.data * 0
        model.load_stored({key: value for key, value in state.items() if key != name})
        assert (model.head.weight.numpy() == 1).all()
    state["head.weight"].array = np.full((4, 3), 2, dtype="float32")
    with pytest.raises(MiniloraError, match=r"layers\.0\.weight and head\.weight are the same parameter.*differ"):
        model.load_stored(state)
