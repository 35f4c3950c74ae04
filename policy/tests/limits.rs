//! What other tools of this kind give up on: long rules, long paths, many rules, deep trees, odd names; and what
//! multiplies.

mod generate;

use generate::parse;
use policy::compile::lsm::{self, LsmPlan, SetTable, Sets};
use policy::{Access, Act, Decision, Policy, Subject, evaluate};

fn compile(policy: &Policy) -> LsmPlan {
    lsm::compile(&[policy], 1, &mut SetTable::new()).expect("it fits")
}

fn files(default: &str, rules: &[String]) -> Policy {
    let rules: String = rules.iter().map(|rule| format!("    - {{ {rule} }}\n")).collect();
    parse(&format!("version: 1\nname: p\nfiles:\n  default: {default}\n  rules:\n{rules}"))
}

/// Whether a path may be read; the tables and the oracle say the same.
fn reads(policy: &Policy, plan: &LsmPlan, path: &str) -> bool {
    let oracle = evaluate::file(policy, Access::Read.into(), path.as_bytes()).decision == Decision::Allow;
    let denied =
        plan.denied_at(&Sets::UNKNOWN, Access::Read.into(), path.as_bytes()).expect("the tables are whole");
    assert_eq!(denied.accesses.is_empty(), oracle, "{path}");
    oracle
}

#[test]
fn a_rule_longer_than_64_bytes_and_a_path_longer_than_256() {
    let long = "d".repeat(200);
    let rules = [
        format!("name: a, deny: [read], path: [\"/srv/{long}/{long}/secret-{long}\"]"),
        format!("name: b, deny: [read], path: [\"**/{long}.key\"]"),
    ];
    let policy = files("allow", &rules);
    let plan = compile(&policy);
    assert!(!reads(&policy, &plan, &format!("/srv/{long}/{long}/secret-{long}")));
    assert!(reads(&policy, &plan, &format!("/srv/{long}/{long}/secret-{long}d")));
    assert!(reads(&policy, &plan, &format!("/srv/{long}/{long}/secret-{}", &long[1..])));
    assert!(!reads(&policy, &plan, &format!("/{}/{long}.key", "x/".repeat(1900))));
    assert!(reads(&policy, &plan, &format!("/{}/{long}.ke", "x/".repeat(1900))));
}

#[test]
fn twenty_five_levels_and_more() {
    let levels = |count: usize| (0..count).map(|i| format!("/level-{i}")).collect::<String>();
    let rules = [
        format!("name: a, deny: [read], path: [\"{}/secret\"]", levels(30)),
        format!("name: b, deny: [read], path: [\"{}/**\"]", levels(26)),
        "name: c, deny: [read], path: [\"**/deep/down/x\"]".to_owned(),
    ];
    let policy = files("allow", &rules);
    let plan = compile(&policy);
    assert!(!reads(&policy, &plan, &format!("{}/secret", levels(30))) && !reads(&policy, &plan, &levels(27)));
    assert!(reads(&policy, &plan, &levels(25)) && reads(&policy, &plan, &format!("{}/x", levels(25))));
    assert!(!reads(&policy, &plan, &format!("{}/deep/down/x", levels(20))));
}

#[test]
fn more_than_256_rules() {
    let rule = |i: usize| {
        let path =
            [format!("/srv/{i}/**"), format!("/etc/{i}.conf"), format!("**/name-{i}"), format!("**/*.x{i}")];
        format!("name: r{i}, deny: [read], path: [\"{}\"]", path[i % 4])
    };
    let policy = files("allow", &(0..1000).map(rule).collect::<Vec<_>>());
    let plan = compile(&policy);
    for i in 0..1000 {
        let hit = [
            format!("/srv/{i}/a/b"),
            format!("/etc/{i}.conf"),
            format!("/a/b/name-{i}"),
            format!("/z/y.x{i}"),
        ];
        let miss =
            [format!("/srv/{i}x"), format!("/etc/{i}.cont"), format!("/a/name-{i}/b"), format!("/z/yx{i}")];
        assert!(!reads(&policy, &plan, &hit[i % 4]) && reads(&policy, &plan, &miss[i % 4]), "{i}");
    }
}

#[test]
fn a_denial_inside_what_is_allowed_and_names_that_only_begin_alike() {
    let rules = [
        "name: a, allow: [read], path: [\"/w/**\"]".to_owned(),
        "name: b, deny: [read], path: [\"/w/private/**\", \"**/.env\"]".to_owned(),
    ];
    let policy = files("deny", &rules);
    let plan = compile(&policy);
    assert!(
        reads(&policy, &plan, "/w/a") && reads(&policy, &plan, "/w/privateer") && reads(&policy, &plan, "/w")
    );
    assert!(!reads(&policy, &plan, "/w/private") && !reads(&policy, &plan, "/w/private/x/y"));
    assert!(
        !reads(&policy, &plan, "/w/a/.env") && !reads(&policy, &plan, "/wx") && !reads(&policy, &plan, "/")
    );
    let policy = files("allow", &["name: a, deny: [read], path: [\"/a\", \"/d/**\"]".to_owned()]);
    let plan = compile(&policy);
    assert!(!reads(&policy, &plan, "/a") && reads(&policy, &plan, "/ab") && reads(&policy, &plan, "/a/b"));
    assert!(!reads(&policy, &plan, "/d/e") && reads(&policy, &plan, "/de"));
}

#[test]
fn a_directory_that_is_named_like_a_set() {
    let policy =
        files("allow", &["name: a, deny: [read], path: ['/app/\\[slug\\]/**', '/b/[slug]/x']".to_owned()]);
    let plan = compile(&policy);
    assert!(!reads(&policy, &plan, "/app/[slug]/page.tsx") && reads(&policy, &plan, "/app/s/page.tsx"));
    assert!(!reads(&policy, &plan, "/b/s/x") && reads(&policy, &plan, "/b/[slug]/x"));
}

#[test]
fn floating_rules_of_many_meanings_are_kept_apart() {
    // Below each directory of which the path has any, another set of conditions holds: 2^20 of them.
    let rule = |i: usize| {
        format!(
            "name: r{i}, deny: [read], path: [\"**/dir-{i}/**\"], by: [\"**/exe-{i}\"], except: [\"**/*.md\"]"
        )
    };
    let policy = files("allow", &(0..20).map(rule).collect::<Vec<_>>());
    let plan = compile(&policy);
    assert!(plan.cells.len() < 1 << 20, "{} cells", plan.cells.len());
    for (exe, path, open) in [
        ("/bin/exe-3", "/a/dir-3/b/dir-7/c", false),
        ("/bin/exe-7", "/a/dir-3/b/dir-7/c", false),
        ("/bin/exe-7", "/a/dir-3/b/dir-7/c.md", true),
        ("/bin/exe-8", "/a/dir-3/b/dir-7/c", true),
    ] {
        let act = Act::File { accesses: Access::Read.into(), path: path.as_bytes() };
        let subject = Subject { exe: exe.as_bytes(), ancestors: &[] };
        assert_eq!(evaluate::judge(&policy, &subject, &act).decision == Decision::Allow, open);
        let sets = plan.sets_of(Some(exe.as_bytes()), &Sets::FIRST).unwrap();
        let denied = plan.denied_at(&sets, Access::Read.into(), path.as_bytes()).unwrap();
        assert_eq!(denied.accesses.is_empty(), open, "{exe} {path}");
    }
}

#[test]
fn allowed_trees_do_not_multiply_with_floating_names() {
    let tree = |i: usize| {
        let access = ["read", "read, write", "read, create", "read, delete"][i % 4];
        format!(
            "name: t{i}, allow: [{access}], path: [\"/srv/{i}/**\"], except: [\"/srv/{i}/private-{i}/**\"]"
        )
    };
    let name = |i: usize| format!("name: n{i}, deny: [read], path: [\"**/name-{i}\", \"**/*.ext{i}\"]");
    let rules: Vec<String> = (0..500).map(tree).chain((0..500).map(name)).collect();
    let policy = files("deny", &rules);
    let plan = compile(&policy);
    assert!(plan.states().iter().sum::<usize>() < 20_000, "{:?}", plan.states());
    assert!(reads(&policy, &plan, "/srv/7/x") && !reads(&policy, &plan, "/srv/7/name-9"));
    assert!(!reads(&policy, &plan, "/srv/7/private-7/x") && reads(&policy, &plan, "/srv/7/private-8/x"));
}
