//! `sandbox policy`: is a policy right, what does it say in full, and what would it decide?
//!
//! Nothing is run and nothing is enforced here; the verdicts are the policy crate's.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use policy::compile::layers::{self, Plans};
use policy::compile::lsm;
use policy::{
    Access, AccessSet, Act, Decision, End, Note, Owner, Policy, Protocol, RuleName, SectionKind, Severity,
    Subject, Verdict,
};

use crate::cli::{PolicyCommand, PolicyEvalArgs};
use crate::exit::Exit;
use crate::launch::identity::{Sudo, Target};
use crate::launch::policy::{Surroundings, load};
use crate::review::text::safe;
use crate::sensor::HELD_BY_LSM;

/// Does what `command` asks for. Status 0: right, allowed. Status 1: a file is wrong; denied, or asked about.
///
/// # Errors
/// The policy is wrong (`show`, `eval`), an argument means nothing, or output cannot be written.
pub fn execute(command: &PolicyCommand) -> anyhow::Result<Exit> {
    match command {
        PolicyCommand::Check { files, workspace, strict } => {
            let mut exit = Exit::SUCCESS;
            for file in files {
                match read(file, workspace.as_deref()) {
                    Ok(policy) => {
                        let doubts = doubts(&policy);
                        for doubt in &doubts {
                            eprintln!("{doubt}");
                        }
                        if let Err(errors) = policy.check_examples() {
                            eprintln!("{errors}");
                            exit = Exit::FAILURE;
                            continue;
                        }
                        let warned = doubts.iter().any(|doubt| doubt.severity == Severity::Warning);
                        if *strict && warned {
                            exit = Exit::FAILURE;
                        }
                        print(&checked(file, &policy)?)?;
                    }
                    Err(error) => {
                        eprintln!("{error:#}");
                        exit = Exit::FAILURE;
                    }
                }
            }
            Ok(exit)
        }
        PolicyCommand::Show { file, workspace } => {
            print(&read(file, workspace.as_deref())?.effective_yaml())?;
            Ok(Exit::SUCCESS)
        }
        PolicyCommand::Eval(args) => {
            let policy = read(&args.file, args.workspace.as_deref())?;
            let (verdict, act) = evaluate(&policy, args)?;
            print(&(told(&verdict, &act) + &held(&policy, verdict.rule)?))?;
            Ok(if verdict.decision == Decision::Allow { Exit::SUCCESS } else { Exit::FAILURE })
        }
    }
}

/// The policy with the variables that a run from here would have.
pub(super) fn read(file: &Path, workspace: Option<&Path>) -> anyhow::Result<Policy> {
    let target = Target::resolve(None, &Sudo::from_environment())?;
    let current = std::env::current_dir().context("cannot read the current directory")?;
    // No run is made, so its directory has a name that no run gets.
    let run_dir = target.home.join(".sandbox/runs/RUN");
    Ok(load(file, Surroundings { target: &target, current: &current, workspace, run_dir: &run_dir })?)
}

/// What is valid, and may not be what was meant.
fn doubts(policy: &Policy) -> Vec<Note> {
    policy.notes().iter().cloned().chain(policy.warnings()).collect()
}

/// What `check` says of a policy without errors.
fn checked(file: &Path, policy: &Policy) -> anyhow::Result<String> {
    let plan = lsm::compile(&[policy], 0, &mut lsm::SetTable::new())?;
    let rules = policy.files().rules().len() + policy.exec().rules().len() + policy.network().rules().len();
    let mut text = format!(
        "{}: `{}` is right: {rules} {}, {} states\n",
        safe(file.as_os_str().as_bytes()),
        policy.name(),
        if rules == 1 { "rule" } else { "rules" },
        plan.states().iter().sum::<usize>(),
    );
    let unheld = plan.unheld(HELD_BY_LSM.into_iter().collect());
    if !unheld.is_empty() {
        text.push_str("  enforcing it refuses to start, also where the layer lsm works:\n");
    }
    for line in unheld {
        let _ = writeln!(text, "    {line}");
    }
    Ok(text)
}

/// The verdict on the attempt that the arguments describe, and its words.
fn evaluate<'p>(policy: &'p Policy, args: &PolicyEvalArgs) -> anyhow::Result<(Verdict<'p>, String)> {
    let exe = args.by.as_deref().map(resolved).transpose()?.unwrap_or_default();
    let subject = Subject { exe: exe.as_os_str().as_bytes(), ancestors: &[] };
    let judge = |act: &Act<'_>| policy::evaluate::judge(policy, &subject, act);
    if let Some(path) = &args.open {
        let path = resolved(path)?;
        let accesses = accesses(&args.access)?;
        let act = Act::File { accesses, path: path.as_os_str().as_bytes() };
        return Ok((judge(&act), format!("{accesses} {}", shown(&path))));
    }
    if let Some(path) = &args.run {
        let path = resolved(path)?;
        let act = Act::Exec { path: path.as_os_str().as_bytes(), sha256: None };
        return Ok((judge(&act), format!("run {}", shown(&path))));
    }
    let ends = [
        (Access::Connect, &args.connect),
        (Access::Send, &args.send),
        (Access::Bind, &args.bind),
        (Access::Listen, &args.listen),
    ];
    let Some((access, end)) = ends.into_iter().find_map(|(access, end)| Some((access, end.as_ref()?))) else {
        bail!("nothing to judge: give one of --open, --run, --connect, --send, --bind, --listen");
    };
    let (address, protocol) = socket_address(end)?;
    let (address, port) = (address.ip(), address.port());
    let end = End::Address { address, port, protocol, names: &[], owner: Owner::Elsewhere };
    let words = format!("{access} {address} port {port} {}", protocol_name(protocol));
    Ok((judge(&Act::Network { accesses: access.into(), end }), words))
}

/// One line for the verdict, one for the reason, and what is on trial.
fn told(verdict: &Verdict<'_>, act: &str) -> String {
    let mut text = format!("{}: {act}\n  by {}\n", verdict.decision, verdict.rule);
    if let Some(because) = verdict.because {
        let _ = writeln!(text, "  because {because}");
    }
    if let Some(trial) = &verdict.audited {
        let _ = writeln!(text, "  on trial: {} by {}", trial.decision, trial.rule);
    }
    text
}

/// Which layers hold the rule, where they work at all.
fn held(policy: &Policy, rule: &RuleName) -> anyhow::Result<String> {
    let plan = lsm::compile(&[policy], 0, &mut lsm::SetTable::new())?;
    let lsm = Some((&plan, HELD_BY_LSM.into_iter().collect()));
    let all = layers::holding(policy, Plans { lsm, landlock: None });
    let names: Vec<String> = all.get(rule).into_iter().flatten().map(ToString::to_string).collect();
    Ok(match names.as_slice() {
        [] => "  held by no layer; `sandbox policy check` says why\n".to_owned(),
        names => format!("  held by {}\n", names.join(", ")),
    })
}

/// The path as the kernel would resolve it; where it is not there, only made absolute.
fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = || std::path::absolute(path).context("cannot read the current directory");
    path.canonicalize().or_else(|_| absolute())
}

fn accesses(words: &[String]) -> anyhow::Result<AccessSet> {
    let files = SectionKind::Files.accesses();
    let mut set = AccessSet::EMPTY;
    for word in words {
        match files.iter().find(|access| access.name() == word) {
            Some(access) => set.insert(access),
            None => bail!("--access takes {files}, not {word:?}"),
        }
    }
    Ok(set)
}

/// `ADDRESS:PORT`, then `/tcp` or `/udp`; TCP where neither is given.
fn socket_address(text: &str) -> anyhow::Result<(SocketAddr, Protocol)> {
    let (address, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((address, "udp")) => (address, Protocol::Udp),
        Some((_, other)) => {
            bail!("{text:?} names no protocol that rules know: {other:?}; write /tcp or /udp")
        }
    };
    match address.parse() {
        Ok(address) => Ok((address, protocol)),
        Err(_) => bail!(
            "{text:?} is no address with a port: write 10.2.3.4:443, [2001:db8::1]:443 or 10.2.3.4:53/udp"
        ),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        _ => "other",
    }
}

fn shown(path: &Path) -> String {
    safe(OsStr::as_bytes(path.as_os_str()))
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the answer")
}
