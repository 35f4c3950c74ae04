//! What a policy says beside its rules, and what a run makes of it before the command starts.

use crate::attempt::{ACCES, Attempt, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::run::{complete, outside};
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::symlink;

pub const TRIALS: &[Trial] = &[
    ("environment", environment),
    ("what is not held", not_held),
    ("system calls", system_calls),
    ("limits", limits),
    ("limits that nothing holds", limits_not_held),
    ("time", time),
    ("a /tmp of its own", private_tmp),
    ("links at start", links),
    ("the run's own record and policy", guarded),
    ("other names of the record", guarded_elsewhere),
];

/// Variables are taken away and added in an enforced run, and nowhere else.
fn environment() -> Result<()> {
    let policy = write(
        "env.yaml",
        "version: 1\nname: env\nfiles: { default: allow }\nenv: { drop: [\"*\"], keep: [\"HO*\"], set: { CI: \"1\" } }\n",
    )?;
    let steps = ["env=HOME", "env=PATH", "env=CI"];
    let absent = -libc::ENOENT;
    let enforced = complete("env-enforced", &["--enforce", &policy], &steps)?;
    enforced.expect_code(0)?;
    ensure!(
        enforced.stdout == format!("env=HOME\t0\nenv=PATH\t{absent}\nenv=CI\t0\n"),
        "{}",
        enforced.stdout
    );
    let audited = complete("env-audited", &["--audit-only", "--policy", &policy], &steps)?;
    audited.expect_code(0)?;
    ensure!(audited.stdout == format!("env=HOME\t0\nenv=PATH\t0\nenv=CI\t{absent}\n"), "{}", audited.stdout);
    Ok(())
}

/// Settings that nothing holds refuse, by name.
fn not_held() -> Result<()> {
    let with = |name: &str, setting: &str| {
        let text = format!("version: 1\nname: unheld\nfiles: {{ default: allow }}\n{setting}\n");
        let policy = write(&format!("{name}.yaml"), &text)?;
        complete(name, &["--enforce", &policy], &["read=/etc/passwd"])
    };
    let refused = with("unheld-observe", "observe: { fold: true }")?;
    refused.expect_code(125)?;
    ensure!(refused.stderr.contains("unheld/observe"), "{}", refused.stderr);
    // Where hooks hold it asks for nothing more.
    with("held-landlock", "landlock: auto")?.expect_code(0)
}

/// The filter of each level, beside the hooks: what each closes fails with EPERM, what it leaves as outside of a run.
fn system_calls() -> Result<()> {
    let steps = ["userfaultfd=1", "kcmp=1", "io-cancel=1", "getpid=1", "chroot=/", "read=/etc/passwd"];
    let answers = outside(&steps)?;
    let outside: Vec<&str> = answers.lines().collect();
    ensure!(!answers.contains(&format!("\t{}\n", -libc::EPERM)), "{answers}");
    // How many of the first three each closes.
    let deny = "{ deny: [userfaultfd, kcmp, io_cancel] }";
    let levels = [("off", 0), ("default", 1), ("strict", 3), (deny, 3)];
    for (number, (level, closed)) in levels.into_iter().enumerate() {
        let text = format!("version: 1\nname: calls\nfiles: {{ default: allow }}\nsyscalls: {level}\n");
        let policy = write(&format!("calls-{number}.yaml"), &text)?;
        let options = ["--enforce", &policy, "--require", "lsm"];
        let held = complete(&format!("calls-{number}"), &options, &steps)?;
        held.expect_code(0)?;
        let refused = |at: usize| at < closed || steps[at].starts_with("chroot=");
        let expected: String = (0..steps.len())
            .map(|at| match refused(at) {
                true => format!("{}\t{}\n", steps[at], -libc::EPERM),
                false => format!("{}\n", outside[at]),
            })
            .collect();
        ensure!(held.stdout == expected, "{level}: {}", held.stdout);
        held.expect_verdict(0)?;
        let meta: serde_json::Value = serde_json::from_slice(&fs::read(held.dir.join("meta.json"))?)?;
        let filter =
            meta["layers"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "seccomp"));
        let checks = filter.and_then(|filter| filter["selftest"].as_array());
        let checks = checks.with_context(|| format!("no filter in {meta}"))?;
        ensure!(checks.len() >= 10 && checks.iter().all(|check| check["result"] == "held"), "{checks:?}");
    }
    // What `kernel` allows is in the list of `strict` too.
    let strict = write(
        "calls-open.yaml",
        "version: 1\nname: calls\nfiles: { default: allow }\nsyscalls: strict\n\
                                           kernel: { allow: [chroot, userns] }\n",
    )?;
    let open =
        complete("calls-open", &["--enforce", &strict, "--require", "lsm"], &["chroot=/", "userns=1"])?;
    ensure!(open.stdout == "chroot=/\t0\nuserns=1\t0\n", "{}", open.stdout);
    Ok(())
}

/// Limits of the whole run hold for root too, who cannot leave the groups that hold them.
fn limits() -> Result<()> {
    let steps = ["many=60", "memory=120", "write=/sys/fs/cgroup/cgroup.procs"];
    ensure!(outside(&steps)? == format!("{}\t0\n{}\t0\n{}\t0\n", steps[0], steps[1], steps[2]));
    let policy = write(
        "limits.yaml",
        "version: 1\nname: limits\nfiles: { default: allow }\nlimits: { processes: 30, memory: 64MiB, cpu: 90% }\n",
    )?;
    let held = complete("limits", &["--enforce", &policy, "--require", "lsm"], &steps)?;
    held.expect_code(0)?;
    let answers = [-libc::EAGAIN, -libc::EIO, -libc::EPERM];
    let expected: String =
        steps.iter().zip(answers).map(|(step, answer)| format!("{step}\t{answer}\n")).collect();
    ensure!(held.stdout == expected, "{}", held.stdout);
    held.expect_verdict(0)?;
    // Who only records limits nothing.
    let audited = complete("limits-audited", &["--audit-only", "--policy", &policy], &steps[..2])?;
    ensure!(audited.stdout == format!("{}\t0\n{}\t0\n", steps[0], steps[1]), "{}", audited.stdout);
    Ok(())
}

/// With hooks too, a run may have a /tmp that nobody outside sees; what rules say of names in it holds inside.
fn private_tmp() -> Result<()> {
    let policy = write(
        "tmp.yaml",
        "version: 1\nname: own\nfiles:\n  default: allow\n  rules:\n    \
         - { name: closed, deny: [create], path: [\"/tmp/closed*\"] }\ntmp: private\n",
    )?;
    let (outside, inside) = ("/tmp/private-outside", "/tmp/private-inside");
    fs::write(outside, "")?;
    let steps = ["read=/tmp/private-outside", "create=/tmp/private-inside", "create=/tmp/closed-inside"];
    let held = complete("tmp", &["--enforce", &policy, "--require", "lsm"], &steps)?;
    held.expect_code(0)?;
    let answers = [-libc::ENOENT, 0, -libc::EACCES];
    let expected: String =
        steps.iter().zip(answers).map(|(step, answer)| format!("{step}\t{answer}\n")).collect();
    ensure!(held.stdout == expected, "{}", held.stdout);
    ensure!(!fs::exists(inside)?, "what the run made in its /tmp is outside");
    let log = fs::read_to_string(held.dir.join("events.jsonl"))?;
    let denied = log.lines().filter(|line| line.contains("\"action\": \"BLOCKED\""));
    let denied: Vec<&str> = denied.filter(|line| line.contains("\"path\": \"/tmp/closed-inside\"")).collect();
    ensure!(denied.len() == 1 && denied[0].contains("\"policy_rule\": \"own/closed\""), "{denied:?}");
    ensure!(log.contains("\"tmp_private\": [\"/dev/shm\""), "the start does not tell of it");
    held.expect_verdict(0)?;
    // Who only records keeps the machine's.
    let audited = complete("tmp-audited", &["--audit-only", "--policy", &policy], &steps)?;
    let expected: String = steps.iter().map(|step| format!("{step}\t0\n")).collect();
    ensure!(audited.stdout == expected && fs::exists(inside)?, "{}", audited.stdout);
    for path in [outside, inside, "/tmp/closed-inside"] {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Where the policy lets root write to control groups, or the kernel gives the controller to none, a run does not start.
fn limits_not_held() -> Result<()> {
    let text = |more: &str| {
        format!("version: 1\nname: unheld\nfiles: {{ default: allow }}\nlimits: {{ processes: 30 }}\n{more}")
    };
    let open = write("limits-open.yaml", &text("kernel: { allow: [sysctl-write] }\n"))?;
    let refused = complete("limits-open", &["--enforce", &open], &["read=/etc/passwd"])?;
    refused.expect_code(125)?;
    ensure!(refused.stderr.contains("the policy allows `sysctl-write`"), "{}", refused.stderr);
    const GIVEN: &str = "/sys/fs/cgroup/cgroup.subtree_control";
    let policy = write("limits-none.yaml", &text(""))?;
    fs::write(GIVEN, "-pids")?;
    let refused = complete("limits-none", &["--enforce", &policy], &["read=/etc/passwd"]);
    fs::write(GIVEN, "+pids")?;
    let refused = refused?;
    refused.expect_code(125)?;
    for said in ["section `unheld/limits` limits `processes`", "has the controller pids"] {
        ensure!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    complete("limits-given", &["--enforce", &policy], &["read=/etc/passwd"])?.expect_code(0)
}

/// A run whose time is over is ended, with all that is in it, and its record is whole.
fn time() -> Result<()> {
    let policy =
        write("time.yaml", "version: 1\nname: time\nfiles: { default: allow }\nlimits: { time: 2s }\n")?;
    let ended = complete("time", &["--enforce", &policy, "--require", "lsm"], &["wait=/nowhere"])?;
    ended.expect_code(124)?;
    ensure!(ended.stderr.contains("its time is over (`limits`: 2s)"), "{}", ended.stderr);
    ended.expect_verdict(0)
}

/// A rule through a symbolic link holds for what the link led to at the start, also by its own name; where the link
/// leads later changes nothing.
fn links() -> Result<()> {
    const RULE: &str = "links/behind";
    const TABLE: &[Attempt] = &[
        denied("read=/srv/link/file", "file_open", ("path", "/srv/target/file"), ACCES, RULE),
        denied("read=/srv/target/file", "file_open", ("path", "/srv/target/file"), ACCES, RULE),
        allowed("unlink=/srv/link", "file_delete", ("path", "/srv/link")),
        allowed("symlink=/srv/link", "file_symlink", ("path", "/srv/link")),
        denied("openat2=/srv/target/file", "file_open", ("path", "/srv/target/file"), ACCES, RULE),
        allowed("read=/srv/other/file", "file_open", ("path", "/srv/other/file")),
    ];
    for place in ["/srv/target", "/srv/other"] {
        fs::create_dir_all(place)?;
        fs::write(format!("{place}/file"), "content")?;
    }
    symlink("target", "/srv/link")?;
    let policy = write(
        "links.yaml",
        "version: 1\nname: links\nfiles:\n  default: allow\n  rules:\n    - { name: behind, deny: [read], path: [\"/srv/link/**\"] }\n",
    )?;
    let finished = complete("links", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}

/// The command, though root, changes neither its record nor its policy, whatever that says; others it does.
fn guarded() -> Result<()> {
    const RECORD: &str = "runner/record";
    const POLICY: &str = "runner/policy";
    const TABLE: &[Attempt] = &[
        denied(
            "write=/tmp/trial/guarded/events.jsonl",
            "file_open",
            ("path", "/tmp/trial/guarded/events.jsonl"),
            ACCES,
            RECORD,
        ),
        denied(
            "unlink=/tmp/trial/guarded/meta.json",
            "file_delete",
            ("path", "/tmp/trial/guarded/meta.json"),
            ACCES,
            RECORD,
        ),
        denied(
            "create=/tmp/trial/guarded/more",
            "file_create",
            ("path", "/tmp/trial/guarded/more"),
            ACCES,
            RECORD,
        ),
        denied(
            "rename=/tmp/trial/guarded,/tmp/trial/elsewhere",
            "file_rename",
            ("path", "/tmp/trial/guarded"),
            ACCES,
            RECORD,
        ),
        allowed("read=/tmp/trial/guarded/meta.json", "file_open", ("path", "/tmp/trial/guarded/meta.json")),
        denied("write=/tmp/trial/own.yaml", "file_open", ("path", "/tmp/trial/own.yaml"), ACCES, POLICY),
        denied("unlink=/tmp/trial/own.yaml", "file_delete", ("path", "/tmp/trial/own.yaml"), ACCES, POLICY),
        denied("write=/tmp/trial/below.yaml", "file_open", ("path", "/tmp/trial/below.yaml"), ACCES, POLICY),
        allowed("write=/tmp/trial/other.yaml", "file_open", ("path", "/tmp/trial/other.yaml")),
        allowed("unlink=/tmp/trial/other.yaml", "file_delete", ("path", "/tmp/trial/other.yaml")),
    ];
    write("below.yaml", "version: 1\nname: below\nfiles: { default: allow }\n")?;
    write("other.yaml", "version: 1\nname: other\n")?;
    let policy = write("own.yaml", "version: 1\nname: own\nextends: [./below.yaml]\n")?;
    let finished = complete("guarded", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    finished.expect_verdict(0)
}

/// Another mount shows the record, and a link leads to the policy: both are closed as well.
fn guarded_elsewhere() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    for place in ["/srv/records", "/srv/shown", "/srv/policies"] {
        fs::create_dir_all(place)?;
    }
    mount(Some("/srv/records"), "/srv/shown", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    symlink("/srv/policies", "/srv/to-policies")?;
    fs::write("/srv/policies/p.yaml", "version: 1\nname: p\nfiles: { default: allow }\n")?;
    fs::write("/srv/records/other", "")?;
    let steps = [
        "write=/srv/shown/run/events.jsonl",
        "unlink=/srv/shown/run/meta.json",
        "unlink=/srv/to-policies",
        "write=/srv/policies/p.yaml",
        "write=/srv/shown/other",
    ];
    let mut command = std::process::Command::new(crate::run::SANDBOX);
    command.args([
        "run",
        "--enforce",
        "/srv/to-policies/p.yaml",
        "--run-dir",
        "/srv/records/run",
        "--",
        crate::run::PROBE,
    ]);
    let output = command.args(steps).output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let expected: String = steps
        .iter()
        .zip([ACCES, ACCES, ACCES, ACCES, 0])
        .map(|(step, errno)| format!("{step}\t{errno}\n"))
        .collect();
    ensure!(stdout == expected, "{stdout}{stderr}");
    Ok(())
}
