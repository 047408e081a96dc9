"""The image sets that zoos are trained on, as plain data: files, sizes, splits, and what each network gets to see.

Transforms and splits of the Model Zoos' populations are those of its authors (NeurIPS 2022, appendix, and their code).
Where they published none, the choice is ours and a comment says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageFile:
    """A published file of an image set.

    Attributes
    ----------
    name : str
        What it is called, there and here.
    addresses : tuple of str
        Where it is published, best first.
    checksum : str
        ``"md5:<hex>"`` or ``"sha256:<hex>"``, as published.
    """

    name: str
    addresses: tuple[str, ...]
    checksum: str


@dataclass(frozen=True)
class ImageSetting:
    """How a network gets to see an image set.

    Attributes
    ----------
    size : int
        Height and width of the images in pixels.
    mean, std : tuple of float
        Of each channel, subtracted from and dividing the values between 0 and 1. One channel of a set in colours means
        that its images are made grey.
    n_train, n_val : int
        Images of the training set that are trained on, and held out for validation.
    fit : {"resize", "crop"}
        How images of another size are brought to this one; a crop takes the centre.
    augmentation : {"crop_flip", "flip_rotate"} or None
        What is done to the batches in training: see :func:`zoobench.generators.augmentation.augment`.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_train: int
    n_val: int
    fit: str = "resize"
    augmentation: str | None = None

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return len(self.mean)


@dataclass(frozen=True)
class ImageSet:
    """An image set.

    Attributes
    ----------
    name, title : str
        What it is called here, and by its makers.
    n_classes : int
        Classes, from 0.
    channels, side : int
        Of the published images: channels, and height and width in pixels.
    n_test : int
        Test images.
    settings : mapping of str to ImageSetting
        Architecture -> how it gets to see the images. Architectures that are not named get the first.
    format : str
        Of the files; empty if the images come with scikit-learn.
    files : tuple of ImageFile
        Of a set with a test part those of the training part first.
    has_test : bool
        Whether the makers published a test part; else it is drawn from all images.
    licence : str
        What the makers say about use, as far as we know.
    citation : str
        Who made it.
    """

    name: str
    title: str
    n_classes: int
    channels: int
    side: int
    n_test: int
    settings: Mapping[str, ImageSetting] = field(repr=False)
    format: str = ""
    files: tuple[ImageFile, ...] = field(default=(), repr=False)
    has_test: bool = True
    licence: str = "none stated"
    citation: str = ""

    def setting(self, architecture: str = "cnn_s") -> ImageSetting:
        """How networks of an architecture get to see the images.

        Parameters
        ----------
        architecture : str, default="cnn_s"
            Name of an architecture.

        Returns
        -------
        ImageSetting

        Examples
        --------
        >>> from zoobench.generators.image_sets import IMAGE_SETS
        >>> IMAGE_SETS["cifar10"].setting("cnn_s").size, IMAGE_SETS["cifar10"].setting("cnn_l").size
        (28, 32)
        """
        return self.settings.get(architecture, next(iter(self.settings.values())))

    @property
    def n_pool(self) -> int:
        """Images that training and validation are drawn from, and the test part too if none was published."""
        first = next(iter(self.settings.values()))
        return first.n_train + first.n_val + (0 if self.has_test else self.n_test)


def find_image_set(name: str) -> ImageSet:
    """The image set of a name.

    Parameters
    ----------
    name : str
        A key of :data:`IMAGE_SETS`.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        If the name is unknown; the message has close matches.
    """
    if name not in IMAGE_SETS:
        close = difflib.get_close_matches(str(name), IMAGE_SETS)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(IMAGE_SETS)}"
        raise ValueError(f"no image data named {name!r}; {hint}")
    return IMAGE_SETS[name]


def _files(bases: tuple[str, ...], checksums: Mapping[str, str]) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(name, tuple(base + name for base in bases), total) for name, total in checksums.items())


_HALF = (0.5, 0.5, 0.5)
_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)

#: Name -> image set: what it is, where its files are, and how the networks of an architecture get to see it.
IMAGE_SETS: dict[str, ImageSet] = {
    "digits": ImageSet(
        name="digits",
        title="scikit-learn's digits",
        n_classes=10,
        channels=1,
        side=8,
        n_test=397,
        has_test=False,
        settings={"cnn_s": ImageSetting(28, (0.5,), (0.5,), 1100, 300)},
        licence="CC-BY-4.0",
        citation="E. Alpaydin, C. Kaynak. Cascading Classifiers. Kybernetika, 1998",
    ),
    "mnist": ImageSet(
        name="mnist",
        title="MNIST",
        n_classes=10,
        channels=1,
        side=28,
        n_test=10_000,
        settings={"cnn_s": ImageSetting(28, (0.1307,), (0.3081,), 50_000, 10_000)},
        format="idx",
        files=_files(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            {
                "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
        citation="Y. LeCun et al. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 86(11), 1998",
    ),
    "fmnist": ImageSet(
        name="fmnist",
        title="Fashion-MNIST",
        n_classes=10,
        channels=1,
        side=28,
        n_test=10_000,
        settings={"cnn_s": ImageSetting(28, (0.5,), (0.5,), 50_000, 10_000)},
        format="idx",
        files=_files(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            {
                "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
            },
        ),
        licence="MIT",
        citation="H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST. arXiv 1708.07747, 2017",
    ),
    "svhn": ImageSet(
        name="svhn",
        title="SVHN, cropped digits",
        n_classes=10,
        channels=3,
        side=32,
        n_test=26_032,
        settings={
            "cnn_s": ImageSetting(28, (0.5,), (0.5,), 60_000, 13_257, fit="crop"),
            # Ours: the Small CNN Zoo's own transform is not known to us.
            "small_cnn": ImageSetting(32, (0.5,), (0.5,), 60_000, 13_257),
        },
        format="svhn",
        files=_files(
            ("http://ufldl.stanford.edu/housenumbers/",),
            {
                "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
                "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
            },
        ),
        licence="non-commercial use only",
        citation="Y. Netzer et al. Reading Digits in Natural Images with Unsupervised Feature Learning. NIPS, 2011",
    ),
    "usps": ImageSet(
        name="usps",
        title="USPS",
        n_classes=10,
        channels=1,
        side=16,
        n_test=2_007,
        settings={"cnn_s": ImageSetting(28, (0.1307,), (0.3081,), 6_000, 1_291)},
        format="libsvm",
        files=_files(
            ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
            {
                "usps.bz2": "md5:ec16c51db3855ca6c91edd34d0e9b197",
                "usps.t.bz2": "md5:8ea070ee2aca1ac39742fdd1ef5ed118",
            },
        ),
        citation="J. J. Hull. A Database for Handwritten Text Recognition Research. IEEE TPAMI 16(5), 1994",
    ),
    "cifar10": ImageSet(
        name="cifar10",
        title="CIFAR-10",
        n_classes=10,
        channels=3,
        side=32,
        n_test=10_000,
        settings={
            "cnn_s": ImageSetting(28, _HALF, _HALF, 42_000, 8_000),
            "cnn_l": ImageSetting(32, _HALF, _HALF, 42_000, 8_000),
            "resnet18": ImageSetting(
                32,
                (125.3 / 255, 123.0 / 255, 113.9 / 255),
                (63.0 / 255, 62.1 / 255, 66.7 / 255),
                40_000,
                10_000,
                augmentation="crop_flip",
            ),
            # Ours: the Small CNN Zoo's own transform is not known to us, but that its images are grey.
            "small_cnn": ImageSetting(32, (0.5,), (0.5,), 42_000, 8_000),
        },
        # The binary archive rather than the one of pickles: nothing in it can be executed.
        format="cifar",
        files=_files(
            _TORONTO,
            {
                "cifar-10-binary.tar.gz": "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            },
        ),
        citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. University of Toronto, 2009",
    ),
    "cifar100": ImageSet(
        name="cifar100",
        title="CIFAR-100",
        n_classes=100,
        channels=3,
        side=32,
        n_test=10_000,
        settings={
            "resnet18": ImageSetting(
                32, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 40_000, 10_000, augmentation="crop_flip"
            )
        },
        format="cifar",
        files=_files(
            _TORONTO,
            {
                "cifar-100-binary.tar.gz": "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            },
        ),
        citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. University of Toronto, 2009",
    ),
    "stl10": ImageSet(
        name="stl10",
        title="STL-10",
        n_classes=10,
        channels=3,
        side=96,
        n_test=8_000,
        settings={
            "cnn_s": ImageSetting(28, _HALF, _HALF, 4_200, 800),
            "cnn_l": ImageSetting(32, _HALF, _HALF, 4_200, 800),
        },
        format="stl10",
        files=_files(
            ("http://ai.stanford.edu/~acoates/stl10/",),
            {"stl10_binary.tar.gz": "md5:91f7769df0f17e558f3565bffb0c7dfb"},
        ),
        citation="A. Coates et al. An Analysis of Single Layer Networks in Unsupervised Feature Learning. AISTATS 2011",
    ),
    "eurosat": ImageSet(
        name="eurosat",
        title="EuroSAT, RGB",
        n_classes=10,
        channels=3,
        side=64,
        n_test=5_400,
        # No published split or transform is known to us: 60/20/20 and the other sets' transform are ours.
        has_test=False,
        settings={
            "cnn_s": ImageSetting(28, _HALF, _HALF, 16_200, 5_400),
            "cnn_l": ImageSetting(32, _HALF, _HALF, 16_200, 5_400),
        },
        format="eurosat",
        files=_files(
            ("https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/",),
            {"EuroSAT.zip": "md5:c8fa014336c82ac7804f0398fcb19387"},
        ),
        licence="MIT",
        citation="P. Helber et al. EuroSAT: A Novel Dataset and Deep Learning Benchmark. IEEE JSTARS 12(7), 2019",
    ),
    "tinyimagenet": ImageSet(
        name="tinyimagenet",
        title="Tiny-ImageNet",
        n_classes=200,
        channels=3,
        side=64,
        # The published validation folder: the labels of the test folder are not public.
        n_test=10_000,
        # The sizes of training and validation are ours, in the proportion of the other ResNet-18 sets.
        settings={
            "resnet18": ImageSetting(
                64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 80_000, 20_000, augmentation="flip_rotate"
            )
        },
        format="tinyimagenet",
        files=_files(
            ("http://cs231n.stanford.edu/",), {"tiny-imagenet-200.zip": "md5:90528d7ca1a48142e341f4ef8d21d0de"}
        ),
        citation="Y. Le, X. Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS231N, 2015",
    ),
}
