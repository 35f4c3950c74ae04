//! `sandbox policy apply`: another policy for a run that goes on.

use anyhow::Context;
use policy::Policies;

use super::{print, print_json};
use crate::cli::PolicyApplyArgs;
use crate::control::ask::{AskError, Talk};
use crate::error::say;
use crate::exit::Exit;
use crate::launch::policy::load_with;
use crate::record::meta::Meta;
use crate::record::store::Found;
use crate::review::stores;

/// Runs `sandbox policy apply`.
///
/// # Errors
/// There is no such run, it has ended or has no policy, or the policy is wrong.
pub fn execute(args: &PolicyApplyArgs) -> anyhow::Result<Exit> {
    let run = stores().find(&args.run)?;
    if let Some(why) = cannot_have_one(&run) {
        anyhow::bail!("{}: {why}", run.id);
    }
    let applied = match Talk::begin(&run.path) {
        Ok(talk) => {
            let policy = load_with(&args.file, talk.variables())?;
            if let Err(errors) = policy.check_examples() {
                anyhow::bail!(
                    "{}: not applied: the policy says something else than its own examples\n{errors}",
                    run.id
                );
            }
            talk.apply(&Policies::from(policy), args.widen)
        }
        Err(error) => Err(error),
    };
    let applied = match applied {
        Ok(applied) => applied,
        Err(AskError::Refused(message)) => {
            say(&format!("{}: not applied: {message}", run.id));
            return Ok(Exit::FAILURE);
        }
        Err(error) => return Err(error).context(run.id),
    };
    if args.json {
        print_json(&applied)?;
        return Ok(Exit::SUCCESS);
    }
    applied.notes.iter().for_each(|note| say(note));
    let names = &applied.names;
    let id = &run.id;
    print(&match (applied.changed, args.widen) {
        (false, _) => format!("{id}: holds already: {names}\n"),
        (true, false) => format!("{id}: from now on also: {names}\n{}\n", place(&run, &applied.file)),
        (true, true) => format!("{id}: from now on: {names}\n{}\n", place(&run, &applied.file)),
    })?;
    Ok(Exit::SUCCESS)
}

fn place(run: &Found, file: &str) -> String {
    format!("  {}", run.path.join(file).display())
}

/// Why the run can have no other policy, as far as its record tells.
fn cannot_have_one(run: &Found) -> Option<&'static str> {
    // Where it cannot be read, the runner says what there is to say.
    let meta = Meta::read(&run.path).ok()?;
    if meta.end.is_some() {
        return Some("it has ended");
    }
    meta.policy.is_none().then_some(
        "it only records: it began without a policy; start it with --policy or --enforce to apply others later",
    )
}
