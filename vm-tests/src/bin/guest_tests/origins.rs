//! Files by other ways than the name that a rule denies: hard links from before the run, descriptors from outside,
//! handles, deleted names, paths too long to judge.

use crate::attempt::{ACCES, Attempt, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::log::{show, text};
use crate::run::{self, PROBE, SANDBOX, complete};
use crate::{Trial, WORK, write};
use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::{self, File};
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub const TRIALS: &[Trial] = &[
    ("hard links from before", hard_links),
    ("inherited descriptors", inherited),
    ("standard descriptors", standard),
    ("received descriptors", received),
    ("without a name to go by", nameless),
    ("what runs later", persistence),
];

/// Where the files are; made afresh for each trial.
const PLACE: &str = "/tmp/trial/o";

const POLICY: &str = r#"
version: 1
name: origins
files:
  default: allow
  rules:
    - name: vault
      deny: [read, write, attributes]
      path: ["/tmp/trial/o/vault/**", "/tmp/trial/o/secret"]
      because: it is closed
    - { name: anywhere, deny: [read], path: ["**/*.pem"] }
exec:
  default: allow
  rules:
    - { name: no-tool, deny: [run], path: ["/tmp/trial/o/tools/*"] }
network:
  default: allow
  rules:
    - { name: no-second, deny: [connect], to: ["127.0.0.2"] }
"#;
const VAULT: &str = "origins/vault";
const TOOL: &str = "origins/no-tool";

macro_rules! at {
    ($name:literal) => {
        ("path", concat!("/tmp/trial/o/", $name))
    };
}
macro_rules! step {
    ($word:literal $one:literal) => {
        concat!($word, "=/tmp/trial/o/", $one)
    };
}

fn set_up() -> Result<String> {
    let place = Path::new(PLACE);
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    for directory in ["vault/inner", "tools", "open"] {
        fs::create_dir_all(place.join(directory))?;
    }
    for file in ["vault/inner/file", "vault/single", "secret", "plain", "gone", "open/gone"] {
        fs::write(place.join(file), "content").with_context(|| format!("cannot make {file}"))?;
    }
    for tool in ["tools/tool", "open/tool"] {
        fs::copy(PROBE, place.join(tool)).with_context(|| format!("cannot make {tool}"))?;
    }
    for (file, alias) in [
        ("vault/inner/file", "alias"),
        ("secret", "alias2"),
        ("plain", "alias3"),
        ("tools/tool", "alias-tool"),
        ("open/tool", "alias-tool2"),
    ] {
        fs::hard_link(place.join(file), place.join(alias)).with_context(|| format!("cannot link {file}"))?;
    }
    write("origins.yaml", POLICY)
}

/// What is denied by one name is denied by each that the file had when the run began.
fn hard_links() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(step!("read" "alias"), "file_open", at!("alias"), ACCES, VAULT),
        denied(step!("write" "alias"), "file_open", at!("alias"), ACCES, VAULT),
        denied(step!("truncate" "alias"), "file_truncate", at!("alias"), ACCES, VAULT),
        denied(step!("chmod" "alias"), "file_mode", at!("alias"), ACCES, VAULT),
        denied(step!("utimes" "alias"), "file_times", at!("alias"), ACCES, VAULT),
        denied(step!("read" "alias2"), "file_open", at!("alias2"), ACCES, VAULT),
        allowed(step!("read" "alias3"), "file_open", at!("alias3")),
        allowed(step!("write" "alias3"), "file_open", at!("alias3")),
        allowed(step!("utimes" "alias3"), "file_times", at!("alias3")),
        // Of an exec `target` is told in the first place.
        denied(step!("run" "alias-tool"), "exec", at!("tools/tool"), ACCES, TOOL),
        allowed(step!("run" "alias-tool2"), "exec", at!("alias-tool2")),
        denied(step!("load" "alias-tool"), "file_load", at!("alias-tool"), ACCES, TOOL),
        // Removing the closed name opens nothing.
        allowed(step!("unlink" "secret"), "file_delete", at!("secret")),
        denied(step!("read" "alias2"), "file_open", at!("alias2"), ACCES, VAULT),
    ];
    let policy = set_up()?;
    expect_answers(TABLE, Treatment::Observed, &run::outside(&steps(TABLE))?).context("outside the run")?;
    set_up()?;
    let finished = complete("hard-links", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let log = finished.log()?;
    expect_events(TABLE, Treatment::Enforced, &log)?;
    let events = log.events()?;
    let first =
        events.iter().find(|event| text(event, "action") == "BLOCKED").context("nothing was blocked")?;
    let told =
        text(first, "target") == "/tmp/trial/o/vault/inner/file" && text(first, "because") == "it is closed";
    ensure!(told, "the denied name is not told:{}", show(first));
    ensure!(fs::read(Path::new(PLACE).join("alias"))? == b"content", "the file is not as it was");
    ensure!(finished.stderr.contains("**/*.pem"), "what was not looked at is not told: {}", finished.stderr);
    let not_looked_at =
        finished.stderr.lines().find(|line| line.contains("not looked at")).unwrap_or_default();
    ensure!(!not_looked_at.contains("vault"), "what was looked at is told: {}", finished.stderr);
    set_up()?;
    let finished = complete("hard-links-audited", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)
}

/// A file that was open before is not open inside.
fn inherited() -> Result<()> {
    let policy = set_up()?;
    let attempt = |name: &str, options: &[&str]| -> Result<String> {
        let file = File::open("/etc/shadow")?;
        let mut command = Command::new(SANDBOX);
        command.arg("run").args(options).arg("--run-dir").arg(Path::new(WORK).join(name)).arg("--");
        command.args([PROBE, "inherited=9"]).stdin(Stdio::null());
        // SAFETY: dup2 is async-signal-safe; the copy is not close-on-exec.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(file.as_raw_fd(), 9) < 0 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                }
            });
        }
        let output = command.output().context("cannot run sandbox")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let answer = attempt("inherited-audited", &["--policy", &policy])?;
    ensure!(answer == "inherited=9\t0\n", "an audit-only run changed something: {answer}");
    let answer = attempt("inherited", &["--enforce", &policy])?;
    ensure!(answer == "inherited=9\t-9\n", "the descriptor is open inside: {answer}");
    Ok(())
}

/// What the user redirects works, unless a rule denies just that.
fn standard() -> Result<()> {
    let policy = set_up()?;
    let attempt = |name: &str, input: &str, output: &str| -> Result<std::process::Output> {
        let open = |file: &str, write: bool| {
            File::options().read(!write).write(write).open(Path::new(PLACE).join(file))
        };
        let mut command = Command::new(SANDBOX);
        command.args(["run", "--enforce", &policy, "--run-dir"]).arg(Path::new(WORK).join(name)).arg("--");
        command.args([PROBE, "inherited=0"]);
        command.stdin(open(input, false)?).stdout(open(output, true)?);
        command.output().context("cannot run sandbox")
    };
    let good = attempt("redirected", "plain", "open/gone")?;
    ensure!(
        good.status.code() == Some(0),
        "a redirection was refused: {}",
        String::from_utf8_lossy(&good.stderr)
    );
    let answer = fs::read_to_string(Path::new(PLACE).join("open/gone"))?;
    ensure!(answer.starts_with("inherited=0\t0\n"), "redirections do not work: {answer}");
    for (name, input, output) in
        [("denied-input", "secret", "open/gone"), ("denied-output", "plain", "vault/single")]
    {
        let refused = attempt(name, input, output)?;
        let message = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(125), "{name}: not refused: {message}");
        ensure!(message.contains(VAULT), "{name}: the rule is not named: {message}");
        ensure!(!Path::new(WORK).join(name).exists(), "{name}: something was made");
    }
    ensure!(
        fs::read(Path::new(PLACE).join("vault/single"))? == b"content",
        "the denied file is not as it was"
    );
    Ok(())
}

/// Sends a descriptor to each that connects, as often as there are connections.
fn offer(name: &str, file: OwnedFd, times: usize) -> Result<()> {
    let path = Path::new(PLACE).join(name);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::thread::spawn(move || {
        for _ in 0..times {
            let Ok((stream, _)) = listener.accept() else { return };
            let files = [file.as_raw_fd()];
            let _ = sendmsg::<()>(
                stream.as_raw_fd(),
                &[IoSlice::new(b"x")],
                &[ControlMessage::ScmRights(&files)],
                MsgFlags::empty(),
                None,
            );
        }
    });
    Ok(())
}

/// A descriptor from a process outside is handed over where the file could be opened.
fn received() -> Result<()> {
    const MISSING: i32 = -libc::ENOMSG;
    const SECOND: (&str, &str) = ("dst_ip", "127.0.0.2");
    const TABLE: &[Attempt] = &[
        denied(step!("receive" "s-secret"), "file_receive", at!("secret"), MISSING, VAULT),
        allowed(step!("receive" "s-plain"), "none", at!("plain")),
        denied(step!("receive" "s-alias"), "file_receive", at!("alias"), MISSING, VAULT),
        denied(step!("receive" "s-second"), "net_connect", SECOND, MISSING, "origins/no-second"),
        allowed(step!("receive" "s-first"), "none", ("dst_ip", "127.0.0.1")),
        denied(
            step!("receive" "s-setting"),
            "file_open",
            ("path", "/proc/sys/kernel/hostname"),
            MISSING,
            "origins/kernel.default",
        ),
        allowed(step!("pass" "plain"), "none", at!("plain")),
        allowed("pass-own", "none", at!("")),
    ];
    let policy = set_up()?;
    let open = |name: &str| -> Result<OwnedFd> { Ok(File::open(Path::new(PLACE).join(name))?.into()) };
    let peers = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.2:0")?];
    let connected =
        |peer: &TcpListener| -> Result<OwnedFd> { Ok(TcpStream::connect(peer.local_addr()?)?.into()) };
    let setting = File::options().write(true).open("/proc/sys/kernel/hostname")?;
    for (name, file) in [
        ("s-secret", open("secret")?),
        ("s-plain", open("plain")?),
        ("s-alias", open("alias")?),
        ("s-first", connected(&peers[0])?),
        ("s-second", connected(&peers[1])?),
        ("s-setting", setting.into()),
    ] {
        offer(name, file, 3)?;
    }
    expect_answers(TABLE, Treatment::Observed, &run::outside(&steps(TABLE))?).context("outside the run")?;
    let finished = complete("received", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    let log = finished.log()?;
    let events = log.events()?;
    let blocked: Vec<_> = events.iter().filter(|event| text(event, "action") == "BLOCKED").collect();
    let denials: Vec<&Attempt> = TABLE.iter().filter(|attempt| attempt.denied.is_some()).collect();
    ensure!(blocked.len() == denials.len(), "{} of {} are recorded", blocked.len(), denials.len());
    for (event, attempt) in blocked.iter().zip(denials) {
        let (key, object) = attempt.object;
        let rule = attempt.denied.map(|(_, rule)| rule).unwrap_or_default();
        let right = text(event, "event_type") == attempt.event
            && text(event, key) == object
            && text(event, "policy_rule") == rule;
        ensure!(right, "{}: the record is{}", attempt.step, show(event));
    }
    let finished = complete("received-audited", &["--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)
}

/// Handles, names that are gone, paths that are too long, settled by the kernel's own object.
fn nameless() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(step!("handle" "vault/single"), "file_open", at!("vault/single"), ACCES, VAULT),
        allowed(step!("handle" "open/gone"), "file_open", at!("open/gone")),
        denied(step!("overwrite" "secret"), "file_open", at!("secret"), ACCES, VAULT),
        allowed(step!("overwrite" "plain"), "file_open", at!("plain")),
        // It has another name, so that it is not gone altogether.
        denied(step!("reopen-deleted" "secret"), "file_open", at!("secret"), ACCES, VAULT),
        allowed(step!("reopen-memfd" ""), "none", at!("")),
    ];
    let policy = set_up()?;
    let finished = complete("nameless-files", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(&TABLE[..TABLE.len() - 1], Treatment::Enforced, &finished.log()?)?;
    ensure!(fs::read(Path::new(PLACE).join("alias2"))? == b"content", "the file is not as it was");
    let deep = [step!("deep" "open")];
    ensure!(
        run::outside(&deep)? == format!("{}\t0\n", deep[0]),
        "the deep directories cannot be made outside"
    );
    set_up()?;
    let finished = complete("deep", &["--enforce", &policy], &deep)?;
    ensure!(finished.stdout == format!("{}\t{ACCES}\n", deep[0]), "too deep: {}", finished.stdout);
    let log = finished.log()?;
    let events = log.events()?;
    let told = |event: &&_| {
        text(event, "action") == "BLOCKED" && text(event, "reason") == "the path is too long to be judged"
    };
    ensure!(events.iter().any(|event| told(&event)), "no record says that the path is too long");
    Ok(())
}

/// Files that make something happen later, outside: hooks, profiles, the policy, the record.
fn persistence() -> Result<()> {
    const RULE: &str = "later/later";
    const TABLE: &[Attempt] = &[
        denied(
            step!("create" "repo/.git/hooks/pre-commit"),
            "file_create",
            at!("repo/.git/hooks/pre-commit"),
            ACCES,
            RULE,
        ),
        denied(
            "rename=/tmp/trial/o/plain,/tmp/trial/o/repo/.git/hooks/update",
            "file_rename",
            at!("plain"),
            ACCES,
            RULE,
        ),
        allowed(step!("create" "repo/.git/description"), "file_create", at!("repo/.git/description")),
        denied(step!("write" ".bashrc"), "file_open", at!(".bashrc"), ACCES, RULE),
        allowed(step!("read" ".bashrc"), "file_open", at!(".bashrc")),
        denied("write=/tmp/trial/later.yaml", "file_open", ("path", "/tmp/trial/later.yaml"), ACCES, RULE),
        denied(
            "write=/tmp/trial/later/events.jsonl",
            "file_open",
            ("path", "/tmp/trial/later/events.jsonl"),
            ACCES,
            RULE,
        ),
        denied(
            "unlink=/tmp/trial/later/meta.json",
            "file_delete",
            ("path", "/tmp/trial/later/meta.json"),
            ACCES,
            RULE,
        ),
    ];
    const POLICY: &str = r#"
version: 1
name: later
files:
  default: allow
  rules:
    - name: later
      deny: [write, create, delete]
      path: ["**/.git/hooks/**", "**/.bashrc", "/tmp/trial/later.yaml", "${RUN_DIR}/**"]
"#;
    set_up()?;
    fs::create_dir_all(Path::new(PLACE).join("repo/.git/hooks"))?;
    fs::write(Path::new(PLACE).join(".bashrc"), "")?;
    let policy = write("later.yaml", POLICY)?;
    let finished = complete("later", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}
