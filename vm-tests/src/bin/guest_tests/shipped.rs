//! The policies that ship, each in a real enforced run: what it closes is closed, and the same kind of act beside it
//! works.

use crate::attempt::{
    ACCES, Attempt, PERM, Treatment, allowed, denied, expect_answers, expect_events, steps,
};
use crate::run::{PROBE, complete};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

pub const TRIALS: &[Trial] = &[
    ("base", base),
    ("readonly", readonly),
    ("offline", offline),
    ("strict", strict),
    ("coding-agent", coding_agent),
    ("coding-agent-strict", coding_agent_strict),
    ("ci-job", ci_job),
];

macro_rules! shipped {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../policies/", $name, ".yaml")))
    };
}

const FIRST: (&str, &str) = ("dst_ip", "127.0.0.1");
const PASSWD: (&str, &str) = ("path", "/etc/passwd");
const SHADOW: (&str, &str) = ("path", "/etc/shadow");

const fn at(path: &'static str) -> (&'static str, &'static str) {
    ("path", path)
}

/// Enforces the policy over the attempts of the table, with somebody who answers on loopback.
fn holds((name, text): (&str, &str), table: &[Attempt]) -> Result<()> {
    let _stream = TcpListener::bind(("127.0.0.1", 9001)).context("cannot listen")?;
    let _datagrams = UdpSocket::bind(("127.0.0.1", 9002)).context("cannot bind")?;
    let policy = write(&format!("{name}.yaml"), text)?;
    let options = ["--enforce", &policy, "--require", "lsm", "--workspace", WORKSPACE];
    let finished = complete(name, &options, &steps(table))?;
    finished.expect_code(0)?;
    expect_answers(table, Treatment::Enforced, &finished.stdout)?;
    expect_events(table, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}

const WORKSPACE: &str = "/srv/work";

/// Makes files, and the directories that they are in.
fn make(files: &[&str]) -> Result<()> {
    fs::create_dir_all(WORKSPACE)?;
    for file in files {
        let parent = Path::new(file).parent().context("a file lies somewhere")?;
        fs::create_dir_all(parent)?;
        fs::write(file, "content").with_context(|| format!("cannot make {file}"))?;
    }
    Ok(())
}

fn base() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied("read=/etc/shadow", "file_open", SHADOW, ACCES, "base/credentials"),
        allowed("read=/etc/passwd", "file_open", PASSWD),
        denied(
            "read=/root/.aws/credentials",
            "file_open",
            at("/root/.aws/credentials"),
            ACCES,
            "base/credentials",
        ),
        allowed("read=/root/.aws-notes", "file_open", at("/root/.aws-notes")),
        denied("create=/root/.bashrc", "file_create", at("/root/.bashrc"), ACCES, "base/persistence"),
        allowed("create=/root/notes", "file_create", at("/root/notes")),
        denied(
            "write=/srv/work/.git/config",
            "file_open",
            at("/srv/work/.git/config"),
            ACCES,
            "base/git-code",
        ),
        allowed("read=/srv/work/.git/config", "file_open", at("/srv/work/.git/config")),
        denied(
            "create=/srv/work/.git/commondir",
            "file_create",
            at("/srv/work/.git/commondir"),
            ACCES,
            "base/git-code",
        ),
        // git worktree add
        allowed(
            "create=/srv/work/.git/worktrees/side/commondir",
            "file_create",
            at("/srv/work/.git/worktrees/side/commondir"),
        ),
        denied(
            "write=/proc/sys/kernel/core_pattern",
            "file_open",
            at("/proc/sys/kernel/core_pattern"),
            PERM,
            "base/kernel.default",
        ),
        allowed("read=/proc/sys/kernel/core_pattern", "file_open", at("/proc/sys/kernel/core_pattern")),
        denied("read=/dev/mem", "file_open", at("/dev/mem"), PERM, "base/kernel.default"),
        allowed("read=/dev/zero", "file_open", at("/dev/zero")),
        denied(
            "unlink=/run/docker.sock",
            "file_delete",
            at("/run/docker.sock"),
            ACCES,
            "base/sockets-elsewhere",
        ),
        allowed("unlink=/run/other.sock", "file_delete", at("/run/other.sock")),
        denied(
            "connect-tcp=169.254.169.254:80",
            "net_connect",
            ("dst_ip", "169.254.169.254"),
            PERM,
            "base/cloud-metadata",
        ),
        allowed("connect-tcp=127.0.0.1:9001", "net_connect", FIRST),
    ];
    make(&[
        "/root/.aws/credentials",
        "/root/.aws-notes",
        "/srv/work/.git/config",
        "/srv/work/.git/worktrees/side/HEAD",
        "/run/docker.sock",
        "/run/other.sock",
    ])?;
    holds(shipped!("base"), TABLE)?;
    ensure!(
        Path::new("/run/docker.sock").exists() && !Path::new("/root/.bashrc").exists(),
        "it was only said"
    );
    Ok(())
}

fn readonly() -> Result<()> {
    const RULE: &str = "readonly/unchanged";
    const TABLE: &[Attempt] = &[
        denied("write=/srv/work/file", "file_open", at("/srv/work/file"), ACCES, RULE),
        allowed("read=/srv/work/file", "file_open", at("/srv/work/file")),
        denied("create=/srv/work/new", "file_create", at("/srv/work/new"), ACCES, RULE),
        allowed("create=/tmp/new", "file_create", at("/tmp/new")),
        denied("unlink=/srv/work/file", "file_delete", at("/srv/work/file"), ACCES, RULE),
        allowed("unlink=/tmp/new", "file_delete", at("/tmp/new")),
        denied("mkdir=/srv/work/dir", "dir_create", at("/srv/work/dir"), ACCES, RULE),
        denied(
            "rename=/var/tmp/readonly,/srv/work/moved",
            "file_rename",
            at("/var/tmp/readonly"),
            ACCES,
            RULE,
        ),
        denied("read=/etc/shadow", "file_open", SHADOW, ACCES, "base/credentials"),
        allowed("write=/dev/null", "file_open", at("/dev/null")),
        allowed("connect-tcp=127.0.0.1:9001", "net_connect", FIRST),
    ];
    make(&["/srv/work/file", "/var/tmp/readonly"])?;
    holds(shipped!("readonly"), TABLE)?;
    ensure!(fs::read("/srv/work/file")? == b"content", "what was denied was done");
    ensure!(!Path::new("/srv/work/moved").exists(), "what was denied was done");
    Ok(())
}

fn offline() -> Result<()> {
    const RULE: &str = "offline/loopback-only";
    const TABLE: &[Attempt] = &[
        denied("connect-tcp=192.0.2.1:443", "net_connect", ("dst_ip", "192.0.2.1"), PERM, RULE),
        allowed("connect-tcp=127.0.0.1:9001", "net_connect", FIRST),
        denied("connect-tcp=[2001:db8::1]:443", "net_connect", ("dst_ip", "2001:db8::1"), PERM, RULE),
        denied("udp=192.0.2.53:53", "net_send", ("dst_ip", "192.0.2.53"), PERM, RULE),
        allowed("udp=127.0.0.1:9002", "net_send", FIRST),
        denied("read=/etc/shadow", "file_open", SHADOW, ACCES, "base/credentials"),
        allowed("create=/srv/work/offline", "file_create", at("/srv/work/offline")),
    ];
    make(&[])?;
    holds(shipped!("offline"), TABLE)
}

fn strict() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied("read=/srv/other/file", "file_open", at("/srv/other/file"), ACCES, "strict/files.default"),
        allowed("read=/srv/work/file", "file_open", at("/srv/work/file")),
        denied("create=/srv/other/new", "file_create", at("/srv/other/new"), ACCES, "strict/files.default"),
        allowed("create=/srv/work/strict", "file_create", at("/srv/work/strict")),
        denied("read=/etc/image", "file_open", at("/etc/image"), ACCES, "strict/files.default"),
        allowed("read=/etc/passwd", "file_open", PASSWD),
        denied("read=/etc/shadow", "file_open", SHADOW, ACCES, "base/credentials"),
        denied("run=/srv/other/tool", "exec", ("exe", "/srv/other/tool"), ACCES, "strict/exec.default"),
        allowed("run=/srv/work/tool", "exec", ("exe", "/srv/work/tool")),
        denied("run=/usr/bin/sudo", "exec", ("exe", "/usr/bin/sudo"), ACCES, "strict/other-identities"),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
        denied("connect-tcp=127.0.0.1:9001", "net_connect", FIRST, PERM, "strict/network.default"),
        denied("udp=127.0.0.1:9002", "net_send", FIRST, PERM, "strict/network.default"),
    ];
    make(&["/srv/other/file", "/srv/work/file", "/etc/image"])?;
    for copy in ["/srv/other/tool", "/srv/work/tool", "/usr/bin/sudo"] {
        fs::copy(PROBE, copy).with_context(|| format!("cannot make {copy}"))?;
    }
    holds(shipped!("strict"), TABLE)
}

/// Names of hosts in a guest without a resolver: nothing is ever opened by them, and the rest holds.
fn coding_agent() -> Result<()> {
    const CLOSED: &str = "coding-agent/network.default";
    const TABLE: &[Attempt] = &[
        denied(
            "read=/srv/other/file",
            "file_open",
            at("/srv/other/file"),
            ACCES,
            "coding-agent/files.default",
        ),
        allowed("read=/srv/work/file", "file_open", at("/srv/work/file")),
        denied("connect-tcp=192.0.2.1:443", "net_connect", ("dst_ip", "192.0.2.1"), PERM, CLOSED),
        denied("connect-tcp=127.0.0.1:9001", "net_connect", FIRST, PERM, CLOSED),
        allowed("serve=127.0.0.1:3000", "net_listen", ("src_ip", "127.0.0.1")),
        denied("bind-tcp=0.0.0.0:80", "net_bind", ("src_ip", "0.0.0.0"), PERM, CLOSED),
        denied(
            "connect-tcp=169.254.169.254:80",
            "net_connect",
            ("dst_ip", "169.254.169.254"),
            PERM,
            "base/cloud-metadata",
        ),
        denied("unix-stream=/run/docker.sock", "net_connect", at("/run/docker.sock"), PERM, DOCKER),
        // Of a repository that was there; one that is made is the run's own.
        denied(
            "write=/srv/work/old/.git/config",
            "file_open",
            at("/srv/work/old/.git/config"),
            ACCES,
            "coding-agent/git-settings",
        ),
        denied(
            "create=/srv/work/old/.git/hooks/new",
            "file_create",
            at("/srv/work/old/.git/hooks/new"),
            ACCES,
            "coding-agent/git-hooks",
        ),
        allowed("mkdir=/srv/work/.git", "dir_create", at("/srv/work/.git")),
        allowed("create=/srv/work/.git/config", "file_create", at("/srv/work/.git/config")),
        denied("run=/usr/bin/su", "exec", ("exe", "/usr/bin/su"), ACCES, "coding-agent/other-identities"),
        allowed("run=/usr/bin/other", "exec", ("exe", "/usr/bin/other")),
        denied("run=/srv/other/tool", "exec", ("exe", "/srv/other/tool"), ACCES, "coding-agent/exec.default"),
        allowed("read=/srv/work/.env", "file_open", at("/srv/work/.env")),
    ];
    /// The first by name of the rules that close it, in `files` and in `network`.
    const DOCKER: &str = "base/sockets-elsewhere";
    let _ = fs::remove_dir_all("/srv/work/.git");
    make(&[
        "/srv/other/file",
        "/srv/work/file",
        "/srv/work/.env",
        "/srv/work/old/.git/config",
        "/srv/work/old/.git/hooks/sample",
    ])?;
    for copy in ["/srv/other/tool", "/usr/bin/su", "/usr/bin/other"] {
        fs::copy(PROBE, copy).with_context(|| format!("cannot make {copy}"))?;
    }
    let _ = fs::remove_file("/run/docker.sock");
    let _docker = std::os::unix::net::UnixListener::bind("/run/docker.sock").context("docker.sock")?;
    holds(shipped!("coding-agent"), TABLE)
}

/// What only hooks hold: names wherever they turn up, and unix sockets one by one.
fn coding_agent_strict() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(
            "read=/srv/work/.env",
            "file_open",
            at("/srv/work/.env"),
            ACCES,
            "coding-agent-strict/passwords",
        ),
        allowed("read=/srv/work/.env.example", "file_open", at("/srv/work/.env.example")),
        denied(
            "create=/srv/work/new/.git/config",
            "file_create",
            at("/srv/work/new/.git/config"),
            ACCES,
            "base/git-code",
        ),
        allowed("create=/srv/work/new/.git/HEAD", "file_create", at("/srv/work/new/.git/HEAD")),
        denied(
            "create=/srv/work/new/.envrc",
            "file_create",
            at("/srv/work/new/.envrc"),
            ACCES,
            "coding-agent-strict/agent-hooks",
        ),
        denied(
            "run=/srv/work/ngrok",
            "exec",
            ("exe", "/srv/work/ngrok"),
            ACCES,
            "coding-agent-strict/no-tunnels",
        ),
        allowed("run=/srv/work/tool", "exec", ("exe", "/srv/work/tool")),
        denied("unix-stream=/run/docker.sock", "net_connect", at("/run/docker.sock"), PERM, DOCKER),
        allowed("unix-serve=/srv/work/test.sock", "net_listen", at("/srv/work/test.sock")),
        allowed("unix-stream=/srv/work/test.sock", "net_connect", at("/srv/work/test.sock")),
        // Sockets may be reached in both places: what a directory may hold keeps it from moving in none.
        allowed("rename=/srv/work/dir,/srv/work/moved", "file_rename", at("/srv/work/dir")),
        allowed("rename=/tmp/dir,/tmp/moved", "file_rename", at("/tmp/dir")),
    ];
    const DOCKER: &str = "base/sockets-elsewhere";
    let _ = fs::remove_dir_all("/srv/work/new");
    let _ = fs::remove_dir_all("/srv/work/moved");
    let _ = fs::remove_dir_all("/tmp/moved");
    make(&[
        "/srv/work/.env",
        "/srv/work/.env.example",
        "/srv/work/new/.git/sample",
        "/srv/work/dir/file",
        "/tmp/dir/file",
    ])?;
    for copy in ["/srv/work/ngrok", "/srv/work/tool"] {
        fs::copy(PROBE, copy).with_context(|| format!("cannot make {copy}"))?;
    }
    let _ = fs::remove_file("/run/docker.sock");
    let _docker = std::os::unix::net::UnixListener::bind("/run/docker.sock").context("docker.sock")?;
    holds(shipped!("coding-agent-strict"), TABLE)
}

fn ci_job() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(
            "connect-tcp=192.0.2.1:443",
            "net_connect",
            ("dst_ip", "192.0.2.1"),
            PERM,
            "ci-job/network.default",
        ),
        allowed("serve=127.0.0.1:3001", "net_listen", ("src_ip", "127.0.0.1")),
        allowed("connect-tcp=127.0.0.1:3001", "net_connect", FIRST),
        denied("read=/etc/shadow", "file_open", SHADOW, ACCES, "base/credentials"),
        allowed("create=/srv/work/out", "file_create", at("/srv/work/out")),
    ];
    make(&[])?;
    holds(shipped!("ci-job"), TABLE)
}
