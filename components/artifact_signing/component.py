"""The contract of sign_model."""

from kfp import dsl
from kfp.dsl import Input, Output

from kfp_custody.components._shared.artifacts import SignedModel, TrainedModel, TrainingProvenance
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("artifact_signing"), install_kfp_package=False)
def sign_model(
    model: Input[TrainedModel],
    provenance: Input[TrainingProvenance],
    signed: Output[SignedModel],
    run_id: str,
) -> None:
    """Sign a trained model in the OpenSSF model signing format.

    The model's bytes are hashed again and must be those that the training provenance speaks of. Anyone can verify the
    result with the stock tool: model_signing verify key --signature model.sig --public_key key.pub model/

    Args:
        model: The trained model.
        provenance: The training provenance that train_model left about it.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.

    Returns:
        signed: The model in `model/` with its signature `model.sig` beside it.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.artifact_signing.signing import sign

        done = sign(Path(model.path), Path(provenance.path), Path(signed.path), run_id, load_settings())
        signed.metadata.update(done.metadata())
