//! A recorded run, put to a policy: `sandbox policy replay` counts what an enforced run of the same steps denies,
//! rule by rule.

use crate::log::{attempts, text};
use crate::run::{Finished, SANDBOX, complete};
use crate::{Trial, WORK, learned, write};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

pub const TRIALS: &[Trial] = &[
    ("as enforced", as_enforced),
    ("defaults as enforced", defaults_as_enforced),
    ("as learned", learned::as_learned),
];

const POLICY: &str = r#"
version: 1
name: vm
files:
  default: allow
  rules:
    - { name: no-shadow, deny: [read, write], path: ["/etc/shadow"] }
    - { name: frozen, deny: [create, delete], path: ["/tmp/trial/frozen/**"] }
    - { name: closed, deny: [read], path: ["/tmp/trial/closed/**"] }
    - { name: still, deny: [write], path: ["/tmp/trial/still"] }
exec:
  default: allow
  rules:
    - { name: no-wget, deny: [run], path: ["/usr/bin/wget"] }
network:
  default: allow
  rules:
    - { name: no-second-loopback, deny: [connect, send], to: ["127.0.0.2"] }
kernel: { allow: [userns] }
"#;

/// The same the other way round: little is allowed.
const DEFAULTS: &str = r#"
version: 1
name: vm
files:
  default: deny
  rules:
    - { name: everywhere, allow: [write, attributes, load], path: ["/**"] }
    - { name: programs, allow: [read], path: ["/usr/**", "/proc/**", "/dev/**", "/etc/passwd"] }
    - { name: here, allow: [read, create, delete], path: ["/tmp/trial/open/**"] }
exec:
  default: deny
  rules:
    - { name: probe, allow: [run], path: ["/usr/bin/guest-probe", "/usr/bin/other"] }
network:
  default: deny
  rules:
    - { name: first, allow: [connect, send], to: ["127.0.0.1"] }
    - { name: servers, allow: [bind, listen], to: [any] }
kernel: { allow: [raw-devices, sysctl-write, userns] }
"#;

const STEPS: &[&str] = &[
    "read=/etc/shadow",
    "read=/etc/passwd",
    "write=/etc/shadow",
    "read=/etc/shadow",
    "run=/usr/bin/wget",
    "run=/usr/bin/other",
    "connect-tcp=127.0.0.2:9001",
    "connect-tcp=127.0.0.1:9001",
    // Nobody listens there: refused without a policy, denied with one.
    "connect-tcp=127.0.0.2:9",
    "connect-udp=127.0.0.2:9002",
    "udp=127.0.0.2:9002",
    "udp=127.0.0.1:9002",
    "mkdir=/tmp/trial/frozen/d",
    "mkdir=/tmp/trial/open/d",
    "unlink=/tmp/trial/frozen/f",
    "unlink=/tmp/trial/frozen/missing",
    "rename=/tmp/trial/frozen/g,/tmp/trial/open/g",
    "rename=/tmp/trial/open/a,/tmp/trial/open/b",
    "link=/tmp/trial/closed/f,/tmp/trial/open/f",
    "link=/tmp/trial/open/b,/tmp/trial/open/c",
    "truncate=/tmp/trial/still",
    "read=/tmp/trial/missing",
    "userns",
];

fn as_enforced() -> Result<()> {
    compare("plain", POLICY)
}

fn defaults_as_enforced() -> Result<()> {
    compare("defaults", DEFAULTS)
}

/// Records the steps, enforces the policy on the same steps, and replays the record.
fn compare(name: &str, policy: &str) -> Result<()> {
    let _peers = (
        TcpListener::bind("127.0.0.1:9001")?,
        TcpListener::bind("127.0.0.2:9001")?,
        UdpSocket::bind("127.0.0.1:9002")?,
        UdpSocket::bind("127.0.0.2:9002")?,
    );
    let policy = write(&format!("{name}.yaml"), policy)?;
    set_up()?;
    let recorded = complete(&format!("{name}-recorded"), &["--audit-only"], STEPS)?;
    set_up()?;
    let enforced = complete(&format!("{name}-enforced"), &["--enforce", &policy, "--require", "lsm"], STEPS)?;
    let denied = denied(&enforced)?;
    ensure!(!denied.is_empty(), "nothing was denied: there is nothing to compare");
    let replayed = replayed(&policy, &recorded.dir)?;
    ensure!(replayed == denied, "replayed {replayed:?}\nenforced {denied:?}");
    // The record of the enforced run says the same once more.
    let again = self::replayed(&policy, &enforced.dir)?;
    ensure!(again == denied, "replayed {again:?} from the enforced run\nenforced {denied:?}");
    Ok(())
}

/// The files that the steps find.
fn set_up() -> Result<()> {
    for dir in ["frozen", "open", "closed"] {
        let dir = Path::new(WORK).join(dir);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir(&dir)?;
    }
    for file in ["frozen/f", "frozen/g", "open/a", "closed/f", "still"] {
        std::fs::write(Path::new(WORK).join(file), "x")?;
    }
    Ok(())
}

/// Denials by rule, as the log of the enforced run has them.
pub fn denied(run: &Finished) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for event in run.log()?.events()?.iter().filter(|event| text(event, "action") == "BLOCKED") {
        *counts.entry(text(event, "policy_rule").to_owned()).or_default() += attempts(event);
    }
    Ok(counts)
}

/// Denials by rule, as a replay of the run has them.
pub fn replayed(policy: &str, run: &Path) -> Result<BTreeMap<String, u64>> {
    let mut command = Command::new(SANDBOX);
    command.args(["policy", "replay", policy]).arg(run.join("events.jsonl")).arg("--json");
    let output = command.output().with_context(|| format!("cannot run {SANDBOX}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(matches!(output.status.code(), Some(0 | 1)), "replay ended with {}: {stderr}", output.status);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("not JSON")?;
    let mut counts = BTreeMap::new();
    for group in answer["groups"].as_array().context("no groups")? {
        let rule = group["rule"].as_str().unwrap_or_default().to_owned();
        *counts.entry(rule).or_default() += group["count"].as_u64().context("no count")?;
    }
    Ok(counts)
}
