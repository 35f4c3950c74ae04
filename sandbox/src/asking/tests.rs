use policy::{Policies, Policy, Variables};

use super::{Sections, Settings, asked_by_nobody};

fn policies(text: &str) -> Policies {
    Policy::parse("p.yaml", &format!("version: 1\nname: p\n{text}"), &Variables::new()).unwrap().into()
}

const BOTH: &str = "files:\n  default: allow\n  rules: [{ name: keys, ask: [read], path: [/keys] }]\n\
                    network:\n  default: allow\n  rules: [{ name: out, ask: [connect, listen], to: [any] }]\n";

#[test]
fn calls_wait_only_in_sections_that_ask() {
    let rules = Settings::default();
    assert_eq!(rules.sections(&policies(BOTH)), Sections { files: true, exec: false, network: true });
    assert!(rules.sections(&policies("files: { default: deny }\n")).is_empty());
    let denials = Settings { denials: true, command: None };
    assert_eq!(
        denials.sections(&policies("files: { default: deny }\nexec: { default: allow }\n")),
        Sections { files: true, ..Sections::default() }
    );
}

#[test]
fn what_nobody_is_asked_about_is_told() {
    let all = Sections { files: true, exec: true, network: true };
    assert_eq!(
        asked_by_nobody(&policies(BOTH), all),
        ["rule `p/out` asks for listen: asked by nobody: denied"]
    );
    assert_eq!(
        asked_by_nobody(&policies(BOTH), Sections::default()),
        ["rule `p/keys` asks: asked by nobody: denied", "rule `p/out` asks: asked by nobody: denied"]
    );
    assert!(asked_by_nobody(&policies("files: { default: deny }\n"), all).is_empty());
}
