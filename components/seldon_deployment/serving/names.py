"""Names that the deployer writes and the model server reads; apart, because the rest here imports MLServer."""

_HERE = "kfp_custody.components.seldon_deployment.serving"
LAUNCHER = f"{_HERE}.server"
REPOSITORY = f"{_HERE}.repository.VerifiedRepository"
RUNTIME = f"{_HERE}.runtime.SignedModelRuntime"
SETTINGS = "model-settings.json"
MODEL_HEADER = "seldon-model"
