"""Metrics against identities, closed forms and reference implementations."""

from __future__ import annotations

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from small import RandomFeatures
from srlvae.metrics import features as features_module
from srlvae.metrics.bootstrap import bootstrap_interval, interval_about, resamples
from srlvae.metrics.features import FEATURES, Features, Inception, Lpips, load_features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import KernelDistance, kernel_distance, polynomial_kernel
from srlvae.metrics.pairwise import detail, detail_distance, feature_distance, psnr, ssim
from srlvae.metrics.projection import Projection, fit_projection, load_projection
from srlvae.metrics.shares import clustered_interval, student, wilson_interval


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def y(x) -> torch.Tensor:
    """The images with noise, the second with more."""
    noise = draws(*x.shape, seed=4).float() * torch.tensor([0.02, 0.2])[:, None, None, None]
    return (x + noise).clamp(0, 1)


# --- PSNR and SSIM


@pytest.mark.parametrize("step", [0.1, 1 / 255])
def test_psnr_of_a_constant_shift_is_its_closed_form(x, step):
    x = x * 0.9
    # Squares of float32 differences, rounded at 1e-7 of values near one.
    assert psnr(x, x + step).tolist() == pytest.approx([-20 * math.log10(step)] * 2, abs=1e-3)


def test_psnr_is_infinite_for_equal_images_and_symmetric(x, y):
    assert psnr(x, x).tolist() == [math.inf] * 2
    assert torch.equal(psnr(x, y), psnr(y, x))


def test_ssim_is_that_of_scikit_image(x, y):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    setting = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    theirs = [structural_similarity(a.numpy(), b.numpy(), **setting) for a, b in zip(x.double(), y.double(), strict=True)]
    # It truncates the Gaussian at 3.5 σ, which is 11 pixels, and leaves the border of 5 out. It computes in float64; variances
    # here are differences of float32 squares of about one, beside a constant of 9e-4.
    assert ssim(x, y).tolist() == pytest.approx(theirs, abs=1e-3)


def test_ssim_of_equal_images_is_one_and_it_is_symmetric(x, y):
    assert ssim(x, x).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)  # a quotient of equal float32 sums
    torch.testing.assert_close(ssim(x, y), ssim(y, x), rtol=0, atol=1e-6)  # the same sums in another order


def test_ssim_of_constant_images_is_its_closed_form():
    a, b = (torch.full((1, 3, 16, 16), value) for value in (0.2, 0.6))
    # The variances cancel to 1e-7 beside a constant of 9e-4.
    assert ssim(a, b).item() == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4), abs=1e-3)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match=r"\(10, 32\)"):
        ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_pair_is_judged_by_itself(metric, x, y):
    # Sums of float32 numbers in another order.
    torch.testing.assert_close(metric(x, y)[1:], metric(x[1:], y[1:]), rtol=1e-5, atol=1e-6)


# --- distances of features


def test_detail_falls_with_blur_rises_with_noise_and_its_distance_sees_both(x):
    draw = torch.Generator().manual_seed(0)
    grain = (x * 0.5 + 0.25 + 0.05 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(grain, 3, stride=1, padding=1, count_include_pad=False)
    noisy = grain + 0.1 * torch.randn(x.shape, generator=draw)
    sharp = detail(grain)
    assert sharp.shape == (len(x), x.shape[2] // 8, x.shape[3] // 8)
    assert (detail(blurred) < sharp).all() and (detail(noisy) > sharp).all()
    assert detail_distance(sharp, sharp).tolist() == [0.0] * len(x)
    assert (detail_distance(detail(blurred), sharp) > 0.1).all() and (detail_distance(detail(noisy), sharp) > 0.1).all()


def test_detail_is_not_moved_by_brightness_or_a_gentle_slope(x):
    ramp = torch.linspace(0, 0.2, x.shape[3]).expand_as(x)
    grain = 0.3 + 0.2 * x
    # A ramp has no fine part but at the border, where the blur's window is cut.
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(detail(grain + 0.1 + ramp, 4)[inner], detail(grain, 4)[inner], rtol=0, atol=1e-3)


def test_feature_distance_is_zero_for_equal_images_and_symmetric(x, y):
    features = RandomFeatures()
    a, b = features.columns(x), features.columns(y)
    assert feature_distance(a, a).tolist() == [0.0, 0.0]
    assert torch.equal(feature_distance(a, b), feature_distance(b, a))
    assert feature_distance(a, b)[1] > feature_distance(a, b)[0] > 0


def test_feature_distance_averages_over_space_and_sums_over_channels_and_stages():
    a = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2)]
    b = [torch.full((2, 3, 4, 4), 2.0), torch.full((2, 5, 2, 2), 3.0)]
    assert feature_distance(a, b).tolist() == [3 * 4.0 + 5 * 9.0] * 2


def test_feature_distance_refuses_different_numbers_of_stages(x):
    columns = RandomFeatures().columns(x)
    with pytest.raises(ValueError):
        feature_distance(columns, columns[:1])


# It asks torchvision for its backbone the old way.
@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning")
def test_columns_of_the_lpips_package_give_its_distance(x, y):
    lpips = pytest.importorskip("lpips")
    # Its learned weights on a random backbone: the trained one is a download.
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    features = Lpips("lpips-alex", network)
    with torch.no_grad():
        x, y = (nn.functional.interpolate(images, 64) for images in (x, y))
        ours, theirs = feature_distance(features.columns(x), features.columns(y)), network(x, y, normalize=True).flatten()
    # It multiplies squares by w, ours are squares of √w: float32 roundings, and another 1e-10 in the normalisation.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


# --- Fréchet distance


def whitened(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Vectors of mean zero whose sample covariance is the identity, exactly but for float64."""
    x = draws(n, d, seed=seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T


def frechet_by_square_root(x: torch.Tensor, y: torch.Tensor) -> float:
    """Heusel et al. 2017, eq. 6, as the reference implementation has it."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    shift = x.mean(0) - y.mean(0)
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(a @ b).real))


@pytest.mark.parametrize("n", [5, 50])
def test_the_frechet_distance_of_a_set_to_itself_is_zero(n):
    x = draws(n, 12)
    # float64 sums that cancel, of about 12.
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x[torch.randperm(n, generator=torch.Generator().manual_seed(0))]) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("n", [5, 50])
def test_the_frechet_distance_of_a_shift_is_its_square(n):
    x, shift = draws(n, 12), draws(12, seed=1)
    # float64 sums that cancel, of about 12.
    assert frechet_distance(x, x + shift) == pytest.approx(shift.square().sum().item(), abs=1e-10)


def test_the_frechet_distance_of_gaussians_with_commuting_covariances_is_its_closed_form():
    a, b = torch.linspace(0.5, 2, 8).double(), torch.linspace(3, 1, 8).double()
    x, y = whitened(60, 8, seed=1) * a, whitened(40, 8, seed=2) * b + 0.3
    # float64; whitening inverts a well-conditioned 8 x 8 matrix.
    assert frechet_distance(x, y) == pytest.approx(((a - b) ** 2).sum().item() + 8 * 0.09, abs=1e-9)


def test_the_frechet_distance_is_the_published_formula():
    x, y = draws(80, 10), draws(60, 10, seed=1) @ draws(10, 10, seed=2) + 1
    # float64; the square root of a well-conditioned 10 x 10 matrix.
    assert frechet_distance(x, y) == pytest.approx(frechet_by_square_root(x, y), rel=1e-8)


def test_the_frechet_distance_is_exact_with_fewer_images_than_dimensions():
    x, y = draws(6, 20), draws(9, 20, seed=1) * 2
    # tr (Σx Σy)^½ by the eigenvalues of Σx^½ Σy Σx^½; those that should be zero are 1e-15, their roots 3e-8.
    a, b = torch.cov(x.T), torch.cov(y.T)
    values, vectors = torch.linalg.eigh(a)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected.item(), abs=1e-5)


def test_the_frechet_distance_is_symmetric():
    x, y = draws(30, 10), draws(20, 10, seed=1) * 2
    # The same float64 sums in another order.
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance])
def test_a_set_of_one_is_refused(metric):
    with pytest.raises(ValueError, match="at least 2 vectors.*got 1 and 5"):
        metric(draws(1, 3), draws(5, 3))


def test_a_projection_keeps_the_directions_in_which_real_vectors_differ_most():
    # Of ten numbers, the third and the seventh vary most.
    scale = torch.full((10,), 0.1)
    scale[2], scale[6] = 3.0, 2.0
    x = draws(200, 10).float() * scale + 5
    found = fit_projection(x, 2)
    torch.testing.assert_close(found.directions.abs(), torch.eye(10)[[2, 6]], atol=0.1, rtol=0)
    torch.testing.assert_close(found(x).mean(0), torch.zeros(2).double(), atol=1e-4, rtol=0)
    # By hand: the variances of the coordinates are the two largest eigenvalues of the covariance.
    largest = torch.linalg.eigvalsh(torch.cov(x.double().T))[-2:].flip(0)
    torch.testing.assert_close(found(x).var(0), largest, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="32 directions need more vectors"):
        fit_projection(x)


def test_the_bundled_directions_are_orthonormal_and_of_the_network_that_they_name():
    found = load_projection("efficientnet-lite1")
    assert found and found.directions.shape == (32, 1280) and load_projection("efficientnet-lite0") is None
    torch.testing.assert_close(found.directions @ found.directions.T, torch.eye(32), atol=1e-5, rtol=0)


def test_few_directions_are_measured_well_by_few_images():
    # Two halves of one distribution: in all 200 numbers the distance is the noise of finite sets, in four it is small.
    x = draws(100, 200)
    few = Projection(torch.zeros(200), torch.eye(200)[:4])
    assert frechet_distance(x[:50], x[50:]) > 100 * frechet_distance(few(x[:50]), few(x[50:]))


# --- kernel distance


def test_the_kernel_distance_is_its_definition_by_loops():
    x, y = draws(7, 4).tolist(), draws(5, 4, seed=1).tolist()

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 4 + 1) ** 3

    def within(s):
        return np.mean([k(a, b) for a, b in itertools.permutations(s, 2)])

    expected = within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    # The same float64 sums in another order.
    assert kernel_distance(draws(7, 4), draws(5, 4, seed=1)) == pytest.approx(expected, rel=1e-10)


def test_the_kernel_is_that_of_kid():
    assert polynomial_kernel(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]])).item() == (14 / 2 + 1) ** 3


def test_the_kernel_distance_of_two_halves_is_zero_on_average():
    values = []
    for seed in range(200):
        x = draws(20, 6, seed=seed)
        values.append(kernel_distance(x[:10], x[10:]))
    # Unbiased: within four standard errors. The biased estimator would be off by more than ten.
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def test_the_kernel_distance_grows_with_a_shift_and_is_symmetric():
    x, y = draws(50, 6), draws(50, 6, seed=1)
    near, far = kernel_distance(x, y + 0.5), kernel_distance(x, y + 1)
    assert 0 < near < far
    # The same float64 sums in another order.
    assert kernel_distance(y + 1, x) == pytest.approx(far, rel=1e-10)


def test_the_kernel_distance_of_pairs_is_zero_on_average_where_both_of_a_pair_are_alike():
    values, groups = [], torch.arange(20)
    for seed in range(200):
        x = draws(20, 6, seed=seed)
        values.append(kernel_distance(x, x + 0.1 * draws(20, 6, seed=1000 + seed), (groups, groups)))
    # Unbiased up to the small noise; with the pairs themselves in the mean it would be off by more than a hundred.
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values)) + 0.05


def test_pairs_within_a_group_are_left_out_of_the_kernel_distance():
    x, y, groups = draws(4, 3), draws(4, 3, seed=1), torch.tensor([0, 0, 1, 1])
    k = polynomial_kernel

    def apart(a, b):
        return (k(a[:2].double(), b[2:].double()).mean() + k(a[2:].double(), b[:2].double()).mean()).item() / 2

    expected = apart(x, x) + apart(y, y) - 2 * apart(x, y)
    # The same float64 sums in another order.
    assert kernel_distance(x, y, (groups, groups)) == pytest.approx(expected, rel=1e-10)


def test_the_interval_of_a_kernel_distance_holds_it_and_shrinks_with_n():
    widths = []
    for n in (20, 200):
        x = draws(n, 4)
        y, groups = x + 1 + 0.3 * draws(n, 4, seed=1), torch.arange(n)
        distance = KernelDistance(x, y, (groups, groups))
        low, high = distance.interval(torch.Generator().manual_seed(0), draws=100)
        assert low < distance.value() < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


# --- bootstrap


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_for_many_values():
    values = draws(400)
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(0))
    error = 1.96 * values.std().item() / math.sqrt(400)
    # Quantiles of 2000 resamples: a standard error of 0.05 of the half-width.
    assert (high - low) / 2 == pytest.approx(error, rel=0.15)
    assert low < values.mean() < high


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    generator, covered = torch.Generator().manual_seed(0), 0
    for seed in range(200):
        low, high = bootstrap_interval(draws(40, seed=seed) + 5, generator, level=0.9, draws=400)
        covered += low <= 5 <= high
    # Binomial: 0.9 ± 0.02, and percentile intervals of 40 values fall a little short.
    assert 0.83 < covered / 200 < 0.97


def test_the_bootstrap_interval_contains_the_mean_and_shrinks_with_the_root_of_n():
    values = draws(25)
    few, many = (bootstrap_interval(v, torch.Generator().manual_seed(0)) for v in (values, values.repeat(16)))
    assert few[0] < values.mean() < few[1] and many[0] < values.mean() < many[1]
    # Sixteen times the same values: a quarter of the width, each known to 5 % from 2000 resamples.
    assert (many[1] - many[0]) / (few[1] - few[0]) == pytest.approx(1 / 4, rel=0.15)


def test_the_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval(torch.full((5,), 2.0), torch.Generator().manual_seed(0)) == (2.0, 2.0)


def test_values_of_a_group_are_drawn_together():
    values = draws(40)
    groups = torch.arange(40).repeat_interleave(4)
    alone, together, apart = (
        bootstrap_interval(v, torch.Generator().manual_seed(0), groups=g)
        for v, g in ((values, None), (values.repeat_interleave(4), groups), (values.repeat_interleave(4), None))
    )
    # Four copies of a value say no more than one, to rounding of float64 sums.
    assert together == pytest.approx(alone, rel=1e-9)
    assert apart[1] - apart[0] < 0.6 * (together[1] - together[0])


def test_resamples_take_groups_as_wholes():
    groups = torch.tensor([4, 4, 7, 9, 7, 9, 9])
    picks = [torch.bincount(pick, minlength=7) for pick in resamples(groups, 50, torch.Generator().manual_seed(0))]
    for times in picks:
        of_groups = [times[groups == group] for group in (4, 7, 9)]
        assert all((own == own[0]).all() for own in of_groups) and sum(int(own[0]) for own in of_groups) == 3
    assert len({tuple(times.tolist()) for times in picks}) > 5


def test_the_interval_of_a_biased_statistic_lies_about_the_statistic():
    # Resamples from 0 to 100 about a mean of 50, of a statistic that is 10.
    assert interval_about(10.0, [float(i) for i in range(101)]) == pytest.approx((10 - 47.5, 10 + 47.5))


def test_a_lower_level_is_a_narrower_interval():
    narrow, wide = (bootstrap_interval(draws(30), torch.Generator().manual_seed(0), level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


# --- networks


def test_an_unknown_network_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown feature network 'vgg'.*lpips-vgg"):
        load_features("vgg")


@pytest.mark.parametrize(
    ("name", "extra"),
    [("efficientnet-lite0", "features"), ("lpips-alex", "lpips"), ("lpips-vgg", "lpips"), ("inception", "inception")],
)
def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch, name, extra):
    def nothing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'srlvae\[{extra}\]'"):
        load_features(name)


def test_a_network_says_what_it_does_not_give(x):
    class Nothing(Features):
        name = "nothing"

    for method in ("columns", "pooled"):
        with pytest.raises(NotImplementedError, match="nothing gives no"):
            getattr(Nothing(), method)(x)


def test_inception_sees_rounded_8_bit_levels():
    class Seen(nn.Module):
        def forward(self, images):
            assert images.dtype == torch.uint8
            return (images.float().flatten(1),)

    x = torch.tensor([0.0, 99.6 / 255, 1.0]).reshape(1, 3, 1, 1)
    assert Inception(Seen()).pooled(x).tolist() == [[0, 100, 255]]


@pytest.fixture(scope="module")
def lite() -> Features:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `features` is not installed")
    return load_features("efficientnet-lite0")


@pytest.fixture
def photographs(x) -> torch.Tensor:
    return nn.functional.interpolate(x, 64, mode="bilinear")


def test_every_network_has_a_name_to_load_it_by():
    assert {"efficientnet-lite0", "efficientnet-lite1", "lpips-alex", "lpips-vgg", "inception"} <= set(FEATURES)


def test_efficientnet_is_frozen_and_gives_unit_columns_at_five_strides(lite, photographs):
    assert lite.name == "efficientnet-lite0" and not lite.training
    assert not any(p.requires_grad for p in lite.parameters())
    columns = lite.columns(photographs)
    assert [c.shape[-1] for c in columns] == [32, 16, 8, 4, 2]
    for column in columns:
        # Norms of up to 320 float32 numbers.
        torch.testing.assert_close(column.norm(dim=1), torch.ones_like(column[:, 0]), rtol=1e-5, atol=0)


def test_efficientnet_is_differentiable_with_respect_to_images(lite, photographs):
    images = photographs.clone().requires_grad_()
    distance = feature_distance(lite.columns(images), lite.columns(1 - photographs))
    for value in (distance.sum(), lite.pooled(images).sum()):
        (gradient,) = torch.autograd.grad(value, images)
        assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()


def test_efficientnet_sees_an_image_alone_as_in_a_batch(lite, photographs):
    # Convolutions may sum in another order for another batch size: float32 roundings over some fifty layers.
    torch.testing.assert_close(lite.pooled(photographs)[1:], lite.pooled(photographs[1:]), rtol=1e-3, atol=1e-4)
    for together, alone in zip(lite.columns(photographs), lite.columns(photographs[1:]), strict=True):
        torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4)


def test_weights_that_are_not_the_published_ones_are_refused(lite, monkeypatch):
    monkeypatch.setitem(features_module.LITE_SHA256, "efficientnet-lite0", "0" * 64)
    with pytest.raises(ValueError, match="not the published weights of efficientnet-lite0"):
        load_features("efficientnet-lite0")


# --- shares


def test_wilson_s_interval_is_the_shares_whose_own_spread_reaches_the_found_one():
    for share, n in ((0.0, 10), (0.3, 10), (0.5, 432), (1.0, 32)):
        for end in wilson_interval(share, n):
            # (share − p)² = z² p (1 − p) / n at both ends, but where an end is cut to 0 or 1.
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, abs=1e-12)


def test_student_s_quantiles_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    # The table has three digits; beyond it there is an expansion.
    for freedom in [*range(1, 21), 30, 60, 1000]:
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4 if freedom <= 20 else 8e-3)


def test_clusters_that_vary_like_images_count_as_images_and_never_as_more():
    # Four clusters of equal shares do not vary: still no more is known than of 40 images, by 3 degrees of freedom.
    assert clustered_interval([[0.5] * 4], 40) == wilson_interval(0.5, 40, student(3))
    assert clustered_interval([[0.5]], 40) == wilson_interval(0.5, 40)
    # Clusters of zeros and ones alone are worth no more than their number, less one for their mean.
    assert clustered_interval([[0.0, 1.0, 0.0, 1.0]], 40) == pytest.approx(wilson_interval(0.5, 3, student(3)))
    # What differs between strata does not widen the interval.
    # Of one cluster nobody knows how it varies: as much as those of the others.
    varied = 0.01 * (1 / 3 + 1) / 4
    assert clustered_interval([[0.4, 0.5, 0.6], [0.5]], 10**6) == pytest.approx(wilson_interval(0.5, 0.25 / varied, student(2)))
    # Of two strata of two clusters each: a half of the variance for the mean of a stratum, and a half again for that of two.
    expected = wilson_interval(0.5, 0.25 / (0.005 / 2 / 2), student(2))
    assert clustered_interval([[0.1, 0.2], [0.8, 0.9]], 10**6) == pytest.approx(expected)
