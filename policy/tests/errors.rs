//! Wrong policies, and word for word what a person is told: `tests/wrong/NAME.yaml` and `NAME.txt`.
//!
//! `UPDATE_EXPECTED=1 cargo test -p policy --test errors` writes the texts anew; read them before committing.

use policy::{Policy, Variables};

#[test]
fn each_wrong_policy_is_answered_as_expected() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrong");
    let mut variables = Variables::new();
    variables.set("HOME", "/home/someone").unwrap();
    variables.set("TMP", "/tmp").unwrap();
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 30, "{} fixtures", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let errors = Policy::parse_bytes(name, &bytes, &variables).expect_err(name);
        let text = format!("{errors}\n");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: no control characters");
        let expected = path.with_extension("txt");
        if update {
            std::fs::write(&expected, &text).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "these differ from what is expected:\n\n{}", wrong.join("\n"));
}
