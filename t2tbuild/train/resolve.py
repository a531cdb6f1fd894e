"""What a training spec means, all defaults filled in. Torch-free, so that its errors come at once."""

from t2tbuild.spec.revise import revise
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.tree import Spec


def resolve(spec: Spec) -> Spec:
    """The spec as it is trained: the recipe filled in, the model at the data's image size and number of classes.

    Raises FieldError when the data's images are too small for the model's tokenizer.
    """
    recipe = spec.train or TrainSpec()
    size = recipe.data.image_size
    fitted = {"image_size": size, "num_classes": recipe.data.num_classes}
    blame = ("model", "tokenizer"), "write a larger train.data.image_size"
    model = revise(spec.model, fitted, f"trained on {recipe.data.kind} at {size} pixels", blame)
    return Spec(version=1, model=model, weights=spec.weights, train=recipe)
