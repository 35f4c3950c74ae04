//! Groups of paths and targets: those of a policy, and those that ship.

use policy::{Access, Decision, Policy, Variables, evaluate, groups};

fn parse(text: &str) -> Policy {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/me").expect("a given variable");
    variables.set("GIT_COMMON_DIR", "/home/me/work/.git").expect("a given variable");
    Policy::parse("test.yaml", &format!("version: 1\nname: p\n{text}"), &variables)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn a_group_stands_for_its_entries() {
    let policy = parse(
        "vars: { BUILD: \"/srv/build\" }
groups: { caches: [\"${BUILD}/cache/**\", \"@more\"], more: [\"/var/cache/**\"], hosts: [\"10.2.0.0/16:443\"], idle: [\"/x\"] }
files: { default: allow, rules: [{ name: a, deny: [write], path: [\"@caches\", \"/y\"], except: [\"@more\"] }] }
network: { default: deny, rules: [{ name: b, allow: [connect], to: [\"@hosts\"] }] }
",
    );
    let denied = |path: &str| {
        evaluate::file(&policy, Access::Write.into(), path.as_bytes()).decision == Decision::Deny
    };
    assert!(denied("/srv/build/cache/x") && denied("/y") && !denied("/var/cache/x") && !denied("/srv/x"));
    let notes: Vec<&str> = policy.notes().iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["group `idle` is named by no rule"]);
    // What is stored beside the record holds the entries, not the names.
    let again = Policy::parse("stored", &policy.effective_yaml(), &Variables::new()).unwrap();
    assert_eq!(again.effective_yaml(), policy.effective_yaml());
    assert!(!again.effective_yaml().contains('@'));
}

#[test]
fn every_shipped_group_is_a_list_of_patterns_or_of_hosts() {
    let shipped = groups::shipped();
    let names: Vec<&str> = shipped.keys().map(String::as_str).collect();
    let hosts = ["crates", "debian", "github", "model-apis", "npm", "pypi"];
    let paths = ["credentials", "git-code", "libraries", "persistence", "toolchains"];
    assert!(names.iter().all(|name| hosts.contains(name) || paths.contains(name)));
    assert_eq!(names.len(), hosts.len() + paths.len());
    assert!(include_str!("../src/groups.yaml").contains(&format!("\nversion: {}\n", groups::VERSION)));
    for name in hosts {
        let rule = format!("{{ name: a, allow: [connect], to: [\"@{name}\"] }}");
        let policy = parse(&format!("network: {{ default: deny, rules: [{rule}] }}\n"));
        assert_eq!(policy.network().rules()[0].objects().len(), shipped[name].len(), "{name}");
    }
    for name in paths {
        let rule = format!("{{ name: a, deny: [read], path: [\"@{name}\"], unless_by: [\"@toolchains\"] }}");
        let policy = parse(&format!("files: {{ default: allow, rules: [{rule}] }}\n"));
        assert_eq!(policy.files().rules()[0].objects().len(), shipped[name].len(), "{name}");
    }
    // Each list of hosts says where it is documented, and when it was looked through.
    let sources = groups::sources();
    assert_eq!(sources.keys().map(String::as_str).collect::<Vec<_>>(), hosts);
    for (name, groups::Sources { documents, checked }) in &sources {
        assert!(!documents.is_empty() && documents.iter().all(|url| url.starts_with("https://")), "{name}");
        let day: Vec<usize> = checked.split('-').map(str::len).collect();
        assert_eq!(day, [4, 2, 2], "{name}: {checked}");
        assert!(checked.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'), "{name}: {checked}");
    }
    let keys =
        parse("files: { default: allow, rules: [{ name: a, deny: [read], path: [\"@credentials\"] }] }\n");
    for path in
        ["/home/me/.ssh/id_ed25519", "/etc/shadow", "/home/me/.npmrc", "/home/me/.config/gh/hosts.yml"]
    {
        let verdict = evaluate::file(&keys, Access::Read.into(), path.as_bytes());
        assert_eq!(verdict.decision, Decision::Deny, "{path}");
    }
    // Without a home, what needs one is left out.
    let text = "version: 1\nname: p\nfiles: { default: allow, rules: [{ name: a, deny: [read], path: [\"@credentials\"] }] }\n";
    let homeless = Policy::parse("test.yaml", text, &Variables::new()).unwrap();
    assert_eq!(homeless.files().rules()[0].objects().len(), 3);
}

#[test]
fn what_has_git_take_its_configuration_from_elsewhere_is_closed_and_worktrees_can_be_made() {
    let policy = parse(
        "files: { default: allow, rules: [{ name: a, deny: [write, create, delete], path: [\"@git-code\"] }] }\n",
    );
    let denied = |path: &str| {
        evaluate::file(&policy, Access::Create.into(), path.as_bytes()).decision == Decision::Deny
    };
    for path in [
        "/home/me/work/.git/commondir",
        "/x/.git/commondir",
        "/x/y/.git/gitdir",
        "/x/.git/modules/part/commondir",
        "/x/.git/modules/libs/part/commondir",
        "/x/.git/modules/part/modules/inner/gitdir",
        "/x/.git/worktrees/side/config.worktree",
    ] {
        assert!(denied(path), "{path}");
    }
    for path in [
        "/x/.git/worktrees/side/commondir",
        "/x/.git/worktrees/side/gitdir",
        "/x/.git/modules/part/worktrees/side/commondir",
        "/x/.git/refs/heads/commondir",
        "/x/commondir",
    ] {
        assert!(!denied(path), "{path}");
    }
}
