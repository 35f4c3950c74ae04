//! What is said to differ between two policies.

use policy::difference::{Change, difference};
use policy::{Policy, Variables};

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", &format!("version: 1\n{text}"), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// One line an item.
fn told(before: &Policy, after: &Policy) -> Vec<String> {
    let items = difference(before, after).into_iter().map(|item| {
        let keys = item.keys.iter().map(|key| {
            let gone = key.removed.iter().map(|entry| format!(" -{entry}"));
            format!(
                " {}:{}",
                key.key,
                gone.chain(key.added.iter().map(|entry| format!(" +{entry}"))).collect::<String>()
            )
        });
        format!("{} {}/{}{}", item.change.name(), item.section, item.name, keys.collect::<String>())
    });
    items.collect()
}

const BEFORE: &str = r#"
name: a
files:
  default: allow
  rules:
    - { name: keys, deny: [read, write], path: ["/k/**", "/l"], because: keys }
    - { name: gone, deny: [read], path: ["/g"] }
network: { default: deny }
kernel: { allow: [bpf, mount] }
limits: { processes: 5 }
tmp: shared
"#;

const AFTER: &str = r#"
name: b
mode: audit
files:
  default: deny
  rules:
    - { name: new, allow: [read], path: ["/n"], by: ["/bin/sh"] }
    - { name: keys, deny: [read], path: ["/l", "/k/**"], except: ["/k/p"], mode: audit, because: keys }
network: { default: deny }
kernel: { allow: [bpf, clock] }
tmp: private
"#;

#[test]
fn rules_defaults_and_settings_are_compared_by_name() {
    assert_eq!(
        told(&parse(BEFORE), &parse(AFTER)),
        [
            "changed policy/mode mode: -enforce +audit",
            "changed files/default default: -allow +deny",
            "removed files/gone deny: -read path: -/g",
            "changed files/keys deny: -write except: +/k/p mode: +audit",
            "added files/new allow: +read path: +/n by: +/bin/sh",
            "changed policy/kernel allow: -mount +clock",
            "removed policy/limits is: -{ processes: 5 }",
            "changed policy/tmp is: -shared +private",
        ]
    );
}

#[test]
fn what_is_the_same_does_not_differ_and_the_way_back_is_the_mirror() {
    let (before, after) = (parse(BEFORE), parse(AFTER));
    assert_eq!(told(&before, &parse(&BEFORE.replace("name: a", "name: other"))), [""; 0]);
    // A section that is left out allows everything, and an empty `kernel` opens nothing.
    let explicit = BEFORE.to_owned() + "exec: { default: allow }\n";
    assert_eq!(told(&before, &parse(&explicit)), [""; 0]);
    let (there, back) = (difference(&before, &after), difference(&after, &before));
    assert_eq!(there.len(), back.len());
    for (there, back) in there.iter().zip(&back) {
        assert_eq!(there.name, back.name);
        assert_eq!(there.change == Change::Added, back.change == Change::Removed);
        let mut turned: Vec<_> = back.keys.iter().map(|key| (key.key, &key.added, &key.removed)).collect();
        let mut keys: Vec<_> = there.keys.iter().map(|key| (key.key, &key.removed, &key.added)).collect();
        turned.sort();
        keys.sort();
        assert_eq!(keys, turned);
    }
}

#[test]
fn a_rule_that_the_other_inherits_is_the_same_rule() {
    let strict =
        policy::extend::SHIPPED.iter().find(|(name, _)| name.starts_with("strict@")).expect("it ships").1;
    let mut variables = Variables::new();
    for (name, value) in
        [("HOME", "/home/a"), ("TMP", "/tmp"), ("WORKSPACE", "/home/a/w"), ("RUN_DIR", "/r"), ("UID", "1")]
    {
        variables.set(name, value).unwrap();
    }
    let parse = |text: &str| Policy::parse("p.yaml", text, &variables).unwrap_or_else(|e| panic!("{e}"));
    let own = "version: 1\nname: own\nextends: [strict@1]\nfiles:\n  rules:\n    \
               - { name: x, deny: [read], path: [/srv/x] }\n";
    let (strict, own) = (parse(strict), parse(own));
    assert_eq!(told(&strict, &own), ["added files/x deny: +read path: +/srv/x"]);
    assert_eq!(told(&own, &strict), ["removed files/x deny: -read path: -/srv/x"]);
}
