"""Find, test and explain Fourier (circular) features in transformers.

The public names below are loaded on first use (PEP 562), so that ``import mechfourier`` stays cheap: no
torch, no transformer_lens. Every command of the command line is a function here, and so is the class of its
result.
"""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy
from mechfourier._version import __version__ as __version__

if TYPE_CHECKING:
    from mechfourier import (
        causal as causal,
        domains as domains,
        figures as figures,
        fourier as fourier,
        harvest as harvest,
        hooks as hooks,
        models as models,
        probes as probes,
        results as results,
        sae as sae,
        stats as stats,
        toys as toys,
        training as training,
    )
    from mechfourier.atlas.result import AtlasResult as AtlasResult, DomainAtlas as DomainAtlas
    from mechfourier.atlas.run import atlas as atlas
    from mechfourier.causal.ablate import ablate as ablate
    from mechfourier.causal.arms import ArmsResult as ArmsResult, arms as arms
    from mechfourier.causal.attribution import (
        AttributionResult as AttributionResult,
        attribution as attribution,
    )
    from mechfourier.causal.behaviour import BehaviourResult as BehaviourResult, behaviour as behaviour
    from mechfourier.causal.dose import DoseResult as DoseResult, dose as dose
    from mechfourier.causal.experiment import Experiment as Experiment
    from mechfourier.causal.find_plane import CausalPlane as CausalPlane, find_plane as find_plane
    from mechfourier.causal.patch import PatchResult as PatchResult, patch as patch
    from mechfourier.causal.period_neurons import period_neurons as period_neurons
    from mechfourier.causal.period_result import PeriodNeurons as PeriodNeurons
    from mechfourier.causal.periods import PeriodsResult as PeriodsResult, periods as periods
    from mechfourier.causal.plane import plane as plane
    from mechfourier.causal.result import AblationResult as AblationResult
    from mechfourier.causal.rotate import RotationResult as RotationResult, rotate as rotate
    from mechfourier.causal.stability import StabilityResult as StabilityResult, stability as stability
    from mechfourier.causal.steer import SteerResult as SteerResult, steer as steer
    from mechfourier.causal.study import StudyResult as StudyResult, study as study
    from mechfourier.causal.sweep import SweepResult as SweepResult, sweep_ablate as sweep_ablate
    from mechfourier.doctor import Doctor as Doctor, examine as examine
    from mechfourier.domains.definition import (
        Domain as Domain,
        domain as domain,
        list_domains as list_domains,
    )
    from mechfourier.domains.tasks import TasksResult as TasksResult, tasks as tasks
    from mechfourier.domains.tokens import TokenReport as TokenReport, token_report as token_report
    from mechfourier.errors import MechFourierError as MechFourierError, UsageError as UsageError
    from mechfourier.figures.circle import circle as circle
    from mechfourier.harvest.read import open_harvest as open_harvest
    from mechfourier.harvest.result import CaptureResult as CaptureResult
    from mechfourier.harvest.run import capture_dataset as capture_dataset
    from mechfourier.hooks.capture import Activations as Activations, capture as capture
    from mechfourier.hooks.generate import generate as generate
    from mechfourier.hooks.site import Site as Site, select_sites as select_sites, sites as sites
    from mechfourier.hooks.store import ActivationStore as ActivationStore
    from mechfourier.models.interface import Model as Model
    from mechfourier.models.registry import known_models as known_models, load as load
    from mechfourier.models.wrap import Wrapped as Wrapped, wrap as wrap
    from mechfourier.probes.arrays.grid import GridProbe as GridProbe
    from mechfourier.probes.arrays.probe import probe_activations as probe_activations
    from mechfourier.probes.attention import attention as attention
    from mechfourier.probes.attention_result import AttentionResult as AttentionResult
    from mechfourier.probes.lens import LensResult as LensResult, lens as lens
    from mechfourier.probes.numbers import NumberLine as NumberLine, number_line as number_line
    from mechfourier.probes.planes import HarmonicPlane as HarmonicPlane
    from mechfourier.probes.probe import probe as probe
    from mechfourier.probes.result import ProbeResult as ProbeResult
    from mechfourier.probes.scan import ScanResult as ScanResult, scan as scan
    from mechfourier.probes.shapes import (
        Analogies as Analogies,
        PlaneReducibility as PlaneReducibility,
        analogies as analogies,
        reducibility as reducibility,
    )
    from mechfourier.reproduce.result import Reproduction as Reproduction
    from mechfourier.reproduce.run import reproduce as reproduce
    from mechfourier.results.base import Result as Result
    from mechfourier.results.compare import compare as compare
    from mechfourier.results.saved import load_result as load_result
    from mechfourier.stats.validate import Validation as Validation, validate as validate
    from mechfourier.sweep.run import Sweep as Sweep, sweep as sweep
    from mechfourier.toys.one_layer import OneLayerAnalysis as OneLayerAnalysis, analyze as analyze

__getattr__, __dir__ = lazy(__name__)
