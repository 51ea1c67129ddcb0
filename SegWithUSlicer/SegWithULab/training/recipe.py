"""A recipe: all that decides how a model is made, in one JSON file that anyone can run again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from SegWithUCore.models.input_spec import InputSpec, Label, check_label_values
from SegWithUCore.network import specs as backbone_spec
from SegWithUCore.network.specs import USER_PREFIX, is_user_network
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import check_schema, read_json, schema, shown, typed

_KINDS = Path(backbone_spec.__file__).parent / "backbones" / "backbones.schema.json"
"""Names the kinds of backbones, with the arguments of each."""
SEE_RECIPES = "see Resources/Recipes for a complete one"
MAXIMUM_BYTES = 4 << 20
"""Of a recipe; that of an imported nnU-Net, with its whole architecture, has 10 kB."""


@dataclass(frozen=True)
class BackboneTraining:
    """Settings of `train-backbone`.

    Attributes:
        learning_rate: peak of AdamW; a linear warm-up over `warmup_steps`, then a cosine down to zero.
        average_decay: of the exponential moving average of the weights, the ones that are kept.
        mirror: exchange left and right at random (only where labels have no side).
        any_turn: turn half of the windows by any angle; for images that do not all lie alike. It takes longer to learn.
        other_acquisitions: change windows as other scanners, protocols, skull stripping, cut fields of view and larger
            boxes would (see `OtherAcquisition`); for images with voxels that are nearly cubes.
        scale: smallest and largest factor by which windows enlarge what they show, cut out of the whole case already
            turned and scaled (see `ScaledWindows`); None cuts windows along the axes and stretches them a little.
        precision: "float32", or "bfloat16" for forward passes under autocast, which is faster
            (`docs/developer/performance.md`).
        validate_every: epochs between scores on the validation cases.
        window: what is cut out of a case, along x, y, z in voxels; None takes the window of the input. Smaller ones
            make more steps of an hour.
    """

    epochs: int = 100
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 60
    gradient_clip: float = 12.0
    average_decay: float = 0.99
    deep_supervision_heads: int = 2
    mirror: bool = True
    any_turn: bool = False
    other_acquisitions: bool = False
    scale: Sequence[float] | None = None
    precision: str = "float32"
    validate_every: int = 2
    window: Sequence[int] | None = None
    seed: int = 0


@dataclass(frozen=True)
class HeadTraining:
    """Settings of `train-head`.

    Defaults are the paper's (`docs/reference/method.md` section 4a) but for the number of epochs.

    Attributes:
        learning_rate, final_learning_rate: cosine from one to the other, a step per batch.
        augment: draw windows that are turned, stretched and changed in their grey values; the paper's recipe has none.
            Turned labels err along every boundary as no expert does, so a head learns errors that it will not meet.
        mirror, window, validate_every: as in `BackboneTraining`; no voxel is interpolated.
        patience: epochs without a better validation score before stopping.
        cross_fit: number of folds of training cases for cross-fitting, in which the head sees out-of-fold predictions;
            0 uses the frozen backbone, which has seen them, throughout.
        cross_fit_epochs: further epochs of each out-of-fold backbone.
        cross_fit_scratch: train them from scratch for `cross_fit_epochs`, so that they have never seen their fold; then
            flags can be fitted on what they make of it (`segwithu train`).
        cross_fit_share: share of the batches that out-of-fold backbones predict.
    """

    epochs: int = 100
    batch_size: int = 4
    learning_rate: float = 1e-3
    final_learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    gradient_clip: float = 12.0
    augment: bool = False
    mirror: bool = False
    precision: str = "float32"
    validate_every: int = 1
    window: Sequence[int] | None = None
    patience: int = 10
    cross_fit: int = 0
    cross_fit_epochs: int = 10
    cross_fit_scratch: bool = False
    cross_fit_share: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class GrownLabels:
    """How the size of a structure varies: its surface moves in or out, along all of it alike.

    Attributes:
        labels: of the map.
        into: labels of the map that give way where the structure grows.
        mm: largest move inwards and outwards.
    """

    labels: Sequence[int]
    into: Sequence[int]
    mm: tuple[float, float]


@dataclass(frozen=True)
class Synthesis:
    """How training images are synthesised from label maps (`Synthesiser`); it takes the place of all augmentation.

    Attributes:
        classes: labels of the map by the label value of the model that they become; others are background.
        sides: pairs of labels of the map, left and right, that are each other's mirror image.
        mirrored: share of the draws with left and right exchanged; 0 for organs whose sides the map does not name.
        rotation_degrees: largest angle about each axis.
        shift_mm: farthest shift along each axis.
        elastic_mm: largest standard deviation of the elastic displacement.
        grown: structures whose size varies by more than stretching and the elastic displacement bring.
        texture: largest standard deviation of smooth changes of grey value within a structure, of a full scale of 1.
        grey_values: by label (those of `sides` by the left one), of a contrast that a share of the draws has.
        thick_slices: share of the draws with thick slices, of up to `slice_mm` along one axis.
        stripped_to: labels that a skull stripping leaves; none if no image is stripped.
        stripped_partly: labels that it leaves in some of the draws.
        stripped: share of the draws that are stripped.
    """

    classes: Mapping[str, Sequence[int]]
    sides: Sequence[tuple[int, int]] = ()
    mirrored: float = 0.5
    rotation_degrees: float = 15.0
    shift_mm: float = 8.0
    elastic_mm: float = 3.5
    grown: Sequence[GrownLabels] = ()
    texture: float = 0.0
    grey_values: Mapping[str, float] = field(default_factory=dict)
    grey_values_share: float = 0.5
    thick_slices: float = 0.3
    slice_mm: float = 7.0
    stripped_to: Sequence[int] = ()
    stripped_partly: Sequence[int] = ()
    stripped: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """Everything a model is made from.

    Attributes:
        about: name, version, task, licences and citation, copied into the bundle.
        input: what the network is fed.
        labels: classes in the order of the network's outputs, background first.
        backbone: kind and arguments. Channel numbers follow from input and labels: a DynUNet is given as `filters` (for
            thick slices with `flat_levels`, see `build_dynunet`), a user's own network (kind "python:FACTORY") as
            `file` and further `arguments`.
        head: variant, taps and sizes.
        synthesis: how training images are synthesised from label maps; None trains on images.
    """

    about: Mapping[str, Any]
    input: InputSpec
    labels: tuple[Label, ...]
    backbone: Mapping[str, Any]
    head: Mapping[str, Any]
    backbone_training: BackboneTraining
    head_training: HeadTraining
    synthesis: Synthesis | None = None

    @property
    def label_values(self) -> list[int]:
        """Voxel value of each class, background first."""
        return [label.value for label in self.labels]

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as it stands, defaults filled in."""
        blocks = asdict(self) | {"input": self.input.to_json(), "labels": [label.to_json() for label in self.labels]}
        return {name: block for name, block in blocks.items() if block is not None}


def read_recipe(path: Path, backbone: Mapping[str, Any] | None = None, head: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        backbone, head: training settings that replace the recipe's (from the command line).

    Raises:
        InputError: missing file, broken JSON, unknown or missing fields.
    """
    return recipe_from_json(read_recipe_json(path), str(path), backbone, head)


def read_recipe_json(path: Path) -> dict[str, Any]:
    """Read the blocks of a recipe file, not yet checked.

    The `file` of a user's own network counts from the recipe's folder.

    Raises:
        InputError: missing file, or no JSON object.
    """
    data = read_json(path, SEE_RECIPES, MAXIMUM_BYTES)
    if not isinstance(data, dict) or not isinstance(data.get("backbone", {}), dict):
        raise InputError(f"{path} is not a recipe: {SEE_RECIPES}.", "wrong-recipe")
    if "file" in data.get("backbone", {}):
        data["backbone"]["file"] = str((path.parent / str(data["backbone"]["file"])).resolve())
    return data


def recipe_from_json(
    data: Mapping[str, Any],
    source: str,
    backbone: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
) -> Recipe:
    """Build a recipe from parsed JSON; `source` names it in messages. See `read_recipe`."""
    block = data.get("backbone")
    if isinstance(block, Mapping) and "model" in block:
        found = f"{source} takes its backbone from the model {shown(block['model'])}"
        raise InputError(f"{found}: only train-head can, give it there.", "wrong-recipe")
    # First, since which fields belong to an unknown kind no schema can say.
    kind = block.get("kind") if isinstance(block, Mapping) else None
    known = [name for name in schema(_KINDS) if not name.startswith("$") and name != "title"]
    if isinstance(kind, str) and kind not in known and not is_user_network(kind):
        ways = f"choose from {', '.join(known)}, or, for your own network, {USER_PREFIX}FACTORY"
        raise InputError(f"{source} has {shown(kind)} for 'kind' (backbone): {ways}.", "wrong-recipe")
    check_schema(data, schema(Path(__file__).with_name("recipe.schema.json")), source, SEE_RECIPES, "a recipe")
    try:
        check_label_values([entry["value"] for entry in data["labels"]], source)
        return Recipe(
            about=data["about"],
            input=InputSpec.from_json(data["input"]),
            labels=tuple(Label.from_json(entry) for entry in data["labels"]),
            backbone=data["backbone"],
            head=data["head"],
            backbone_training=BackboneTraining(**{**data.get("backbone_training", {}), **(backbone or {})}),
            head_training=HeadTraining(**{**data.get("head_training", {}), **(head or {})}),
            synthesis=typed(Synthesis | None, data.get("synthesis")),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{source} is not a usable recipe: {error}.", "wrong-recipe") from error
