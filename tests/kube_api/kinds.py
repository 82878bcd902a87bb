"""The resources that are served: a table."""

from dataclasses import dataclass

BUILT_IN = ("", "apps", "batch")  # these need no schema, and a PUT of them no resourceVersion


@dataclass(frozen=True)
class Kind:
    """A row of the table: what the server calls a resource."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
MODEL = Kind("mlops.seldon.io", "v1alpha1", "models", "Model")
EXPERIMENT = Kind("mlops.seldon.io", "v1alpha1", "experiments", "Experiment")
KINDS = (
    NAMESPACE,
    Kind("", "v1", "configmaps", "ConfigMap"),
    Kind("", "v1", "pods", "Pod"),
    Kind("", "v1", "secrets", "Secret"),
    Kind("", "v1", "serviceaccounts", "ServiceAccount"),
    Kind("", "v1", "services", "Service"),
    Kind("apps", "v1", "deployments", "Deployment"),
    MODEL,
    EXPERIMENT,
    Kind("mlops.seldon.io", "v1alpha1", "pipelines", "Pipeline"),
    Kind("mlops.seldon.io", "v1alpha1", "servers", "Server"),
    Kind("mlops.seldon.io", "v1alpha1", "seldonruntimes", "SeldonRuntime"),
    Kind("machinelearning.seldon.io", "v1", "seldondeployments", "SeldonDeployment"),
    Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService"),
)
