"""The code of every refusal: what a person quotes and a program matches on, while the words may change.

The first digit says who has to act, as the kinds in `errors.py` do:
1 the data scientist, 2 the security engineer, 3 the owner of the model or policy, 4 the operator, 5 whoever configured.
A code never changes its meaning and is never used again for another. SECURITY.md lists them all (`make compile`).

To add one: define it below in its group, give it as `code=codes.NAME`, and run `make compile`.
"""

from typing import Final

CODES: Final[dict[str, str]] = {}


def _code(number: int, meaning: str) -> str:
    code = f"CUS-E{number}"
    assert code not in CODES, code  # noqa: S101  (a bug of ours, seen at import)
    CODES[code] = meaning
    return code


def _document(last: int, why: str) -> str:
    """Define the three codes of a document that cannot be read: as input, as evidence, as configuration."""
    for series, document in (
        (100, "a document of the data or model"),
        (200, "evidence"),
        (500, "a configuration file"),
    ):
        _code(series + last, f"{document}: {why}")
    return f"CUS-E{200 + last}"


def in_series(code: str, series: int) -> str:
    """Return a document's code as the kind of refusal that it ends in has it: E2xx is E1xx of input, E5xx of settings.

    Codes that are not about reading a document are returned as they are. A server's answer that cannot be read is E400.
    """
    moved = f"CUS-E{series}{code[6:]}" if code in _DOCUMENTS else code
    return moved if moved in CODES else f"CUS-E{series}00"


# --- a document that cannot be read strictly (E101-E110, E201-E210, E501-E510) ---------------------------------------
NO_REGULAR_FILE = _document(1, "it is no regular file")
TOO_LARGE = _document(2, "it is larger than its limit")
TOO_DEEP = _document(3, "it is nested too deep")
MALFORMED = _document(4, "it is no JSON or YAML")
EMPTY = _document(5, "it is empty")
NOT_UTF8 = _document(6, "it is not UTF-8")
NAME_TWICE = _document(7, "a name stands in it twice")
NUMBER = _document(8, "it holds NaN, an infinity or a number that does not fit")
FIELDS = _document(9, "a field is missing, unknown or has the wrong form")
ALIAS = _document(10, "it uses a YAML alias")
_DOCUMENTS: Final = (
    NO_REGULAR_FILE,
    TOO_LARGE,
    TOO_DEEP,
    MALFORMED,
    EMPTY,
    NOT_UTF8,
    NAME_TWICE,
    NUMBER,
    FIELDS,
    ALIAS,
)

# --- E1xx InputRefused -----------------------------------------------------------------------------------------------
INPUT = _code(100, "the data or the model as given is not acceptable")
TREE_MISSING = _code(111, "the tree of files is not there")
TREE_EMPTY = _code(112, "the tree holds no file")
NOT_LISTABLE = _code(113, "the tree holds a symbolic link, a special file or an empty folder")
NAME_UNSAFE = _code(114, "a file name holds a control character or a backslash, or is not UTF-8 in normal form C")
NAME_TWINS = _code(115, "two file names differ only in case, so another file system would merge them")
INPUT_MISSING = _code(116, "a file or folder is not where it should be")
MODEL_UNREADABLE = _code(117, "the model directory cannot be read")
MODEL_TYPES = _code(118, "the model file would build types that are not on the allow-list")
UNSCORABLE = _code(119, "the rows cannot be scored")
PIPELINE_FILE = _code(141, "the file is no compiled pipeline")
PARAMETER_UNKNOWN = _code(142, "the pipeline has no such parameter")
PARAMETER_MISSING = _code(143, "a parameter that the pipeline requires is not given")
PARAMETER_TYPE = _code(144, "the value of a parameter is of another type")
PARAMETER_VALUE = _code(145, "the value of a parameter is none of those that the pipeline allows")
PARAMETER_MACRO = _code(146, "a macro in a parameter of a schedule is none that is replaced")
PARAMETERS_SIZE = _code(147, "the parameters have more bytes than Kubeflow Pipelines takes")
NAME_LENGTH = _code(148, "a name is empty, or longer than Kubeflow Pipelines stores")
RUN_FAILED = _code(149, "the run that was waited for did not succeed")
TOO_FEW_ROWS = _code(120, "the data has fewer rows than there are shards")

SOURCE_URI = _code(131, "the URI of the data is none that can be fetched")
SOURCE_REVISION = _code(132, "the revision does not name exactly one commit, or is none that this source can have")
SOURCE_POINTER = _code(133, "the commit has no file or pointer at this path, or one of a form that is not read")
SOURCE_SIZE = _code(134, "the data has more bytes than the platform lets be fetched")
WINDOW = _code(139, "a window of time is malformed, empty, or not over yet")
NOT_ANONYMOUS = _code(137, "fewer rows than the masking policy demands share their quasi-identifiers")

# --- E2xx EvidenceInvalid --------------------------------------------------------------------------------------------
EVIDENCE = _code(200, "evidence is missing, forged or unlinked, or bytes changed")
NO_EVIDENCE = _code(211, "the evidence is not there, or other evidence is in its place")
ATTACHMENT = _code(212, "a file beside the evidence is not bound by it")
LISTING = _code(213, "a SHA256SUMS listing is malformed")
LINK = _code(214, "a digest is not the one that the evidence names")
BYTES = _code(215, "the bytes are not those that were signed for")
LINK_MISSING = _code(216, "the evidence does not name what it is about")
BUNDLE = _code(221, "the bundle or its payload is of another type")
SIGNATURE_COUNT = _code(222, "there is not exactly one signature")
BASE64 = _code(223, "the signature or the payload is no base64")
LOG_ENTRIES = _code(224, "there are transparency log entries where none may be")
SIGNER_UNKNOWN = _code(225, "the trust file does not know the signer")
SIGNATURE = _code(226, "the signature is not by the signer over this payload")
SIGNER_ROLE = _code(227, "the signer may not sign this kind of evidence")
SIGNER_REVOKED = _code(228, "the signer was revoked")
SIGNER_PERIOD = _code(229, "the signer was not valid at the time")
STATEMENT = _code(231, "the statement is of another version")
SUBJECT = _code(232, "the statement does not have exactly one subject with a SHA-256")
KIND = _code(233, "the evidence is of another kind")
RESULT = _code(234, "the result is none of the known ones")
RESOURCE = _code(235, "a resource is malformed, or stands in the statement twice")
VALUE = _code(236, "a number, parameter or name in the statement has the wrong form")
TIME = _code(237, "the time is no RFC 3339 time in UTC")
FUTURE = _code(238, "the evidence claims a time in the future")
OTHER_RUN = _code(239, "the evidence belongs to another run")
LOG_ENTRY = _code(241, "the transparency log entry of keyless evidence is malformed, or not exactly one")
KEYLESS = _code(242, "the keyless signature does not verify with the trusted Sigstore root")
LOG_TIME = _code(243, "the transparency log's time is not the time that the evidence claims")
SHARD_SET = _code(251, "the shards are not each shard of one dataset exactly once: one is missing, twice, or of others")
SHARD_ROWS = _code(252, "a shard does not hold the rows that its number stands for")
SHARD_ORIGIN = _code(253, "a shard was made from other raw data, or with another policy, key or detector")
OBJECT_MISSING = _code(261, "an object that the pointer or listing names is not there")
OBJECT_CHANGED = _code(262, "an object of the source was added, removed or changed while it was fetched")
OBJECT_SIZE = _code(263, "an object has more or fewer bytes than the pointer or listing says")
OBJECT_DIGEST = _code(264, "an object is not the one that the pointer names")
DATA_PIN = _code(265, "the data is not that of the SHA-256 that the revision asks for")
GIT_OBJECT = _code(266, "a Git object is not what its name says")
SENT_ELSEWHERE = _code(267, "a server sends the stage to a host that the platform does not allow")
RANGE = _code(268, "a server does not go on where a transfer broke")
ROWS = _code(254, "a dataset has another number of rows than its evidence counts")
MODEL_UNSIGNED = _code(271, "the model is not signed")
MODEL_SCOPE = _code(272, "the model signature was made in another way, follows links or ignores files")
MODEL_FILES = _code(273, "the model signature lists a file twice or without a proper name and digest")
MODEL_LIBRARY = _code(274, "the model does not match its OpenSSF signature")
EVIDENCE_EXTRA = _code(281, "there is evidence that belongs to no link of the chain")
DECISION_INPUTS = _code(282, "the decision does not list exactly the evidence that is there")
DECISION_ORDER = _code(283, "the decision is older than evidence that it rests on")
BYTES_ABSENT = _code(284, "the bytes of an artifact are not there, so they could not be verified")

# --- E3xx PolicyRefused ----------------------------------------------------------------------------------------------
POLICY = _code(300, "everything is genuine and the policy says no")
DECISION_POLICY = _code(382, "the decision rests on another policy than the one that counts")
GATE_FAILED = _code(301, "the gate's decision is FAILED")
ROLLED_BACK = _code(302, "the new version of the model was rolled back")
CHECK_NOT_MADE = _code(311, "the gate could not make a check, because evidence that it needs was not accepted")
POLICY_NOT_PINNED = _code(312, "the trust file does not pin this policy")
REQUIREMENT = _code(313, "evidence that the policy requires is missing, too old or by another signer")
RULE = _code(314, "a rule of the policy does not hold")
RULE_UNDECIDED = _code(315, "a rule of the policy could not be decided, which denies")
OPA_DENIED = _code(316, "the policy server does not allow it")
OPA_UNANSWERED = _code(317, "the policy server was not asked or gave no usable answer, which denies")

SOURCE_NOT_ALLOWED = _code(321, "the platform does not allow data from there")
NOT_ENCRYPTED = _code(322, "an object is not encrypted at rest as the platform demands")

# --- E4xx ServiceUnreachable -----------------------------------------------------------------------------------------
SERVICE = _code(400, "a server did not answer, or answered with an error")
VAULT_SILENT = _code(461, "Vault did not answer, or what answers is not Vault")
VAULT_SEALED = _code(462, "Vault is sealed")
VAULT_FAILING = _code(463, "Vault answered with an error of its own")
KEY_SERVICE = _code(464, "the service or token that keeps the signing key did not answer, or failed")
WRONG_SIGNATURE = _code(465, "the service that keeps the signing key returned a signature that is not the key's")
KFP_SILENT = _code(471, "Kubeflow Pipelines did not answer")
KFP_TIMEOUT = _code(472, "Kubeflow Pipelines did not answer in time")
KFP_TLS = _code(473, "no trusted connection to Kubeflow Pipelines could be made")
KFP_FAILING = _code(474, "Kubeflow Pipelines answered with an error of its own, or is overloaded")
KFP_NO_API = _code(475, "what answers is not the API of Kubeflow Pipelines")
KFP_CONFLICT = _code(476, "Kubeflow Pipelines has another object of that name, or somebody changed it at the same time")
KFP_REFUSED = _code(477, "Kubeflow Pipelines does not accept the request")
RUN_UNFINISHED = _code(478, "the run did not end in the time that was waited")
SCHEDULE_HALF = _code(479, "a schedule could not be replaced by its successor")
STORE_SILENT = _code(441, "a server that keeps data did not answer")
STORE_FAILING = _code(442, "a server that keeps data answered with an error of its own")
TRANSFER = _code(443, "a transfer broke again and again")
GIT_SILENT = _code(447, "the Git server that deployments are committed to did not answer, or failed")
GIT_MOVED = _code(448, "the branch that deployments are committed to moved at every attempt")
SIGSTORE = _code(451, "Sigstore (certificate authority, log or its metadata) did not answer, or not usefully")
PUSHGATEWAY = _code(485, "the Pushgateway did not answer, or answered with an error")
ENGINE_SILENT = _code(481, "no container engine answers")
CLAIMS_SILENT = _code(486, "the place where claims of retrainings are kept did not answer, or failed")
CLAIM_HELD = _code(487, "somebody else is starting this retraining, and has not said what became of it")

# --- E5xx Misconfigured ----------------------------------------------------------------------------------------------
SETTINGS = _code(500, "a parameter, key, policy file or environment is wrong")
TRUST_UNREADABLE = _code(511, "the trust file is missing or cannot be read")
TRUST_VERSION = _code(512, "the trust file is of another version")
TRUST_TWICE = _code(513, "the trust file names a signer, key or policy twice")
TRUST_KEY = _code(514, "a key in the trust file is no EC P-256 public key")
TRUST_ROLE = _code(515, "a signer in the trust file may sign nothing, or something unknown")
TRUST_MOMENT = _code(516, "a date in the trust file is no timestamp")
TRUST_PIN = _code(517, "a policy in the trust file has no SHA-256 in lower-case hex")
TRUST_CREDENTIAL = _code(518, "a signer in the trust file has not exactly one of key, issuer with identity, hmac")
SIGSTORE_ROOT = _code(519, "the Sigstore root of the trust file cannot be used")
DISK_FULL = _code(521, "the disk is full, or a limit on file sizes was reached")
NO_PERMISSION = _code(522, "a file or folder may not be read or written")
NO_LIBRARY = _code(523, "a library that the stage needs is not installed")
NO_MEMORY = _code(524, "the task ran out of memory")
SYSTEM = _code(525, "the system refused an operation")
SOURCES_FILE = _code(526, "the sources file is missing, malformed, or asks for what an engine cannot do")
STORE_DENIED = _code(527, "a server that keeps data does not accept the credentials, or they may not read there")
STORE_CREDENTIALS = _code(528, "the credentials for a source are missing or malformed")
NO_SIGNER = _code(531, "no signer is configured")
SIGNER_URI = _code(532, "the signer URI is not understood")
SECRET_EXPOSED = _code(533, "a secret file may be read or written by others")
SECRET_UNREADABLE = _code(534, "a secret file cannot be read")
KEY_UNREADABLE = _code(535, "the signing key cannot be loaded")
KEY_TYPE = _code(536, "the signing key is no EC P-256 key")
KEY_EXISTS = _code(537, "a key file exists already")
OIDC_TOKEN = _code(551, "there is no identity token for keyless signing, or it was not accepted")
SIGSTORE_CONFIG = _code(552, "the Sigstore trust config for keyless signing cannot be used")
COMPILE_NAME = _code(543, "there is no component or pipeline of this name to compile")
COMPILE_FILE = _code(544, "the file to compile cannot be imported, or does not define exactly what was asked for")
COMPILE_OUTPUT = _code(545, "a file that would be written exists already, or two would have the same name")
EXPORT_EXISTS = _code(549, "the folder that a model would be exported to exists already")
COMPILE_CHOICE = _code(546, "the default of a pipeline's parameter is none of the values that its stage accepts")
IMAGE_PREFIX = _code(547, "the image prefix is no registry with a path")
IMAGE_PINS = _code(548, "the pins are not image and digest, name an unknown image, or miss one")
PUSHGATEWAY_SETTINGS = _code(542, "the address of the Pushgateway or its credentials are wrong")
PORT = _code(541, "the port of the local model server is no port number")
POLICY_FILE = _code(561, "the policy file was not accepted")
KEY_MISSING = _code(571, "the service or token has no such key, or refuses it to this stage")
KEY_VERSION = _code(572, "this version of the key was retired, or does not exist")
KEY_PASSWORD = _code(573, "the signing key is encrypted and no password is configured, or the other way round")
VAULT_SETTINGS = _code(574, "the address of Vault or the way to log in there is not configured, or wrong")
VAULT_LOGIN = _code(575, "Vault did not accept the credentials of this stage")
VAULT_TOKEN = _code(576, "the Vault token is not valid: it expired, was revoked, or never existed")
VAULT_DENIED = _code(577, "Vault does not permit this to this stage")
VAULT_REFUSED = _code(578, "Vault refused the request")
WRAPPED_TWICE = _code(579, "the wrapped secret id was opened before, or its time is over")
TOKEN_PIN = _code(580, "the hardware token did not accept the PIN")
NO_PUBLIC_KEY = _code(581, "an HMAC key has no public half, so this cannot be signed with it")
MODEL_NAME = _code(562, "the model's name is no DNS label")
ENGINE = _code(582, "the container engine refused")
ENGINE_PERMISSION = _code(583, "the container engine's socket may not be used")
IMAGE_MISSING = _code(584, "an image is not here and could not be pulled")
IMAGE_ARCHITECTURE = _code(585, "an image is for another architecture")
IMAGE_WITHOUT_KFP = _code(586, "an image does not hold KFP's executor, or its base cannot hold it")
BUILD = _code(587, "an image could not be built")
GRANT = _code(588, "a file or folder that is granted to a container is not there")
CONTAINER_GONE = _code(589, "a container was removed while its task ran")
KFP_HOST = _code(591, "the address of Kubeflow Pipelines or another setting of it is missing or wrong")
KFP_CREDENTIALS = _code(592, "the token, cookies or CA file for Kubeflow Pipelines cannot be used")
KFP_PLAINTEXT = _code(593, "a token or session would be sent to Kubeflow Pipelines unencrypted")
KFP_SESSION = _code(594, "Kubeflow Pipelines, or the login in front of it, does not know who asks")
KFP_FORBIDDEN = _code(595, "Kubeflow Pipelines does not permit this")
KFP_NAMESPACE = _code(596, "the Kubeflow Pipelines server has many users and no namespace is given")
KFP_NOT_FOUND = _code(597, "there is no such pipeline, version, experiment, run or schedule")
CRON = _code(598, "the schedule is no cron expression of six fields")
VERSION_EXISTS = _code(599, "the version exists with another content")
GIT_SETTINGS = _code(566, "the repository that deployments are committed to is not configured, or wrong")
GIT_DENIED = _code(567, "the Git server does not accept the token, or does not take the commit")
GIT_CONTENT = _code(568, "something in the repository is in the way of the files that would be written")
RETRAINING_FILE = _code(553, "the retraining file was not accepted, or knows no such order")
WATCH_TIME = _code(554, "the time of the window is none, or lies in the future")
WATCH_SETTINGS = _code(555, "where claims are kept, or how a retraining is started, is not configured or wrong")
CLAIM = _code(556, "what stands in the place of a claim is none")
CLAIMS_DENIED = _code(557, "the Kubernetes API does not let this stage claim a retraining")
SHARD_NUMBER = _code(563, "the number of shards, or of a shard, is not possible")
