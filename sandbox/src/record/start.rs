//! `run_start`: what the first line of a log says about the run and its machine.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use audit_verify::Hash;
use audit_verify::sign::KeyId;
use serde::{Deserialize, Serialize};

use super::line::runner_event;
use super::meta::MetaPolicy;
use super::store::Trust;
use crate::event::redact::{self, Secrecy};
use crate::event::{Event, EventType, Key, ProcId, Value};

/// What a run does with a policy's verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is blocked.
    AuditOnly,
    /// The policy is law.
    Enforce,
}

impl Mode {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Mode::AuditOnly => "audit-only",
            Mode::Enforce => "enforce",
        }
    }
}

/// A layer of a run, and what its self-test found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// What it does in this run: `observes`, `enforces`, `observes and enforces`, or `off`.
    pub role: String,
    /// Each check of its self-test: the hook or feature, and what was found.
    pub selftest: Vec<SelfTest>,
}

impl LayerReport {
    /// The role of a layer that does not work.
    pub const OFF: &str = "off";
    /// The role of one that only enforces.
    pub const ENFORCES: &str = "enforces";

    /// Whether the layer does not work.
    pub fn is_off(&self) -> bool {
        self.role == Self::OFF
    }
}

/// Where a run is recorded, and what its log is bound to.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Who could change the record.
    pub trust: Trust,
    /// The ledger's last hash; zeros where the run is in no ledger, or is its first.
    pub ledger_prev: Hash,
    /// The key that will sign, where there is one.
    pub key: Option<(KeyId, KeyReach)>,
}

/// Whether the command could read the secret key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyReach {
    /// It could not: it has another user, or the policy that is enforced keeps it.
    Kept,
    /// It could, and so its signatures say little.
    #[default]
    WithinReach,
}

impl KeyReach {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            KeyReach::Kept => "kept-from-run",
            KeyReach::WithinReach => "within-reach",
        }
    }
}

/// One check of a layer's self-test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// The hook or the feature.
    pub check: String,
    /// `held`, or why it did not.
    pub result: String,
}

/// Directories for temporary files of a run's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTmp {
    /// Where they are seen.
    pub private: Vec<PathBuf>,
    /// What of the machine's lies in them.
    pub kept: Vec<PathBuf>,
}

/// What the runner knows about a run when it starts. What the machine knows is added by [`RunStart::event`].
#[derive(Clone, Debug)]
pub struct RunStart {
    /// The command with its arguments.
    pub command: Vec<Vec<u8>>,
    /// Where it is started.
    pub cwd: Vec<u8>,
    /// The user it runs as.
    pub uid: u32,
    /// That user's name.
    pub user: String,
    /// That user's home directory, looked through for credential files.
    pub home: Vec<u8>,
    /// The command's environment. Only names of variables are kept, and only of those that look secret.
    pub environment: Vec<(OsString, OsString)>,
    /// What is done with verdicts.
    pub mode: Mode,
    /// The layers with their self-tests.
    pub layers: Vec<LayerReport>,
    /// The policy, where there is one.
    pub policy: Option<MetaPolicy>,
    /// What variables of policies stand for, by name.
    pub variables: Vec<(&'static str, Vec<u8>)>,
    /// Rules that no layer of this run holds (`--best-effort`).
    pub unheld: Vec<String>,
    /// The /tmp of the run's own, where it has one.
    pub tmp: Option<OwnTmp>,
    /// The run's first process.
    pub process: ProcId,
    /// Start, nanoseconds since 1970.
    pub wall_ns: i64,
    /// Start, CLOCK_MONOTONIC nanoseconds.
    pub mono_ns: u64,
}

/// A command as it may be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The command, secrets cut out.
    pub command: Vec<Vec<u8>>,
    /// There were some.
    pub redacted: bool,
}

/// As many random bytes as a key or a nonce has, from the kernel itself: a chroot may have no /dev/urandom.
///
/// # Errors
/// As getrandom(2).
pub(super) fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // So few come whole, once the kernel has any.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())? {
        32 => Ok(bytes),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

impl RunStart {
    /// The command without the secrets in it.
    pub fn redacted_command(&self) -> Redacted {
        let mut command = self.command.clone();
        let redacted = redact::arguments(&mut command);
        Redacted { command, redacted }
    }

    /// The event, with everything that the format asks for.
    pub fn event(&self, bound: &Bound) -> std::io::Result<Event> {
        let nonce = random()?;

        let mut event = runner_event(EventType::RunStart, self.process);
        event.wall_ns = self.wall_ns;
        event.mono_ns = self.mono_ns;
        let mut text = |key, value: &[u8]| event.details.push((key, Value::Bytes(value.to_vec())));
        text(Key::Cwd, &self.cwd);
        text(Key::User, self.user.as_bytes());
        text(Key::Hostname, rustix::system::uname().nodename().to_bytes());
        text(Key::Kernel, rustix::system::uname().release().to_bytes());
        text(Key::MachineId, &first_line("/etc/machine-id"));
        text(Key::BootId, &first_line("/proc/sys/kernel/random/boot_id"));
        text(Key::Mode, self.mode.name().as_bytes());
        text(Key::Store, bound.trust.name().as_bytes());
        text(Key::Version, env!("CARGO_PKG_VERSION").as_bytes());
        text(Key::Nonce, hex(&nonce).as_bytes());
        text(Key::LedgerPrev, bound.ledger_prev.digits());
        if let Some((key, reach)) = &bound.key {
            text(Key::KeyId, key.as_str().as_bytes());
            text(Key::KeyReach, reach.name().as_bytes());
        }
        if let Some(policy) = &self.policy {
            text(Key::PolicyName, policy.name.as_bytes());
            text(Key::PolicySha256, policy.sha256.as_bytes());
        }
        let mut list = |key, items: Vec<Vec<u8>>| event.details.push((key, Value::List(items)));
        let Redacted { command, redacted } = self.redacted_command();
        list(Key::Command, command);
        let active = self.layers.iter().filter(|layer| layer.role != "off");
        list(Key::Layers, active.map(|layer| layer.name.clone().into_bytes()).collect());
        list(Key::Credentials, credentials(&self.environment, &self.home));
        let variables = self.variables.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat());
        list(Key::Variables, variables.collect());
        if !self.unheld.is_empty() {
            list(Key::Unheld, self.unheld.iter().map(|rule| rule.clone().into_bytes()).collect());
        }
        if let Some(tmp) = &self.tmp {
            let bytes =
                |paths: &[PathBuf]| paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
            list(Key::TmpPrivate, bytes(&tmp.private));
            list(Key::TmpKept, bytes(&tmp.kept));
        }
        if redacted {
            event.set(Key::CommandRedacted, Value::Flag(true));
        }
        event.set(Key::Uid, Value::Uint(self.uid.into()));
        Ok(event)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn first_line(path: &str) -> Vec<u8> {
    let text = std::fs::read(path).unwrap_or_default();
    text.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec()
}

/// Files below a home directory that hold secrets, by the tools that keep them there.
const CREDENTIAL_FILES: &[&str] = &[
    ".aws/credentials",
    ".aws/sso/cache",
    ".azure/msal_token_cache.json",
    ".cache/huggingface/token",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".claude.json",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".composer/auth.json",
    ".config/composer/auth.json",
    ".config/doctl/config.yaml",
    ".config/gcloud/access_tokens.db",
    ".config/gcloud/application_default_credentials.json",
    ".config/gcloud/credentials.db",
    ".config/gh/hosts.yml",
    ".config/git/credentials",
    ".config/github-copilot/apps.json",
    ".config/github-copilot/hosts.json",
    ".config/glab-cli/config.yml",
    ".config/google-chrome",
    ".config/helm/registry/config.json",
    ".config/hub",
    ".config/op",
    ".config/rclone/rclone.conf",
    ".config/sops/age/keys.txt",
    ".continue/config.json",
    ".databrickscfg",
    ".docker/config.json",
    ".gem/credentials",
    ".gemini/oauth_creds.json",
    ".git-credentials",
    ".gnupg/private-keys-v1.d",
    ".huggingface/token",
    ".kube/config",
    ".local/share/keyrings",
    ".local/share/opencode/auth.json",
    ".mozilla/firefox",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".ssh/id_dsa",
    ".ssh/id_ecdsa",
    ".ssh/id_ecdsa_sk",
    ".ssh/id_ed25519",
    ".ssh/id_ed25519_sk",
    ".ssh/id_rsa",
    ".terraform.d/credentials.tfrc.json",
    ".vault-token",
    ".yarnrc.yml",
];

/// Names of the secrets that the command can reach: `env:NAME` and `file:~/PATH`, ascending. Never a value.
fn credentials(environment: &[(OsString, OsString)], home: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = environment
        .iter()
        .filter(|(name, value)| !value.is_empty() && looks_secret(name.as_bytes(), value.as_bytes()))
        .map(|(name, _)| [b"env:", name.as_bytes()].concat())
        .collect();
    if !home.is_empty() {
        let home = Path::new(std::ffi::OsStr::from_bytes(home));
        let present = CREDENTIAL_FILES.iter().filter(|file| home.join(file).symlink_metadata().is_ok());
        names.extend(present.map(|file| format!("file:~/{file}").into_bytes()));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether the value of a variable is likely a secret, leads to one or has one in it: its name says so
/// (`GITHUB_TOKEN`, but not `TOKENIZERS_PARALLELISM`), or the value does (an address with a password).
fn looks_secret(name: &[u8], value: &[u8]) -> bool {
    redact::secrecy(name) != Secrecy::None || redact::arguments(&mut [b"env".to_vec(), value.to_vec()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_and_no_values() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), "value-of-file").unwrap();
        for agents in [".claude/.credentials.json", ".codex/auth.json", ".gemini/oauth_creds.json"] {
            let path = home.path().join(agents);
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(path, "value-of-file").unwrap();
        }
        std::fs::create_dir_all(home.path().join(".local/share/keyrings")).unwrap();
        let variables = [
            ("GITHUB_TOKEN", "value"),
            ("AWS_SECRET_ACCESS_KEY", "value"),
            ("PGPASSWORD", "value"),
            ("ANTHROPIC_API_KEY", "value"),
            ("SSH_AUTH_SOCK", "/run/value"),
            ("EMPTY_TOKEN", ""),
            ("DATABASE_URL", "postgres://ann:value@db/app"),
            ("GEMINI_API_KEY", "value"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/value.json"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "value"),
            ("HF_TOKEN", "value"),
            ("DOCS_URL", "https://example.org/"),
            ("MAX_THINKING_TOKENS", "1000"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("KEYBOARD", "us"),
            ("PATH", "/bin"),
            ("PWD", "/"),
        ];
        let environment: Vec<_> = variables.map(|(name, value)| (name.into(), value.into())).into();
        let found = credentials(&environment, home.path().as_os_str().as_bytes());
        let found: Vec<_> = found.iter().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(
            found,
            [
                "env:ANTHROPIC_API_KEY",
                "env:AWS_SECRET_ACCESS_KEY",
                "env:CLAUDE_CODE_OAUTH_TOKEN",
                "env:DATABASE_URL",
                "env:GEMINI_API_KEY",
                "env:GITHUB_TOKEN",
                "env:GOOGLE_APPLICATION_CREDENTIALS",
                "env:HF_TOKEN",
                "env:PGPASSWORD",
                "env:SSH_AUTH_SOCK",
                "file:~/.aws/credentials",
                "file:~/.claude/.credentials.json",
                "file:~/.codex/auth.json",
                "file:~/.gemini/oauth_creds.json",
                "file:~/.local/share/keyrings",
            ]
        );
    }
}
