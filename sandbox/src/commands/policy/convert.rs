//! `sandbox policy convert`: policies of other tools, and policies for them.

use std::path::Path;

use anyhow::{Context, bail};
use policy::compile::seccomp::{Alone, Hooks, alone, compile};
use policy::convert::{Converted, Effect, Remark, Source, from, recognise, to_kubearmor};
use policy::settings::KERNEL;
use policy::{Decision, Policies, Policy};

use super::{Place, print};
use crate::cli::{Dialect, PolicyConvertArgs, Written};
use crate::enforce::seccomp::{ARCHITECTURE, profile::profile};
use crate::exit::Exit;
use crate::launch::policy::{read, ships};
use crate::review::text::{self, safe};

pub fn execute(args: &PolicyConvertArgs) -> anyhow::Result<Exit> {
    // One that ships has no file.
    let ships = args.from.is_none() && ships(&args.file);
    let bytes = match ships {
        true => Vec::new(),
        false => read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?,
    };
    let source = match args.from {
        Some(Dialect::Policy) => None,
        None if ships => None,
        Some(Dialect::Kubearmor) => Some(Source::KubeArmor),
        Some(Dialect::Openclaw) => Some(Source::Gateway),
        None => recognise(&bytes),
    };
    let place = Place::here(&args.place)?;
    let converted = match (source, args.to) {
        (Some(source), Written::Policy) => foreign(&place, source, &args.file, &bytes)?,
        (None, Written::Policy) => {
            let file = args.file.display();
            place.read(&args.file).map_err(|error| {
                let why = anyhow::Error::new(error);
                anyhow::anyhow!("{file} is of no language that is known here (--from names one):\n{why:#}")
            })?;
            bail!("{file} is a policy already; choose another language with --to")
        }
        (Some(_), _) => bail!("a policy of another tool is converted to a policy first: leave out --to"),
        (None, to) => {
            let policy = place.read(&args.file)?;
            match to {
                Written::Kubearmor => to_kubearmor(&policy, &labels(&args.select)?),
                _ => seccomp(&policy)?,
            }
        }
    };
    let name = safe(args.file.as_os_str().as_encoded_bytes());
    converted.remarks.iter().for_each(|remark| eprintln!("{name}: {}", safe(remark.to_string().as_bytes())));
    let loss = converted.remarks.iter().any(|remark| remark.effect.is_loss());
    if args.strict && loss {
        eprintln!("{name}: not all of it can be carried over, so nothing is written (--strict)");
        return Ok(Exit::FAILURE);
    }
    print(&converted.text)?;
    Ok(Exit::SUCCESS)
}

/// A policy of ours out of another tool's; it is read once before it is given out.
fn foreign(place: &Place, source: Source, file: &Path, bytes: &[u8]) -> anyhow::Result<Converted> {
    let converted = from(source, &file.display().to_string(), bytes)?;
    let variables = place.variables()?;
    Policy::parse("the converted policy", &converted.text, &variables)
        .with_context(|| format!("cannot convert {}", file.display()))?;
    Ok(converted)
}

fn labels(select: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("--select takes KEY=VALUE, not {text:?}"),
    };
    select.iter().map(label).collect()
}

/// The system calls that an enforced run of the policy closes.
fn seccomp(policy: &Policy) -> anyhow::Result<Converted> {
    let mut remarks = Vec::new();
    let mut remark = |text: String| remarks.push(Remark { line: None, effect: Effect::Wider, text });
    let sections = [
        ("files", policy.files().default(), strict(policy.files().rules())),
        ("exec", policy.exec().default(), strict(policy.exec().rules())),
        ("network", policy.network().default(), strict(policy.network().rules())),
    ];
    for (name, default, rules) in sections {
        if default == Decision::Deny || rules > 0 {
            remark(format!("section `{name}`: a filter of system calls sees no paths and no addresses"));
        }
    }
    // Elsewhere no hooks of ours judge.
    let plan = compile(&Policies::from(policy.clone()).filter(), Hooks::Missing);
    for word in KERNEL.into_iter().filter(|word| !policy.settings().kernel_allowed().contains(word)) {
        match alone(word, ARCHITECTURE) {
            Alone::Whole => {}
            Alone::Partly(rest) | Alone::Nothing(rest) => {
                remark(format!("`kernel`: of `{word}` a filter leaves open: {rest}"));
            }
        }
    }
    let (profile, wider) = profile(&plan);
    wider.into_iter().for_each(&mut remark);
    for key in policy.settings().keys() {
        remark(format!("section `{key}` is no matter of system calls"));
    }
    let mut text = text::json(&serde_json::to_string_pretty(&profile)?);
    text.push('\n');
    Ok(Converted { text, remarks })
}

/// How many rules deny or ask.
fn strict<O>(rules: &[policy::Rule<O>]) -> usize {
    rules.iter().filter(|rule| rule.effect() != Decision::Allow).count()
}
