"""Our own models, saved and loaded like diffusers' models: a folder with config.json and safetensors."""

from typing import Any

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin


# diffusers builds all of its models from this pair, although the two disagree on the type of a class attribute
class FolderModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A network whose constructor arguments are stored in its config.json.

    Args:
        config: all arguments of the subclass's constructor, including `scaling_factor` and `shift_factor`.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.register_to_config(**config)  # type: ignore[no-untyped-call]
