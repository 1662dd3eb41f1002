"""Flax NNX modules for the tasks and examples; no optimizer is known here."""

from jaxopt_lectures.models.adapters import from_functions, from_linen
from jaxopt_lectures.models.autoencoder import Autoencoder
from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.models.neuron import Neuron
from jaxopt_lectures.models.recurrent import Recurrent
from jaxopt_lectures.models.resnet import ResNet, resnet18, resnet20, resnet34, resnet50, resnet56, resnet_small
from jaxopt_lectures.models.transformer import GPT, gpt2_small
from jaxopt_lectures.models.vgg import VGG, vgg_small

__all__ = [
    "GPT",
    "MLP",
    "VGG",
    "Autoencoder",
    "LeNet",
    "Neuron",
    "Recurrent",
    "ResNet",
    "from_functions",
    "from_linen",
    "gpt2_small",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet_small",
    "vgg_small",
]
