//! The front end: any bytes, with files to extend behind NUL bytes.

use policy::compile::{landlock, lsm};
use policy::extend::{Resolver, Source};
use policy::links::{Links, Resolved};
use policy::{Policy, Variables};

/// Files by the names `./1.yaml`, `./2.yaml`, ….
struct Files<'a>(Vec<&'a [u8]>);

impl Resolver for Files<'_> {
    fn resolve(&self, path: &str, _from: &str) -> Result<Source, String> {
        let number: usize = path
            .strip_prefix("./")
            .and_then(|path| path.strip_suffix(".yaml"))
            .and_then(|number| number.parse().ok())
            .ok_or("does not exist")?;
        let bytes = self.0.get(number).ok_or("does not exist")?;
        Ok(Source { name: path.to_owned(), bytes: bytes.to_vec() })
    }
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no policy.
    Refused,
    /// It is one.
    Read,
}

/// Reads, prints, reads again, follows links, looks for mistakes and compiles.
///
/// # Panics
///
/// Where something that must hold does not.
pub fn run(data: &[u8]) -> Outcome {
    let files: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let variables = variables();
    let policy = match Policy::parse_with("./0.yaml", files[0], &variables, &Files(files.clone())) {
        Ok(policy) => policy,
        Err(errors) => {
            let shown = errors.to_string();
            assert!(errors.count() > 0 && !shown.is_empty());
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!shown.contains(control), "{}", shown.escape_debug());
            return Outcome::Refused;
        }
    };
    let text = policy.effective_yaml();
    let again = Policy::parse("again", &text, &Variables::new())
        .unwrap_or_else(|errors| panic!("what was printed cannot be read\n{text}\n{errors}"));
    assert_eq!(again.effective_yaml(), text);
    assert_eq!(again.check_examples().is_ok(), policy.check_examples().is_ok(), "{text}");
    let notes = policy.notes().iter().cloned().chain(policy.warnings());
    notes.for_each(|note| assert!(!note.to_string().is_empty()));
    let followed = policy.follow_links(&|path: &[u8]| {
        let rest = path.strip_prefix(b"/home")?;
        Some(Resolved { path: [b"/data/h", rest].concat(), links: Links::Untrusted })
    });
    let text = followed.effective_yaml();
    let again = Policy::parse("followed", &text, &Variables::new());
    assert_eq!(again.map(|policy| policy.effective_yaml()).as_deref(), Ok(text.as_str()));
    // What does not fit is refused, by name.
    if let Err(error) = lsm::compile(&[&followed], 0, &mut lsm::SetTable::new()) {
        assert!(error.to_string().contains('`'), "{error}");
    }
    landlock::compile(&followed, 4);
    Outcome::Read
}

fn variables() -> Variables {
    let mut variables = Variables::new();
    for (name, value) in [("HOME", "/home/me"), ("TMP", "/tmp"), ("USER", "me"), ("UID", "1000")] {
        variables.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    variables.set_workspace("/home/me/work").unwrap_or_else(|error| panic!("{error}"));
    variables.set_env("SSH_AUTH_SOCK", "/tmp/ssh-x/agent.1");
    variables
}
