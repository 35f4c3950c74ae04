//! Whether a run has a /tmp of its own, and whether it keeps it: the mounts must be had, and nobody inside may change
//! them or look round them.
//!
//! It is for all layers the same: hooks judge paths, and the paths are those inside.

use policy::compile::layers::{self, Words};
use policy::compile::lsm::Held;

use super::{
    Judging, Request,
    covers::NEEDED,
    tried::{Tried, try_tmp},
};
use crate::{enforce::tmp::PrivateTmp, settings::Layer};

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Tmp {
    /// Nobody asks for one.
    #[default]
    Shared,
    /// The run has it.
    Held(PrivateTmp),
    /// It is laid, and who is inside can get round it.
    Open(PrivateTmp, String),
    /// There is none.
    Missing(String),
}

impl Tmp {
    /// What is laid.
    pub fn laid(&self) -> Option<&PrivateTmp> {
        match self {
            Tmp::Held(tmp) | Tmp::Open(tmp, _) => Some(tmp),
            Tmp::Shared | Tmp::Missing(_) => None,
        }
    }

    /// What layers hold, with this.
    pub fn held(&self, held: Held) -> Held {
        Held { tmp: matches!(self, Tmp::Held(_)), ..held }
    }

    /// Why it is not held, where it is asked for.
    pub fn why_not(&self) -> Option<String> {
        match self {
            Tmp::Shared | Tmp::Held(_) => None,
            Tmp::Open(_, why) | Tmp::Missing(why) => Some(format!("`tmp: private`: {why}")),
        }
    }

    /// What the user is told before the command starts.
    pub fn note(&self) -> Option<String> {
        let tmp = self.laid()?;
        let list = |paths: &[std::path::PathBuf]| {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        let kept = match tmp.kept() {
            [] => String::new(),
            kept => format!("; below it stays {}", list(kept)),
        };
        Some(format!(
            "private to this run, and gone with it: {}, shared memory, message queues{kept}",
            list(tmp.places())
        ))
    }
}

/// Whether mounts that are laid before a command starts stay as they are: or who gets round them, and how. `words`: what
/// is held of the section `kernel`; `allowed`: what the policies open of it; `root`: whether the command runs as root.
///
/// # Errors
/// They do not.
pub fn keeps_mounts(words: &Words, allowed: &[&str], root: bool) -> Result<(), String> {
    let [mount, look] = NEEDED;
    let closed = |word: &str| match words.get(word) {
        // Whoever Landlock restricts can do neither, whatever a policy opens.
        Some(layers) => layers.contains(&layers::Layer::Landlock) || !allowed.contains(&word),
        None => false,
    };
    // Nobody else may change mounts that others made.
    if root && !closed(mount) {
        return Err(format!("root inside can take it away: the policy allows `{mount}`"));
    }
    if !closed(look) {
        return Err(format!(
            "processes outside show what lies beneath (/proc/PID/root): only the lsm and landlock layers, without \
             `{look}`, keep them"
        ));
    }
    Ok(())
}

/// What would be told if every machine had it: for a run of which hooks alone decide whether it starts.
pub(super) fn expected(request: &Request<'_>) -> Tmp {
    match wanted(request) {
        Some(Ok(tmp)) => Tmp::Held(tmp.clone()),
        Some(Err(why)) => Tmp::Missing(why),
        None => Tmp::Shared,
    }
}

/// Tries it, where it is asked for.
pub(super) fn try_it(request: &Request<'_>) -> Option<Tried> {
    wanted(request).map(|wanted| try_tmp(&wanted.cloned()))
}

/// What came of it.
pub(super) fn of(request: &Request<'_>, tried: Option<&Tried>, words: &Words) -> Tmp {
    let Judging::Enforce(policies, _) = request.judging else { return Tmp::Shared };
    match (request.tmp, tried) {
        (_, None) => Tmp::Shared,
        (_, Some(Err(why))) => Tmp::Missing(why.clone()),
        (Some(Ok(tmp)), Some(Ok(_))) => match keeps_mounts(words, &policies.kernel_allowed(), request.root) {
            Ok(()) => Tmp::Held(tmp.clone()),
            Err(why) => Tmp::Open(tmp.clone(), why),
        },
        (_, Some(Ok(_))) => Tmp::Shared,
    }
}

fn wanted<'a>(request: &Request<'a>) -> Option<Result<&'a PrivateTmp, String>> {
    let tmp = request.tmp.filter(|_| matches!(request.judging, Judging::Enforce(..)))?;
    Some(match request.layers.includes(Layer::Mountns) {
        true => tmp.as_ref().map_err(Clone::clone),
        false => Err("the mountns layer would give it, and --layers leaves it out".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn who_gets_round_it_is_told() {
        use layers::Layer::{Landlock, Lsm, Seccomp};
        let words = |mount: layers::Layer, look: Option<layers::Layer>| -> Words {
            let look = look.map(|layer| ("ptrace-any", BTreeSet::from([layer])));
            [("mount", BTreeSet::from([mount]))].into_iter().chain(look).collect()
        };
        let kept = |words: &Words, allowed: &[&str], root| keeps_mounts(words, allowed, root).is_ok();
        for root in [true, false] {
            assert!(kept(&words(Lsm, Some(Lsm)), &[], root));
            assert!(!kept(&words(Lsm, Some(Lsm)), &["ptrace-any"], root));
            assert!(!kept(&words(Seccomp, None), &[], root));
            assert!(kept(&words(Landlock, Some(Landlock)), &["mount", "ptrace-any"], root));
            assert_eq!(kept(&words(Seccomp, Some(Landlock)), &["mount"], root), !root);
        }
    }
}
