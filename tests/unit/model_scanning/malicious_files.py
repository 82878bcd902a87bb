"""Inert files that a scanner must not let pass, by kind. They are made, and never loaded.

What they would call is harmless or gets harmless arguments, and a file that were loaded after all would leave a marker.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
import xgboost
from sklearn.linear_model import LogisticRegression

NAMES = """os system|posix system|nt system|subprocess Popen|subprocess check_output|builtins eval|builtins exec
builtins compile|builtins __import__|builtins getattr|builtins open|builtins breakpoint|importlib import_module
importlib.util spec_from_file_location|runpy run_path|runpy _run_code|pip main|pip._internal main|timeit timeit
numpy.f2py.crackfortran getlincoef|numpy load|ctypes CDLL|marshal loads|pickle loads|joblib load|types FunctionType
types CodeType|operator methodcaller|operator attrgetter|functools partial|webbrowser open|socket create_connection
shutil rmtree|pty spawn|cProfile run|pdb run|code interact|sys exit|urllib.request urlopen|asyncio run|platform popen
logging.config dictConfig|torch.hub load|pydoc pipepager|nobody knows_this|__main__ run""".replace("\n", "|").split("|")


class Call:
    """Calls a function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


def malicious_files(marker: Path) -> dict[str, list[bytes]]:
    """Return files by kind; one that is loaded makes a folder at `marker`."""
    mark = Call(os.mkdir, str(marker))
    payload = pickle.dumps(mark, 4)
    makers: list[Callable[[Call, bytes], dict[str, list[bytes]]]] = [
        *(
            _pickles,
            _joblib,
            _arrays,
            _zips,
            _tars,
            _compressed,
            _torch,
            _keras,
            _skops,
            _safetensors,
            _onnx,
            _boosters,
        ),
        *(_unreadable, _polyglots),
    ]
    files: dict[str, list[bytes]] = {}
    for maker in makers:
        files |= maker(mark, payload)
    return files


# --- pickles ----------------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def by_global(name: str, args: bytes = b"(S'inert'\nt") -> bytes:
    module, _, function = name.partition(" ")
    return f"c{module}\n{function}\n".encode() + args + b"R."


def by_stack(name: str) -> bytes:
    module, _, function = name.partition(" ")
    return b"\x80\x04" + text(module) + text(function) + b"\x93" + text("inert") + b"\x85R."


def _pickles(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    logistic = b"csklearn.linear_model._logistic\nLogisticRegression\n"
    estimator = logistic + b")\x81"
    return {
        "pickle of every protocol": [pickle.dumps([1, mark], protocol) for protocol in range(6)],
        "pickle by GLOBAL": [by_global(name) for name in NAMES],
        "pickle by STACK_GLOBAL": [by_stack(name) for name in NAMES[:16]],
        "pickle by INST": [b"(S'inert'\ni" + name.replace(" ", "\n").encode() + b"\n." for name in NAMES[:4]],
        "pickle by OBJ": [b"(c" + name.replace(" ", "\n").encode() + b"\nS'inert'\no." for name in NAMES[:4]],
        "pickle that only names": [b"c" + name.replace(" ", "\n").encode() + b"\n." for name in NAMES[:4]],
        "pickle with an extension code": [b"\x82\x01.", b"\x83\x01\x00.", b"\x84\x01\x00\x00\x00."],
        "pickle with a persistent id": [b"Pinert\n.", b"\x80\x04" + text("inert") + b"Q."],
        "pickle with names from its memo": [
            b"\x80\x04" + text("system") + b"\x940" + text("os") + b"\x940h\x01h\x00\x93" + text("inert") + b"\x85R.",
            b"\x80\x04" + text("os") + b"p7\n0" + text("system") + b"q\x090g7\nh\x09\x93.",
        ],
        "pickle with names of Python 2": [
            by_global("__builtin__ eval"),
            by_global("__builtin__ execfile"),
            by_global("commands getoutput"),
        ],
        "pickle that sets a state": [
            logistic + b"N(S'fit'\ncos\nsystem\nd\x86b.",
            logistic + b"N}S'fit'\nNs\x86b.",
            b"](S'a'\nNdb.",
            b"\x80\x02}}b.",
            estimator + b"}S'__setstate__'\ncnumpy\nmean\nsb.",
            estimator + b"N}S'__setstate__'\ncnumpy\nmean\ns\x86b.",
            estimator + b"ccollections\nOrderedDict\n)RS'__setstate__'\ncnumpy\nmean\nsb.",
        ],
        "pickle that makes what it may not": [
            b"\x80\x02csubprocess\nPopen\n)\x81.",
            b"\x80\x02" + logistic + b"(S'inert'\nt\x81.",
            b"\x80\x04" + logistic + b")}" + text("C") + b"K\x01s\x92.",
            estimator + b")R.",
        ],
        "pickle that walks from an allowed name": [
            by_stack("sklearn linear_model._logistic.LogisticRegression"),
            by_stack("numpy ndarray.tofile"),
            by_stack("sklearn.utils._bunch os.system"),
        ],
        "pickle with unusual arguments": [
            by_global("_codecs encode", b"(S'inert'\nS'unicode_escape'\nt"),
            by_global("builtins bytearray", b"(I1000000000000\nt"),
            by_global("numpy._core.multiarray _reconstruct", b"(cnumpy\nndarray\n(I99999999\ntS'b'\nt"),
            by_global("numpy dtype", b"(S'f8'\nI01\nI00\nt"),
            by_global("copyreg _reconstructor", b"(cnumpy\nndarray\ncbuiltins\nlist\n](t"),
            b"cbuiltins\nbytearray\nI9999999999\n\x85\x81.",
            by_global("numpy.random._pickle __randomstate_ctor", b"(S'inert'\ncxgboost.core\nBooster\nt"),
            by_global("numpy.random._pickle __bit_generator_ctor", b"(cxgboost.core\nBooster\nt"),
        ],
        "pickle that fills an object": [
            estimator + b"I1\na.",
            estimator + b"S'a'\nI1\ns.",
            b"\x80\x04" + estimator + b"(K\x01\x90.",
            estimator + b"(I1\ne.",
        ],
        "damaged pickle": [
            payload[:-1],
            payload[:20],
            b"\x80\x04K\x01\xff.",
            b"\x80\x09N.",
            b"\x80\x04h\x05.",
            b"\x80\x04R.",
            b"\x80\x04}(K\x01u.",
            b"N." + b"N.",
            b"N.\0",
            b"\x80\x04\x8d" + b"\xff" * 8 + b".",
            b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
            b"(" * 20_000,
        ],
        "pickle that runs before it breaks": [payload[:-1] + b"\xff", payload[:-1] + b"\x8e" + b"\xff" * 8],
        "pickle with data from elsewhere": [b"\x80\x05\x97.", b"\x80\x05\x97\x98."],
        "pickle after a pickle": [b"N." + payload, pickle.dumps(np.zeros(2)) + payload],
    }


# --- joblib and numpy -------------------------------------------------------------------------------------------------


def dumped(value: Any, compress: Any = 0) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file, compress=compress)
    return file.getvalue()


def _joblib(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    plain = dumped(np.frombuffer(payload.ljust(64, b"."), "u1"))
    key = text("numpy_array_alignment_bytes") + b"\x94K\x10"
    at = plain.index(key)
    # Without its alignment joblib steps over the bytes, and pickle.load would run them.
    unaligned = plain[: at + len(key) - 2] + b"N" + b"ub" + payload.ljust(64, b".") + b"."
    objects = dumped(np.array([1, mark, None], object))
    return {
        "joblib": [dumped({"model": np.ones(1000), "more": mark})],
        "compressed joblib": [
            dumped([np.ones(1000), mark], (name, 3)) for name in ("zlib", "gzip", "bz2", "xz", "lzma")
        ],
        "joblib with bytes that run as a pickle": [unaligned],
        "joblib with objects": [objects],
        "joblib with names from the outer memo": [_outer_memo()],
        "damaged joblib": [plain[:-8], plain + b"N.", plain.replace(b"f8", b"f7").replace(b"u1", b"u9")],
    }


def _outer_memo() -> bytes:
    """An array of objects whose pickle is harmless on its own, and not as the rest of the outer one."""
    outer = b"\x80\x04" + text("posix") + b"q\x000" + text("system") + b"q\x010"
    wrapper = text("joblib.numpy_pickle") + text("NumpyArrayWrapper") + b"\x93)\x81}(" + text("subclass")
    wrapper += text("numpy") + text("ndarray") + b"\x93" + text("shape") + b"K\x01\x85" + text("order") + text("C")
    wrapper += text("dtype") + text("numpy") + text("dtype") + b"\x93" + text("O8") + b"\x89\x88\x87R"
    # On its own the inner pickle has nothing in its memo but builtins and set; MEMOIZE counts on in the outer one.
    inner = b"\x80\x04" + text("builtins") + b"\x940" + text("set") + b"\x940h\x00h\x01\x93)R."
    return outer + wrapper + b"ub" + inner + b"."


def _arrays(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    file = io.BytesIO()
    np.save(file, np.array([mark], object), allow_pickle=True)
    good = io.BytesIO()
    np.save(good, np.arange(10))
    data = good.getvalue()
    shown = [data[:9], b"\x93NUMPY\x01\x00", data.replace(b"(10,)", b"(11,)"), data.replace(b"<i8", b"<q8")]
    archive = io.BytesIO()
    np.savez(archive, a=np.arange(3), b=np.array([mark], object))
    return {
        "npy with objects": [file.getvalue()],
        "npy that lies": [*shown, data + payload, data.replace(b"'shape': (10,)", b"'shape': print")],
        "npz with objects": [archive.getvalue()],
    }


# --- archives ---------------------------------------------------------------------------------------------------------


def zipped(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data, how)
    return file.getvalue()


def _zips(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    harmless = pickle.dumps([1, 2], 4)
    good = zipped([("a.pkl", harmless)])
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    renamed = zipfile.ZipInfo("a.pkl")
    renamed.extra = struct.pack("<HHBI", 0x7075, 10, 1, zlib.crc32(b"a.pkl")) + b"b.pkl"
    deep = good
    for _ in range(12):
        deep = zipped([("inner.zip", deep)])
    twins = zipped([("a.pkl", harmless), ("b.pkl", harmless)]).replace(b"b.pkl", b"a.pkl")
    central = good.index(b"PK\1\2")
    encrypted = bytearray(good)
    encrypted[6] |= 1
    encrypted[central + 8] |= 1
    method = bytearray(good)
    method[8] = method[central + 10] = 12
    two = zipped([("a.pkl", harmless), ("b.pkl", harmless)])
    second = two.index(b"PK\3\4", 4)
    comment = io.BytesIO()
    with zipfile.ZipFile(comment, "w") as archive:
        archive.writestr("a.pkl", harmless)
        archive.comment = payload
    return {
        "zip with a pickle": [
            zipped([("config.txt", payload)]),
            zipped([("weights.npy", payload)]),
            zipped([("a.pkl", payload)], zipfile.ZIP_DEFLATED),
        ],
        "zip with a name that leads out": [
            zipped([(name, harmless)]) for name in ("../a.pkl", "/a.pkl", "a/../../b", "a\\b", "c:a", "./a", "a//b")
        ],
        "zip with a link": [zipped([(link, b"/etc/hostname")])],
        "encrypted zip": [bytes(encrypted)],
        "zip with a wrong checksum": [good.replace(harmless, harmless[:-2] + b"u.", 1)],
        "zip with two names of a member": [good.replace(b"a.pkl", b"b.pkl", 1), twins, zipped([(renamed, harmless)])],
        "zip with bytes around its members": [
            b"#!/bin/sh\n" + good,
            payload + good,
            good + payload,
            two[:second] + payload + two[second:],
            comment.getvalue(),
        ],
        "zip packed in an unknown way": [bytes(method)],
        "damaged zip": [good[:-5], good[:40], good[:central], good[:-6] + b"\xff" * 4 + good[-2:]],
        "archives too deep": [deep],
        "empty zip": [zipped([])],
    }


def tarred(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _tars(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    def info(name: str, **fields: Any) -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(made, field, value)
        return made

    harmless = pickle.dumps([1, 2], 4)
    good = tarred([(info("a.pkl"), harmless)])
    return {
        "tar with a pickle": [tarred([(info("weights.bin"), payload)])],
        "tar with a link": [
            tarred([(info("a", type=kind, linkname="/etc/hostname"), b"")])
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
        ],
        "tar with a device": [tarred([(info("a", type=kind), b"")]) for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE)],
        "tar with a name that leads out": [
            tarred([(info(name), harmless)]) for name in ("../a.pkl", "/a.pkl", "a/../../b")
        ],
        "tar with a changed name": [
            tarred([(info("a.pkl", pax_headers={"path": "../b.pkl"}), harmless)], tarfile.PAX_FORMAT),
            tarred([(info("a" * 150), harmless)], tarfile.GNU_FORMAT),
        ],
        "tar with more after its end": [good + payload, good[:-512] + payload.ljust(512, b"\0")],
        "tar with two members of one name": [tarred([(info("a"), harmless), (info("a"), harmless)])],
        "damaged tar": [good[:700], good[:512]],
        "tar that is a pickle as well": [tarred([(info("cos\nsystem\n(S'inert'\ntR."), harmless)])],
    }


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


def _compressed(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    harmless = pickle.dumps(list(range(100)), 4)
    return {
        "compressed pickle": [pack(payload) for pack in PACKERS.values()],
        "pickle compressed twice": [pack(gzip.compress(payload)) for pack in PACKERS.values()],
        "compressed with more after it": [pack(harmless) + payload for pack in PACKERS.values()],
        "compressed and cut off": [pack(harmless)[:-6] for pack in PACKERS.values()],
    }


def bombs() -> list[bytes]:
    """Files that unpack to 4 MiB."""
    much = b"N" + b"0N" * (1 << 21) + b"."
    return [pack(much) for pack in PACKERS.values()] + [zipped([("a", much)], zipfile.ZIP_DEFLATED)]


# --- packages ---------------------------------------------------------------------------------------------------------


def _torch(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    weights = b"\x80\x02}q\x00."
    foreign = b"\x80\x02(" + text("other") + b"NNNNtQ."
    base = [("m/data.pkl", weights), ("m/version", b"3\n"), ("m/data/0", b"\0" * 16)]
    return {
        "torch": [
            zipped([("m/data.pkl", payload), *base[1:]]),
            zipped([("m/data.pkl", foreign), *base[1:]]),
            zipped([*base, ("n/data.pkl", weights)]),
            zipped([*base, ("m/code/__torch__.py", b"inert")]),
            zipped([*base, ("m/constants.pkl", payload)]),
            zipped([*base, ("m/version2", payload)]),
        ]
    }


def keras(*layers: Any, **more: Any) -> Any:
    config = {"name": "model", "layers": list(layers)}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def dense(**changes: Any) -> Any:
    return {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}, "registered_name": None, **changes}


def _keras(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    code = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
    configs = [
        keras(dense(class_name="Lambda", config={"function": code})),
        keras(dense(module="os", class_name="System")),
        keras(dense(module="keras.utils", class_name="get_file")),
        keras(dense(registered_name="Custom>Inert")),
        keras(dense(class_name="function", module="builtins", config="eval")),
        keras(dense(), compile_config={"loss": {"module": "subprocess", "class_name": "Popen", "config": {}}}),
        keras({"class_name": "Inert", "config": {}}),
        keras(dense(class_name=["Dense"])),
    ]
    files = [json.dumps(config).encode() for config in configs]
    notes = json.dumps({"keras_version": "3.8.0"}).encode()
    return {
        "Keras configuration": files,
        "Keras archive": [
            zipped([("config.json", files[0]), ("metadata.json", notes)]),
            zipped([("config.json", json.dumps(keras(dense())).encode()), ("metadata.json", notes), ("x", payload)]),
        ],
    }


def _skops(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    fitted = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(fitted))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def changed(**changes: Any) -> bytes:
        schema = json.loads(members["schema.json"]) | changes
        return zipped([*((n, d) for n, d in members.items() if n != "schema.json"), ("schema.json", _json(schema))])

    def node(loader: str, module: str, name: str, **more: Any) -> bytes:
        inner = {"__class__": name, "__module__": module, "__loader__": loader, "__id__": 1, **more}
        schema = json.loads(members["schema.json"])
        schema["content"]["content"]["C"] = inner
        return changed(content=schema["content"])

    return {
        "skops": [
            changed(__class__="system", __module__="os"),
            changed(__loader__="OperatorFuncNode", attrs={}),
            changed(protocol=0),
            changed(protocol="2"),
            node("FunctionNode", "os", "system"),
            node("TypeNode", "subprocess", "Popen"),
            node("MethodNode", "sklearn.linear_model._logistic", "LogisticRegression", content={"func": "fit"}),
            node("PartialNode", "functools", "partial", content={}),
            node("OperatorFuncNode", "operator", "methodcaller", attrs={}),
            node("ConstructorFromReduceNode", "builtins", "open", content={}),
            node("ConstructorFromReduceNode", "xgboost.core", "Booster", content={}),
            node("ObjectNode", "sklearn", "linear_model._logistic.LogisticRegression"),
            node("NdArrayNode", "numpy", "ndarray", type="numpy", file="missing.npy"),
            zipped([*members.items(), ("more.pkl", payload)]),
            zipped([(name, payload if name.endswith(".npy") else data) for name, data in members.items()]),
            zipped([("schema.json", b"[]")]),
            zipped([("schema.json", members["schema.json"] + b" {}")]),
        ]
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def safetensors(header: Any, data: bytes, length: int | None = None) -> bytes:
    written = header if isinstance(header, bytes) else _json(header)
    return struct.pack("<Q", len(written) if length is None else length) + written + data


def _safetensors(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    def tensor(start: int, end: int, kind: str = "F32", size: int = 1) -> Any:
        return {"dtype": kind, "shape": [size], "data_offsets": [start, end]}

    return {
        "safetensors": [
            safetensors({"a": tensor(0, 4), "b": tensor(2, 6)}, b"\0" * 6),
            safetensors({"a": tensor(0, 4), "b": tensor(8, 12)}, b"\0" * 12),
            safetensors({"a": tensor(0, 4)}, b"\0" * 4 + payload),
            safetensors({"a": tensor(0, 4)}, b"\0" * 3),
            safetensors({"a": tensor(0, 4, "O8")}, b"\0" * 4),
            safetensors({"a": tensor(0, 4, size=2)}, b"\0" * 4),
            safetensors({"a": {**tensor(0, 4), "more": 1}}, b"\0" * 4),
            safetensors(b'{"a":1,"a":2}', b""),
            safetensors({"__metadata__": {"a": 1}}, b""),
            safetensors({}, b"", 1 << 40),
        ]
    }


# --- ONNX and XGBoost -------------------------------------------------------------------------------------------------


def field(number: int, value: bytes | int | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def onnx(graph: bytes, more: bytes = b"", domain: str = "") -> bytes:
    return field(1, 8) + field(7, graph) + field(8, field(1, domain) + field(2, 17)) + more


def _onnx(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    node = field(1, "x") + field(2, "y") + field(4, "Relu")
    entry = field(1, "location") + field(2, "../../etc/hostname")
    weights = field(1, 4) + field(2, 1) + field(8, "w")
    inner = field(1, node + field(7, "inert.custom"))
    good = onnx(field(1, node))
    return {
        "ONNX with weights from elsewhere": [
            onnx(field(5, weights + field(13, entry) + field(14, 1))),
            onnx(field(5, weights + field(14, 1))),
            onnx(field(1, node + field(5, field(1, "value") + field(5, weights + field(13, entry))))),
        ],
        "ONNX with operators from elsewhere": [
            onnx(field(1, node + field(7, "inert.custom"))),
            onnx(field(1, node), domain="inert.custom"),
            onnx(field(1, node + field(5, field(1, "body") + field(6, inner)))),
            onnx(field(1, node), more=field(25, field(1, "f") + field(10, "inert.custom"))),
        ],
        "damaged ONNX": [good[:-3], good + field(99, payload), good + payload, field(1, 8) + field(7, b"")],
    }


def _boosters(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    booster = xgboost.XGBClassifier(n_estimators=2).fit(np.eye(4), [0, 1, 0, 1]).get_booster()
    ubj, document = bytes(booster.save_raw("ubj")), json.loads(booster.save_raw("json"))
    key = b"L" + struct.pack(">q", 4) + b"more"
    return {
        "XGBoost's JSON": [
            _json(document)[:-3],
            _json(document) + payload,
            _json(document | {"more": 1}),
            _json({"version": [3, 2, 0], "learner": {}}),
            _json(document)[:-1] + b',"version":[3]}',
            _json(document).replace(b"3", b"NaN", 1),
            b'{"learner":' + b"[" * 500 + b"]" * 500 + b"}",
        ],
        "XGBoost's binary JSON": [
            ubj[:-5],
            ubj + payload,
            ubj + b"N.",
            ubj[:-1] + key + b"Z}",
            ubj[:-1] + key + b"S" + b"L" + b"\xff" * 8 + b"}",
            ubj[:-1] + key + b"[$d#L" + struct.pack(">q", 1 << 60) + b"}",
            ubj[:-1] + key + b"[" * 5000,
            ubj[:-1] + key + b"Q}",
            b"{" + key + b"{}" + b"}",
        ],
    }


def _unreadable(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    return {
        "format that is not read": [
            b"\x89HDF\r\n\x1a\n" + payload,
            b"\x04\x22\x4d\x18" + payload,
            b"\x28\xb5\x2f\xfd" + payload,
            b"7z\xbc\xaf\x27\x1c" + payload,
            b"\x7fELF" + payload,
            b"import os\n",
            b"#!/bin/sh\ntrue\n",
            b"",
            b"\0" * 1000,
            b'{"a": 1}',
            b'"text"',
            b"[1, 2]",
        ]
    }


def _polyglots(mark: Call, payload: bytes) -> dict[str, list[bytes]]:
    good = io.BytesIO()
    np.save(good, np.frombuffer(zipped([("a.pkl", payload)]), "u1"))
    tar = tarred([(tarfile.TarInfo("a.pkl"), b"")])
    hidden = zipped([("a.pkl", payload)])
    skip = b"\x80\x04C" + bytes([250]) + b"\0" * 250
    return {
        "two formats in one file": [
            good.getvalue(),
            pickle.dumps(hidden, 4),
            pickle.dumps(np.frombuffer(hidden, "u1"), 4),
            skip + tar[len(skip) :],
            gzip.compress(pickle.dumps(hidden, 4)),
        ]
    }


def odd_tars() -> list[bytes]:
    """Tars whose first checksum is written as only lenient readers take it."""
    tar = tarred([(tarfile.TarInfo("a.pkl"), b"")])
    signed, based = bytearray(tar), bytearray(tar)
    signed[300] = 0x90  # counts for 144 to some readers, for -112 to others
    signed[148:156] = b"%06o\0 " % (sum(struct.unpack("148b8x356b", signed[:512])) + 256)
    based[148:156] = b"\x80" + (sum(tar[:148]) + sum(tar[156:512]) + 256).to_bytes(7, "big")
    return [tar, bytes(signed), bytes(based)]
