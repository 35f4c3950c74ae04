"""Package registries for npm, pip and cargo, with two packages each, made here: `netlab-top`, which needs `netlab-leaf`.

The names are those that the clients have built in, and their groups in policies; an address for each. `answer` says
what the real ones would, as far as installing and downloading go:

    npm      package metadata with `dist`: https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md
    pip      the simple index as JSON: PEP 691
    cargo    the sparse index: https://doc.rust-lang.org/cargo/reference/registry-index.html
"""

import base64
import hashlib
import io
import json
import tarfile
import zipfile

NAMES = {
    "registry.npmjs.org": "203.0.113.91",
    "registry.yarnpkg.com": "203.0.113.92",
    "pypi.org": "203.0.113.93",
    "files.pythonhosted.org": "203.0.113.94",
    "crates.io": "203.0.113.95",
    "index.crates.io": "203.0.113.96",
    "static.crates.io": "203.0.113.97",
}
# What each package needs.
PACKAGES = {"netlab-top": ["netlab-leaf"], "netlab-leaf": []}
VERSION = "1.0.0"


def tar(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def npm_package(name, needs):
    """Its file and its metadata, by path."""
    about = {"name": name, "version": VERSION, "dependencies": {need: "^1.0.0" for need in needs}}
    file = tar({"package/package.json": json.dumps(about), "package/index.js": "module.exports = 1;\n"})
    path = f"/{name}/-/{name}-{VERSION}.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(file).digest()).decode()
    about["dist"] = {"tarball": f"https://registry.npmjs.org{path}", "integrity": integrity}
    about["dist"]["shasum"] = hashlib.sha1(file).hexdigest()
    packument = {"name": name, "dist-tags": {"latest": VERSION}, "versions": {VERSION: about}}
    return {path: file, f"/{name}": ("application/vnd.npm.install-v1+json", json.dumps(packument))}


def wheel(name, needs):
    """Its file name and its contents: https://packaging.python.org/specifications/binary-distribution-format/."""
    module = name.replace("-", "_")
    info = f"{module}-{VERSION}.dist-info"
    needed = "".join(f"Requires-Dist: {need}>=1\n" for need in needs)
    files = {
        f"{module}.py": "value = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: net-lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return f"{module}-{VERSION}-py3-none-any.whl", made.getvalue()


def crate(name, needs):
    """Its file, and its line in the index."""
    dependencies = "".join(f'{need} = "1"\n' for need in needs)
    manifest = f'[package]\nname = "{name}"\nversion = "{VERSION}"\nedition = "2021"\n[dependencies]\n{dependencies}'
    file = tar({f"{name}-{VERSION}/Cargo.toml": manifest, f"{name}-{VERSION}/src/lib.rs": ""})
    plain = {"features": [], "optional": False, "default_features": True, "target": None, "kind": "normal"}
    deps = [{"name": need, "req": "^1", **plain} for need in needs]
    line = {"name": name, "vers": VERSION, "deps": deps, "cksum": sha256(file), "features": {}, "yanked": False}
    return file, json.dumps(line) + "\n"


def make():
    """What there is, by host and path: bytes, or a type and a text."""
    npm, pypi, files, index, crates = {}, {}, {}, {}, {}
    settings = {"dl": "https://static.crates.io/crates", "api": "https://crates.io"}
    index["/config.json"] = ("application/json", json.dumps(settings))
    # npm asks what is known to be wrong with what it installs.
    npm["/-/npm/v1/security/advisories/bulk"] = ("application/json", "{}")
    for name, needs in PACKAGES.items():
        npm.update(npm_package(name, needs))
        file_name, file = wheel(name, needs)
        files[f"/packages/{file_name}"] = file
        url = f"https://files.pythonhosted.org/packages/{file_name}"
        listed = [{"filename": file_name, "url": url, "hashes": {"sha256": sha256(file)}}]
        page = {"meta": {"api-version": "1.0"}, "name": name, "files": listed}
        pypi[f"/simple/{name}/"] = ("application/vnd.pypi.simple.v1+json", json.dumps(page))
        file, line = crate(name, needs)
        crates[f"/crates/{name}/{VERSION}/download"] = file
        index[f"/{name[:2]}/{name[2:4]}/{name}"] = ("text/plain", line)
    return {
        "registry.npmjs.org": npm,
        "pypi.org": pypi,
        "files.pythonhosted.org": files,
        "index.crates.io": index,
        "static.crates.io": crates,
    }


MADE = make()


def answer(host, path):
    """Status, type and body."""
    found = MADE.get(host, {}).get(path)
    if found is None:
        return "404 Not Found", "text/plain", b""
    if isinstance(found, bytes):
        return "200 OK", "application/octet-stream", found
    kind, text = found
    return "200 OK", kind, text.encode()
