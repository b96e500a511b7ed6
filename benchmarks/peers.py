"""Other tools that compute what pruneviz measures, each behind a call that `measuring` can time.

- The procedure of the published code of Lubana and Dick (ICLR 2021), rewritten from its
  description: the gradient by mini-batches of the training loader; then, at T = 200 and again at
  T = 1, one mini-batch per class for g and once more for Hg; sums over filters in Python loops.
- A checkout of that code, if its estimators can be imported.
- Hessian-vector products of PyHessian and curvlinops.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.subjects import Batches, Subject

Columns = dict[str, dict[str, Tensor]]  # layer -> column -> one number per filter
Vector = list[Tensor]
Product = Callable[[Vector], Vector]

# Columns of a snapshot that the published code computes as well. It has no standard errors, no
# g_norm2 and no facts of the whole network.
PUBLISHED_COLUMNS = (
    "theta_norm2",
    "theta_l1",
    "theta_g",
    "abs_theta_g",
    "theta2_abs_g",
    "theta_hg",
    "theta_hg_t200",
    "sigma",
)
LOADER_BATCH = 128


def published_columns(model: nn.Module, batches: Batches, class_batches: Batches) -> Columns:
    """`PUBLISHED_COLUMNS` of every convolution by the published procedure; a norm follows each."""
    model.eval()
    g = _gradient(model, batches)
    hg = _hessian_gradient(model, class_batches, 1.0)
    hg_t200 = _hessian_gradient(model, class_batches, 200.0)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    scales = iter([norm.weight.detach() for norm in norms])
    columns: Columns = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            at = f"{name}.weight"
            theta = module.weight.detach()
            columns[name] = {
                "theta_norm2": theta.flatten(1).norm(2, 1).square(),
                "theta_l1": theta.flatten(1).norm(1, 1),
                "theta_g": (theta * g[at]).flatten(1).sum(1),
                "abs_theta_g": (theta * g[at]).flatten(1).abs().sum(1),
                "theta2_abs_g": (theta.square() * g[at]).flatten(1).abs().sum(1),
                "theta_hg": (theta * hg[at]).flatten(1).sum(1),
                "theta_hg_t200": (theta * hg_t200[at]).flatten(1).sum(1),
                "sigma": next(scales),
            }
    return columns


def _gradient(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    """Gradient of the mean loss, from mini-batches weighted by their size."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for x, y in batches:
        g = torch.autograd.grad(F.cross_entropy(model(x), y), list(parameters.values()))
        total = {
            name: total[name] + part * len(x) for name, part in zip(parameters, g, strict=True)
        }
    return {name: t / sum(len(x) for x, _ in batches) for name, t in total.items()}


def _hessian_gradient(
    model: nn.Module, class_batches: Batches, temperature: float
) -> dict[str, Tensor]:
    """Hg of the mean loss over classes at a temperature: g in a first pass, Hg in a second."""
    parameters = dict(model.named_parameters())
    g = [torch.zeros_like(p) for p in parameters.values()]
    for x, y in class_batches:
        part = torch.autograd.grad(
            F.cross_entropy(model(x) / temperature, y), list(parameters.values())
        )
        g = [total + of_class for total, of_class in zip(g, part, strict=True)]
    g = [total / len(class_batches) for total in g]
    hg = [torch.zeros_like(p) for p in parameters.values()]
    for x, y in class_batches:
        part = torch.autograd.grad(
            F.cross_entropy(model(x) / temperature, y), list(parameters.values()), create_graph=True
        )
        along = sum((total * of_class).sum() for total, of_class in zip(g, part, strict=True))
        second = torch.autograd.grad(along, list(parameters.values()))
        hg = [total + of_class for total, of_class in zip(hg, second, strict=True)]
    return {name: total / len(class_batches) for name, total in zip(parameters, hg, strict=True)}


class _Augmented(Dataset[tuple[Tensor, int]]):
    """Images as the published code's loader yields them: augmented and normalised one by one."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images = images.permute(0, 2, 3, 1).numpy()
        self._labels = labels.tolist()
        steps = [
            transforms.RandomCrop(images.shape[-1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        self._change = transforms.Compose([*steps, transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self._change(Image.fromarray(self._images[at])), self._labels[at]


def published_loader(subject: Subject) -> DataLoader[tuple[Tensor, int]]:
    """The published code's loader over all training images of the sample's classes."""
    labels = subject.data.train_labels.cpu()
    own = torch.isin(labels, subject.labels.unique().cpu())
    return DataLoader(
        _Augmented(subject.data.train_images.cpu()[own], labels[own]),
        batch_size=LOADER_BATCH,
        shuffle=True,
        num_workers=2,
    )


def published_columns_from(loader: Iterable[tuple[Tensor, Tensor]], subject: Subject) -> Columns:
    """`published_columns` with images from the loader: once for g and once more for each Hg."""
    device, classes = subject.images.device, len(subject.labels.unique())
    wanted, batches = len(subject.images), []
    for x, y in loader:
        batches.append((x.to(device), y.to(device)))
        if sum(len(part) for part, _ in batches) >= wanted:
            break
    _fill_classes(loader, classes, wanted // classes)  # once for each temperature
    filled = _fill_classes(loader, classes, wanted // classes)
    by_class = [(x.to(device), y.to(device)) for x, y in filled]
    return published_columns(subject.model, batches, by_class)


def _fill_classes(loader: Iterable[tuple[Tensor, Tensor]], classes: int, per_class: int) -> Batches:
    found: dict[int, list[Tensor]] = {}
    for images, labels in loader:
        for x, y in zip(images, labels, strict=True):
            own = found.setdefault(int(y), [])
            if len(own) < per_class:
                own.append(x)
        if len(found) == classes and all(len(own) == per_class for own in found.values()):
            break
    return [
        (torch.stack(own), torch.full((len(own),), label)) for label, own in sorted(found.items())
    ]


def checkout_estimators(checkout: Path) -> ModuleType:
    """Import the estimators of a checkout of the published code; import errors pass through."""
    spec = importlib.util.spec_from_file_location("imp_estimator", checkout / "imp_estimator.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{checkout} has no imp_estimator.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout_columns(estimators: ModuleType, subject: Subject) -> dict[str, list[Tensor]]:
    """Three columns by the checkout's own functions, one tensor per layer.

    They are abs_theta_g, theta_hg_t200 and the absolute value of theta_hg. The code counts a class
    as full only when a further image of it arrives, so it gets the sample twice.
    """
    batches, classes = subject.batches(LOADER_BATCH), len(subject.labels.unique())
    wanted = {"n_samples": len(subject.images) // classes, "n_classes": classes}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        return {
            "abs_theta_g": estimators.cal_importance_loss_based(
                subject.model, batches, num_stop=len(subject.images)
            ),
            "theta_hg_t200": estimators.cal_importance_grasp(
                subject.model, batches * 2, T=200, **wanted
            ),
            "abs(theta_hg)": estimators.cal_importance_grad_preserve(
                subject.model, batches * 2, T=1, **wanted
            ),
        }


def pyhessian_product(model: nn.Module, batches: Batches) -> Product:
    """Product of PyHessian with the Hessian of the mean cross-entropy, in mini-batches."""
    from pyhessian import hessian

    operator = hessian(model, nn.CrossEntropyLoss(), dataloader=batches, cuda=batches[0][0].is_cuda)

    def product(vector: Vector) -> Vector:
        with warnings.catch_warnings():  # torch warns about its graph in .grad
            warnings.simplefilter("ignore")
            answer = operator.dataloader_hv_product(vector)[1]
        model.zero_grad(set_to_none=True)
        return answer

    return product


def curvlinops_product(model: nn.Module, batches: Batches) -> Product:
    """The same product by curvlinops: forward mode over reverse mode."""
    from curvlinops import HessianLinearOperator

    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), batches, check_deterministic=False
    )
    return lambda vector: operator @ vector


HESSIAN_PRODUCTS: dict[str, Callable[[nn.Module, Batches], Product]] = {
    "PyHessian": pyhessian_product,
    "curvlinops": curvlinops_product,
}
