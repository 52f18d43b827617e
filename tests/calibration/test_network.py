"""Parts of a model become spiking, each by what it receives while the whole model runs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    LCP,
    SpikingModel,
    calibrate,
    conversion_report,
    convert,
    load_converted,
    save_converted,
)
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from tests.calibration.support import same_bits

PIPELINE = LCP(4)
BATCHES = list(torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0)).split(6))
SIZES = [torch.rand(3, 8 + 2 * (i % 2), 8, generator=torch.Generator().manual_seed(i)) for i in range(6)]
HEAD = "head.layers"


class Two(nn.Module):
    """A stem, a body that adapts to sizes, and a head whose activation is the model's last."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
            self.head = nn.ModuleDict(
                {"layers": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), "idle": nn.ReLU()}
            )
        self.noise, self.calls = nn.Dropout(0.5), 0

    def features(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.stem(self.noise(x) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head["layers"](self.body(self.features(x)).mean((2, 3))).softmax(1)


class Detector(Two):
    """Takes a list of images of any size, one by one, and gives a list."""

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        if isinstance(images, Tensor):
            raise TypeError("images must be a list")
        return [super(Detector, self).forward(image[None])[0] for image in images]


class Sum(Two):
    """Takes two arguments."""

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return super().forward(one + two)


def spiking(model: nn.Module, batches, network="body", **settings):
    return calibrate(model, batches, PIPELINE, network=network, progress=False, **settings)


def by_hand(part: nn.Module, received: list[Tensor]) -> SpikingModel:
    return calibrate(part, received, PIPELINE, progress=False)


@torch.no_grad()
def into_body(batches: list[Tensor]) -> list[Tensor]:
    model = Two().eval()
    return [model.features(x) for x in batches]


def test_a_part_is_calibrated_on_what_it_receives_and_the_rest_stays():
    ann = Two().train()
    before = copy.deepcopy(ann.state_dict())
    model = spiking(ann, BATCHES)
    assert same_bits(model.body, by_hand(ann.body, into_body(BATCHES)))
    assert model.body.status == "calibrated"
    with torch.no_grad():
        rates = model.body(into_body(BATCHES)[0])
        torch.testing.assert_close(model(BATCHES[0]), ann.head["layers"](rates.mean((2, 3))).softmax(1))
    # The copy has not been run, and the ANN is as it was.
    assert (model.calls, model.training, ann.calls, ann.training) == (1, False, 0, True)
    assert isinstance(ann.body, nn.Sequential)
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())


def one(model, batch):
    return model(batch["image"])


def two(model, batch):
    return model(*batch["pair"])


@pytest.mark.parametrize(
    ("cls", "form", "call"),
    [
        (Two, lambda x: (x, "labels"), None),
        (Two, lambda x: [x, torch.zeros(6)], None),
        (Two, lambda x: {"image": x}, one),
        (Sum, lambda x: {"pair": (x, torch.zeros(1))}, two),
    ],
    ids=["tuple", "list", "dict", "two arguments"],
)
def test_forms_of_batches(cls, form, call):
    model = spiking(cls(), [form(x) for x in BATCHES], call=call)
    assert same_bits(model.body, by_hand(Two().body, into_body(BATCHES)))


@pytest.mark.parametrize(
    "batches",
    [[SIZES[:5], SIZES[5:]], [(SIZES[:5], "labels"), (tuple(SIZES[5:]), "labels")]],
    ids=["images", "images and labels"],
)
def test_lists_of_images_of_several_sizes_and_all_calls(batches):
    model = spiking(Detector(), batches)
    assert same_bits(model.body, by_hand(Two().body, into_body([image[None] for image in SIZES])))
    assert len(model(SIZES)) == 6


def test_a_list_that_a_loader_has_made_of_signals_is_no_list_of_images():
    ann, signals = (
        nn.Sequential(nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU()), nn.Flatten()),
        torch.rand(5, 2, 9),
    )
    assert same_bits(spiking(ann, [[signals]], "0")[0], by_hand(ann[0], [signals]))


@pytest.mark.parametrize("once", [False, True])
def test_parts_are_converted_in_the_order_in_which_data_meets_them(once):
    model = spiking(Two(), iter(BATCHES) if once else BATCHES, (HEAD, "body"))
    assert same_bits(model.body, by_hand(Two().body, into_body(BATCHES)))
    received = [model.body(x).mean((2, 3)) for x in into_body(BATCHES)]
    assert same_bits(model.head["layers"], by_hand(Two().head["layers"], received))
    assert isinstance(model.stem, nn.Conv2d)


def test_a_part_with_two_names():
    ann = Two()
    ann.same = ann.body
    model = spiking(ann, BATCHES)
    assert model.same is model.body
    assert isinstance(model.same, SpikingModel)


def test_a_compiled_model_and_one_in_inference_mode():
    ann = torch.compile(Two(), backend="eager")
    with torch.inference_mode():
        model = spiking(ann, BATCHES)
    assert same_bits(model.body, by_hand(Two().body, into_body(BATCHES)))


def test_the_random_stream_stays_where_it_was():
    before = torch.get_rng_state()
    spiking(Two(), BATCHES, ("body", HEAD))
    assert torch.equal(torch.get_rng_state(), before)


def test_finished_parts_are_kept_until_all_are(tmp_path):
    with pytest.raises(ConversionError, match=r"In 'head\.layers\.0': .*no activation"):
        spiking(Two(), BATCHES, ("body", "head.layers.0"), partial=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    spiking(Two(), BATCHES, ("body", HEAD), partial=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_snn_inside_is_saved_and_loaded(tmp_path):
    snn = spiking(Detector(), [SIZES], HEAD).get_submodule(HEAD)
    save_converted(snn, tmp_path / "snn.ckpt")
    x = torch.rand(3, 6)
    assert torch.equal(load_converted(tmp_path / "snn.ckpt")(x), snn(x))


def test_convert_takes_the_thresholds_of_all_calls():
    model = convert(Detector(), SIZES, 4, network="body", rounding="bias")
    expected = torch.stack(
        [Two().body[:2](x).detach().amax((0, 2, 3)) for x in into_body([i[None] for i in SIZES])]
    )
    snn = model.body
    assert (snn.timesteps, snn.status, snn.conversion.rounding) == (4, "uncalibrated", "bias")
    torch.testing.assert_close(next(iter(snn.neurons.values())).v_th, expected.amax(0))
    both = convert(Two(), (BATCHES[0], "labels"), 4, network=("body", HEAD))
    assert isinstance(both.get_submodule(HEAD), SpikingModel)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_report_is_about_the_part(device):
    ann = Two().to(device)
    report = conversion_report(ann, BATCHES[0].to(device), network="body")
    assert report == conversion_report(ann.body, torch.rand(6, 4, 8, 8).to(device))
    assert ann.calls == 0
    with pytest.raises(SettingsError, match=r"A report is about one part: .*network='body'\), then"):
        conversion_report(ann, BATCHES[0], network=("body", HEAD))


class Odd(Two):
    """Calls its parts in ways that a spiking network can't take."""

    def __init__(self, *way: object) -> None:
        super().__init__()
        self.way, self.pair = way, nn.Bilinear(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        match self.way:
            case ("two",):
                return self.pair(x.mean((2, 3)), x.mean((2, 3)))
            case ("list",):
                return self.body([x])
            case ("keyword",):
                return self.body(input=self.stem(x))
            case ("parts",):
                return self.body[1](self.body[0](self.stem(x)))
        raise ValueError("no way")


@pytest.mark.parametrize(
    ("model", "network", "error", "message"),
    [
        (Two(), "bdy", SettingsError, r"unknown network \(a part of Two\): 'bdy'; did you mean 'body'\?"),
        (Two(), "head.laers", SettingsError, r"did you mean 'head\.layers'\?"),
        (Two(), ("body", "tail"), SettingsError, "part of Two.*: 'tail'; There is: body, body.0"),
        (Two(), "", SettingsError, "qualified name of a part .* got ''; leave it out to convert the whole"),
        (Two(), (), SettingsError, r"got \(\)"),
        (Two(), 3, SettingsError, "got 3"),
        (Two(), ("body", 3), SettingsError, r"got \('body', 3\)"),
        (Two(), ("body", "body.1"), SettingsError, "names 'body' and 'body.1', and one of them is"),
        (Two(), (HEAD, "head"), SettingsError, "names 'head' and 'head.layers', and one"),
        (Two(), ("body", "body"), SettingsError, "name each part once"),
        (Two(), "head.idle", CalibrationError, "Two never calls 'head.idle' on these batches: name"),
        (Two(), ("body", "head.idle"), CalibrationError, "Two never calls 'head.idle'"),
        (Odd("parts"), "body", CalibrationError, "never calls 'body' .* not one whose parts it calls"),
        (Odd("two"), "pair", CalibrationError, r"called with \(Tensor, Tensor\), and .* takes one tensor"),
        (Odd("list"), "body", CalibrationError, r"called with \(list\), and .* takes one tensor"),
        (Odd("keyword"), "body", CalibrationError, r"called with \(input=Tensor\), and .* by position"),
        (Two(), "stem", ConversionError, "In 'stem': .*no activation"),
        (Odd(), "body", CalibrationError, r"Odd can't be run on a batch, a Tensor \(ValueError: no way\)"),
    ],
)  # fmt: skip
def test_parts_that_do_not_convert(model, network, error, message):
    with pytest.raises(error, match=message):
        spiking(model, BATCHES, network)
    with pytest.raises(error, match=message):
        convert(model, BATCHES[0], 4, network=network)
    if isinstance(network, str) and error is not ConversionError:
        with pytest.raises(error, match=message):
            conversion_report(model, BATCHES[0], network=network)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            {"image": BATCHES[0]},
            r"run on a batch, a dict\. .* call=lambda model, batch: model\(batch\['image'\]\)",
        ),
        (("label", BATCHES[0]), "a tuple"),
        ([], "a list"),
        (BATCHES[0] * float("nan"), "images have NaN or infinite values"),
        (BATCHES[0][:0], "calibration set is empty"),
    ],
)
def test_batches_that_do_not_fit(batch, message):
    with pytest.raises(CalibrationError, match=message):
        spiking(Two(), [batch])


@pytest.mark.parametrize(("loader", "message"), [([], "set is empty"), (BATCHES[0], "loader is a tensor")])
@pytest.mark.parametrize("network", ["body", ("body", HEAD)])
def test_loaders_without_batches(loader, network, message):
    with pytest.raises(CalibrationError, match=message):
        spiking(Two(), loader, network)


def test_call_without_a_part_and_no_function():
    with pytest.raises(
        SettingsError, match="call says how the model around a part is run: it needs network="
    ):
        spiking(Two(), BATCHES, None, call=print)
    with pytest.raises(SettingsError, match="call must be a function of the model and a batch, got 'image'"):
        spiking(Two(), BATCHES, call="image")


def test_a_part_that_spikes_already():
    with pytest.raises(SettingsError, match="'body' of Two holds a spiking network already"):
        spiking(spiking(Two(), BATCHES), BATCHES)


def test_a_model_that_treats_the_snn_in_another_way():
    class Choosy(Two):
        def features(self, x):
            return super().features(x if isinstance(self.body, nn.Sequential) else x / 2)

    with pytest.warns(UserWarning, match="'body' receives something else than the ANN did"):
        spiking(Choosy(), BATCHES)
