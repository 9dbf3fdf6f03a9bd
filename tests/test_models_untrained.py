"""The untrained control in place: chance weights inside the block, the trained ones after it, whatever happens."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from real_folder_d import real_folder
from test_models_weights import Toy
from tiny_folders import write_model
from torch import nn

from mechfourier.errors import UsageError
from mechfourier.hooks import ActivationStore, capture
from mechfourier.models.draws import CHUNK, Stream, moments
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import load_pretrained
from mechfourier.models.untrained import drawn_weights, untrained
from mechfourier.models.weights import weights_hash
