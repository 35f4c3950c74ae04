//! The policies that ship: each is read without a warning, inside and outside of a repository, its examples hold,
//! and those that name no hosts ask only for what the `lsm` layer holds.

use std::collections::BTreeSet;

use policy::compile::lsm::{self, Held, SetTable};
use policy::extend::SHIPPED;
use policy::{Access, Decision, Policy, Severity, Variables, evaluate};

/// A run in a plain directory, in a repository, in a linked worktree of another one, and in a temporary place.
fn surroundings() -> [Variables; 4] {
    let own = (WORK, Some(("/home/someone/work/.git", "/home/someone/work/.git")));
    let temporary = ("/tmp/work", Some(("/tmp/work/.git", "/tmp/work/.git")));
    [(WORK, None), own, (WORK, Some(LINKED)), temporary].map(|(workspace, git)| {
        let mut variables = Variables::new();
        let given = [("HOME", "/home/someone"), ("USER", "someone"), ("UID", "1000"), ("TMP", "/tmp")];
        for (name, value) in given {
            variables.set(name, value).expect("a given variable");
        }
        variables.set_workspace(workspace).expect("a workspace");
        if let Some((dir, common)) = git {
            variables.set("GIT_DIR", dir).expect("a given variable");
            variables.set("GIT_COMMON_DIR", common).expect("a given variable");
        }
        variables
    })
}

const WORK: &str = "/home/someone/work";
const LINKED: (&str, &str) = ("/srv/main/.git/worktrees/work", "/srv/main/.git");

#[test]
fn every_shipped_policy_is_what_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == format!("{name}@1"));
        assert_eq!(shipped.expect("it is embedded").1.as_bytes(), bytes);
        for variables in surroundings() {
            let policy = Policy::parse_bytes(path.to_str().unwrap(), &bytes, &variables)
                .unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(policy.name(), name, "the file is named after its policy");
            assert!(policy.description().is_some(), "{name} says what it is for");
            assert!(policy.example_count() >= 12, "{name} has examples");
            policy.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
            let warnings: Vec<String> = policy
                .notes()
                .iter()
                .cloned()
                .chain(policy.warnings())
                .filter(|note| note.severity == Severity::Warning)
                .map(|note| note.to_string())
                .collect();
            assert_eq!(warnings, [""; 0], "{name}");
            let plan = lsm::compile(&[&policy], 0, &mut SetTable::new())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let unheld = plan.unheld(&Held::whole(Access::ALL.into_iter().collect()));
            assert_eq!(unheld, [], "{name} can be enforced");
            let states: usize = plan.states().iter().sum();
            assert!(states < 20_000, "{name} has {states} states");
            // Another YAML reader sees the same text in what is stored beside the record.
            let _: serde_yaml::Value = serde_yaml::from_str(&policy.effective_yaml()).unwrap();
            let again = Policy::parse("effective", &policy.effective_yaml(), &Variables::new());
            let again = again.unwrap_or_else(|errors| panic!("{errors}"));
            again.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
            println!("{name}: {states} states");
        }
        names.push(name);
    }
    assert_eq!(names.len(), SHIPPED.len(), "what ships lies in {folder}");
}

#[test]
fn a_linked_worktree_works_and_its_repository_runs_nothing_later() {
    let policy = linked("coding-agent@1");
    let decides = |access: Access, path: &str| decides(&policy, access, path);
    for (access, path) in [
        (Access::Create, "/srv/main/.git/objects/ab/cdef"),
        (Access::Create, "/srv/main/.git/refs/heads/topic.lock"),
        (Access::Write, "/srv/main/.git/worktrees/work/index"),
        (Access::Delete, "/srv/main/.git/packed-refs.lock"),
        (Access::Read, "/srv/main/.git/config"),
        (Access::Read, "/srv/main/.git/hooks/pre-commit"),
        (Access::Write, "/home/someone/work/.git"),
        // What git writes is not told apart without hooks; what git runs is.
        (Access::Write, "/srv/main/.git/HEAD"),
    ] {
        assert_eq!(decides(access, path).0, Decision::Allow, "{access} {path}");
    }
    for (access, path, rule) in [
        (Access::Write, "/srv/main/.git/config", "coding-agent/git-settings"),
        (Access::Create, "/srv/main/.git/hooks/pre-commit", "coding-agent/git-hooks"),
        (Access::Create, "/srv/main/.git/worktrees/work/config.worktree", "coding-agent/git-settings"),
        (Access::Read, "/srv/main/src/main.rs", "coding-agent/files.default"),
    ] {
        assert_eq!(decides(access, path), (Decision::Deny, rule.to_owned()), "{access} {path}");
    }
}

fn linked(name: &str) -> Policy {
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("it ships");
    Policy::parse("p.yaml", text, &surroundings()[2]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn decides(policy: &Policy, access: Access, path: &str) -> (Decision, String) {
    let verdict = evaluate::file(policy, access.into(), path.as_bytes());
    (verdict.decision, verdict.rule.to_string())
}

/// The stricter one denies all that the other does, and again what that leaves out.
#[test]
fn the_stricter_agents_policy_takes_nothing_back() {
    let (agent, stricter) = (linked("coding-agent@1"), linked("coding-agent-strict@1"));
    for (access, path, rule) in [
        (Access::Write, "/srv/main/.git/HEAD", "coding-agent-strict/files.default"),
        (Access::Write, "/srv/main/.git/config", "base/git-code"),
        (Access::Create, "/home/someone/work/deep/in/it/x/.git/hooks/pre-commit", "base/git-code"),
        (Access::Create, "/home/someone/work/deep/in/it/x/.git/commondir", "base/git-code"),
        (
            Access::Create,
            "/home/someone/work/deep/in/it/x/.vscode/tasks.json",
            "coding-agent-strict/agent-hooks",
        ),
        (Access::Read, "/home/someone/work/deep/in/it/x/.env", "coding-agent-strict/passwords"),
    ] {
        assert_eq!(decides(&stricter, access, path), (Decision::Deny, rule.to_owned()), "{access} {path}");
    }
    let kept = |policy: &Policy| {
        let (files, exec) = (policy.files().rules().iter(), policy.exec().rules().iter());
        let denying = files.chain(exec).filter(|rule| rule.effect() == Decision::Deny);
        denying.map(|rule| rule.name().to_string()).collect::<BTreeSet<_>>()
    };
    let strict = linked("strict@1");
    assert!(kept(&stricter).is_superset(&kept(&agent)) && kept(&stricter).is_superset(&kept(&strict)));
    assert!(stricter.settings().kernel_allowed().is_empty(), "{:?}", stricter.settings().kernel_allowed());
    assert_eq!(agent.settings().kernel_allowed(), ["ptrace-own"]);
}
