//! Hands the eBPF object to the crate: `OUT_DIR/sandbox.bpf.o`, to be included aligned.
//!
//! The object that ships (`sandbox-ebpf/prebuilt/`) is taken only when every source that it was built from
//! still has the hash recorded beside it; otherwise the build stops and names the command that rebuilds it.
//! `SANDBOX_EBPF_OBJECT=FILE` (absolute, or relative to the workspace) takes another object, unchecked: for
//! developing, and for a CI whose toolchain is not the recorded one. This script needs no tool beside cargo
//! and writes nowhere but into OUT_DIR; `sandbox-ebpf/rebuild` computes the same hashes when it builds.
//!
//! Given to the crate: `SANDBOX_EBPF_SHA256`, the object's SHA-256 in hex, and `SANDBOX_EBPF_ORIGIN`,
//! `prebuilt` or `override`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest as _, Sha256};

const OVERRIDE: &str = "SANDBOX_EBPF_OBJECT";
const REBUILD: &str = "sandbox-ebpf/rebuild";

fn main() {
    if let Err(fault) = hand_over() {
        for line in fault.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn hand_over() -> Result<(), String> {
    let crate_folder = variable("CARGO_MANIFEST_DIR")?;
    let root = crate_folder.parent().ok_or("the crate lies in no workspace")?;
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let (object, origin) = match env::var_os(OVERRIDE).filter(|value| !value.is_empty()) {
        Some(value) => {
            let path = root.join(value);
            println!("cargo::warning=using the eBPF object {}, unchecked ({OVERRIDE})", path.display());
            (path, "override")
        }
        None => {
            let prebuilt = root.join("sandbox-ebpf/prebuilt");
            check_sources(root, &prebuilt.join("SOURCES.sha256"))?;
            (prebuilt.join("sandbox.bpf.o"), "prebuilt")
        }
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = read(&object)?;
    let copy = variable("OUT_DIR")?.join("sandbox.bpf.o");
    fs::write(&copy, &bytes).map_err(|error| format!("cannot write {}: {error}", copy.display()))?;
    println!("cargo::rustc-env=SANDBOX_EBPF_SHA256={}", sha256(&bytes));
    println!("cargo::rustc-env=SANDBOX_EBPF_ORIGIN={origin}");
    Ok(())
}

/// Compares the sources as they are with those that the prebuilt object was built from.
fn check_sources(root: &Path, recorded: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", recorded.display());
    let now = sources(root)?;
    let text = String::from_utf8(read(recorded)?)
        .map_err(|_| format!("{} is not text: run `{REBUILD}`", recorded.display()))?;
    let then: BTreeSet<&str> = text.lines().collect();
    let changed: BTreeSet<&str> = then
        .symmetric_difference(&now.iter().map(String::as_str).collect())
        .filter_map(|line| line.split_once("  ").map(|(_, name)| name))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = changed.into_iter().collect();
    Err(format!(
        "the prebuilt eBPF object is older than its sources: {}\n\
         run `{REBUILD}` and commit sandbox-ebpf/prebuilt/, or set {OVERRIDE}=FILE to try another object",
        names.join(", ")
    ))
}

/// One `HASH  NAME` line for each thing that the object's bytes come from; see `sources` in the script.
fn sources(root: &Path) -> Result<BTreeSet<String>, String> {
    let folder = root.join("sandbox-ebpf");
    let mut files = vec![folder.join(".cargo/config.toml"), folder.join("Cargo.toml")];
    rust_files(&folder.join("src"), &mut files)?;
    let mut lines = BTreeSet::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        lines.insert(format!("{}  {name}", sha256(&read(&file)?)));
    }

    let manifest = read_text(&root.join("Cargo.toml"))?;
    for name in ["profile.ebpf", "workspace.package"] {
        lines.insert(format!("{}  Cargo.toml[{name}]", sha256(section(&manifest, name).as_bytes())));
    }
    lines.extend(locked(&read_text(&root.join("Cargo.lock"))?));
    Ok(lines)
}

/// Adds the `.rs` files below `folder`; cargo is told of the folder itself, so that new files are noticed.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let failed = |error: io::Error| format!("cannot list {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The lines of one section of a Cargo.toml, without comments and blank lines.
fn section(manifest: &str, name: &str) -> String {
    let header = format!("[{name}]");
    let mut inside = false;
    let mut text = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == header;
        } else if inside && !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The locked checksums of the crates that the object is made with.
fn locked(lock: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let prefix = format!("{name} = \"");
            package.lines().find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"'))
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
            && name.starts_with("aya-ebpf")
        {
            lines.push(format!("{checksum}  Cargo.lock[{name} {version}]"));
        }
    }
    lines
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}

fn read_text(path: &Path) -> Result<String, String> {
    println!("cargo::rerun-if-changed={}", path.display());
    String::from_utf8(read(path)?).map_err(|_| format!("{} is not UTF-8", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
