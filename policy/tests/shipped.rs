//! The policies that ship: each is read, its examples hold, and it asks only for what the `lsm` layer holds.

use policy::compile::lsm;
use policy::{Access, AccessSet, Policy, Variables};

fn variables() -> Variables {
    let mut variables = Variables::new();
    let given = [("HOME", "/home/someone"), ("USER", "someone"), ("UID", "1000"), ("TMP", "/tmp")];
    for (name, value) in given {
        variables.set(name, value).expect("a given variable");
    }
    variables.set_workspace("/home/someone/work").expect("a workspace");
    variables
}

#[test]
fn every_shipped_policy_is_what_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let policy = Policy::parse_bytes(path.to_str().unwrap(), &bytes, &variables())
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(policy.name(), name, "the file is named after its policy");
        assert!(policy.description().is_some(), "{name} says what it is for");
        assert!(policy.example_count() >= 8, "{name} has examples");
        policy.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
        let plan = lsm::compile(&policy, 0).unwrap();
        let held = [Access::Read, Access::Write, Access::Run, Access::Connect, Access::Send];
        assert_eq!(plan.unheld(held.into_iter().collect::<AccessSet>()), [], "{name} can be enforced");
        assert!(plan.states() < 2000, "{name} has {} states", plan.states());
        // Another YAML reader sees the same text in what is stored beside the record.
        let _: serde_yaml::Value = serde_yaml::from_str(&policy.effective_yaml()).unwrap();
        let again = Policy::parse("effective", &policy.effective_yaml(), &Variables::new());
        let again = again.unwrap_or_else(|errors| panic!("{errors}"));
        again.check_examples().unwrap_or_else(|errors| panic!("{errors}"));
        count += 1;
    }
    assert!(count >= 3, "found {count} policies in {folder}");
}
