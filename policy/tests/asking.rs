//! Questions: what is asked about, and what an answer opens. The compiled tables must say the same as the oracle.

use policy::asking::{ASKED, Askable, Inquiry, Permit, Question};
use policy::compile::lsm::{self, SetTable};
use policy::{
    Access, AccessSet, Act, Decision, End, Owner, Policies, Policy, Protocol, SectionKind, Subject, Variables,
};

fn parse(name: &str, text: &str) -> Policy {
    Policy::parse("test.yaml", &format!("version: 1\nname: {name}\n{text}"), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}\n\n{text}"))
}

const CAT: Subject<'static> = Subject { exe: b"/usr/bin/cat", ancestors: &[] };
const DENIALS: fn() -> Askable = || Askable::Denials { but: "runner".to_owned() };

fn read(path: &[u8]) -> Act<'_> {
    Act::File { accesses: Access::Read.into(), path }
}

fn write(path: &[u8]) -> Act<'_> {
    Act::File { accesses: Access::Write.into(), path }
}

fn connect(host: [u8; 4], port: u16) -> Act<'static> {
    let end = End::Address {
        address: host.into(),
        port,
        protocol: Protocol::Tcp,
        names: &[],
        owner: Owner::Elsewhere,
    };
    Act::Network { accesses: Access::Connect.into(), end }
}

fn asked(policies: &Policies, askable: Askable, act: Act<'_>) -> Option<Question> {
    Inquiry::new(policies, askable).about(&CAT, &[act])
}

fn rules(question: &Question) -> Vec<&str> {
    question.rules.iter().map(|rule| rule.as_str()).collect()
}

fn permitted(policies: &Policies, askable: &Askable, act: Act<'_>) -> Policies {
    let permit = Permit::new(policies, askable, &CAT, &[act]).expect("it can be named");
    Permit::apply(std::iter::once(&permit), policies)
}

/// What the oracle says, where the tables say the same.
fn decide(policies: &Policies, subject: &Subject<'_>, act: Act<'_>) -> Decision {
    let decision = policies.judge(subject, &act).decision;
    let list: Vec<&Policy> = policies.iter().collect();
    let plan = lsm::compile(&list, 1, &mut SetTable::new()).expect("it fits");
    if let Act::File { accesses, path } = act
        && policies.iter().all(|policy| policy.files().rules().iter().all(|rule| rule.who().is_anyone()))
    {
        let denied =
            plan.denied_at(&lsm::Sets::UNKNOWN, accesses, path).expect("the tables are whole").accesses;
        assert_eq!(denied.is_empty(), decision == Decision::Allow, "{act:?}");
    }
    decision
}

const KEYS: &str = "files:\n  default: allow\n  rules:\n    \
    - { name: keys, ask: [read, write], path: [\"/keys/**\"], timeout: 30s, because: keys }\n";

#[test]
fn a_rule_that_asks_is_asked_about_and_one_that_denies_is_not() {
    let policies: Policies =
        parse("p", &format!("{KEYS}    - {{ name: never, deny: [read], path: [/keys/root] }}\n")).into();
    let question = asked(&policies, Askable::Rules, read(b"/keys/a")).unwrap();
    assert_eq!(rules(&question), ["p/keys"]);
    assert_eq!((question.timeout.as_secs(), question.because.as_deref()), (30, Some("keys")));
    assert_eq!(asked(&policies, Askable::Rules, read(b"/other")), None);
    assert_eq!(asked(&policies, Askable::Rules, read(b"/keys/root")), None, "a denial is no question");
    // Where denials are asked about, it is one.
    assert_eq!(rules(&asked(&policies, DENIALS(), read(b"/keys/root")).unwrap()), ["p/never"]);
}

#[test]
fn the_runners_own_policy_is_never_asked_about() {
    let user = parse("p", "files: { default: deny }\n");
    let runner = parse(
        "runner",
        "files:\n  default: allow\n  rules: [{ name: record, deny: [write], path: [\"/run/**\"] }]\n",
    );
    let policies = Policies::from(user).and(runner);
    assert_eq!(asked(&policies, DENIALS(), write(b"/run/x")), None);
    assert_eq!(rules(&asked(&policies, DENIALS(), write(b"/x")).unwrap()), ["p/files.default"]);
    assert_eq!(asked(&policies, Askable::Rules, write(b"/x")), None);
}

#[test]
fn an_answer_opens_one_object_for_the_accesses_asked_about() {
    let policies: Policies = parse("p", KEYS).into();
    let open = permitted(&policies, &Askable::Rules, read(b"/keys/a"));
    let decide = |act| decide(&open, &CAT, act);
    assert_eq!(decide(read(b"/keys/a")), Decision::Allow);
    for closed in [write(b"/keys/a"), read(b"/keys/b"), read(b"/keys/a/b"), write(b"/keys/b")] {
        assert_eq!(decide(closed), Decision::Ask, "{closed:?}");
    }
    // The rules keep their names: a verdict of the kernel is told by them.
    assert_eq!(open.judge(&CAT, &read(b"/keys/b")).rule.as_str(), "p/keys");
    // A second answer opens beside the first.
    let permits: Vec<Permit> = [read(b"/keys/a"), write(b"/keys/b")]
        .into_iter()
        .map(|act| Permit::new(&policies, &Askable::Rules, &CAT, &[act]).unwrap())
        .collect();
    let both = Permit::apply(permits.iter(), &policies);
    let decide = |act| both.judge(&CAT, &act).decision;
    assert_eq!([decide(read(b"/keys/a")), decide(write(b"/keys/b"))], [Decision::Allow; 2]);
    assert_eq!([decide(write(b"/keys/a")), decide(read(b"/keys/b"))], [Decision::Ask; 2]);
}

#[test]
fn an_answer_opens_what_a_default_closes() {
    let policies: Policies = parse("p", "files: { default: deny }\nexec: { default: deny }\n").into();
    let open = permitted(&policies, &DENIALS(), read(b"/x"));
    assert_eq!(decide(&open, &CAT, read(b"/x")), Decision::Allow);
    assert_eq!(decide(&open, &CAT, write(b"/x")), Decision::Deny);
    assert_eq!(decide(&open, &CAT, read(b"/y")), Decision::Deny);
    let run = Act::Exec { path: b"/bin/x", sha256: None };
    let open = permitted(&policies, &DENIALS(), run);
    assert_eq!(decide(&open, &CAT, run), Decision::Allow);
    assert_eq!(decide(&open, &CAT, Act::Exec { path: b"/bin/y", sha256: None }), Decision::Deny);
}

#[test]
fn an_answer_opens_no_policy_that_was_not_asked() {
    let asking = parse("p", KEYS);
    let policies: Policies = asking.clone().into();
    let permit = Permit::new(&policies, &Askable::Rules, &CAT, &[read(b"/keys/a")]).unwrap();
    // A later policy of the same name that says it otherwise is another one.
    let stricter = parse("p", &KEYS.replace("ask:", "deny:").replace(" timeout: 30s,", ""));
    let both = Permit::apply(std::iter::once(&permit), &policies.and(stricter));
    assert_eq!(decide(&both, &CAT, read(b"/keys/a")), Decision::Deny);
}

#[test]
fn an_answer_is_no_exception_from_rules_about_others() {
    let policies: Policies = parse(
        "p",
        &format!("{KEYS}    - {{ name: curl, deny: [read], path: [\"/keys/**\"], by: [/usr/bin/curl] }}\n"),
    )
    .into();
    let open = permitted(&policies, &Askable::Rules, read(b"/keys/a"));
    assert_eq!(open.judge(&CAT, &read(b"/keys/a")).decision, Decision::Allow);
    let curl = Subject { exe: b"/usr/bin/curl", ancestors: &[] };
    assert_eq!(open.judge(&curl, &read(b"/keys/a")).decision, Decision::Deny);
}

#[test]
fn addresses_are_opened_by_their_port() {
    let policies: Policies = parse(
        "p",
        "network:\n  default: allow\n  rules: [{ name: out, ask: [connect], to: [any], except: [localhost] }]\n",
    )
    .into();
    assert_eq!(rules(&asked(&policies, Askable::Rules, connect([10, 0, 0, 1], 80)).unwrap()), ["p/out"]);
    assert_eq!(asked(&policies, Askable::Rules, connect([127, 0, 0, 1], 80)), None);
    let open = permitted(&policies, &Askable::Rules, connect([10, 0, 0, 1], 80));
    assert_eq!(decide(&open, &CAT, connect([10, 0, 0, 1], 80)), Decision::Allow);
    assert_eq!(decide(&open, &CAT, connect([10, 0, 0, 1], 81)), Decision::Ask);
    assert_eq!(decide(&open, &CAT, connect([10, 0, 0, 2], 80)), Decision::Ask);
}

#[test]
fn no_question_is_put_where_it_is_not_certain_that_it_is_denied() {
    let digest = "ab".repeat(32);
    let policies: Policies = parse(
        "p",
        &format!(
            "files:\n  default: deny\n  rules:\n    - {{ name: make, allow: [read], path: [\"/src/**\"], under: [/usr/bin/make] }}\n\
             exec:\n  default: allow\n  rules: [{{ name: known, ask: [run], sha256: [\"{digest}\"] }}]\n"
        ),
    )
    .into();
    assert_eq!(asked(&policies, DENIALS(), read(b"/src/a")), None, "an ancestor may be make");
    assert!(asked(&policies, DENIALS(), read(b"/other")).is_some());
    assert_eq!(asked(&policies, DENIALS(), Act::Exec { path: b"/bin/x", sha256: None }), None);
    let lines: Vec<String> = policies.iter().flat_map(policy::asking::never_asked).collect();
    assert_eq!(lines, ["rule `p/known` names contents"]);
}

#[test]
fn calls_that_cannot_wait_are_no_questions() {
    let policies: Policies =
        parse("p", "network:\n  default: allow\n  rules: [{ name: l, ask: [listen, connect], to: [any] }]\n")
            .into();
    let Act::Network { end, .. } = connect([0, 0, 0, 0], 80) else { unreachable!() };
    assert_eq!(asked(&policies, Askable::Rules, Act::Network { accesses: Access::Listen.into(), end }), None);
    let lines: Vec<String> = policies.iter().flat_map(policy::asking::never_asked).collect();
    assert_eq!(lines, ["rule `p/l` asks for listen"]);
    assert!(!ASKED.iter().collect::<Vec<_>>().contains(&&Access::Listen));
    let all: AccessSet = ASKED.into_iter().collect();
    assert!(all.contains(Access::Delete));
}

#[test]
fn only_sections_that_ask_are_looked_at() {
    let policies: Policies = parse("p", KEYS).into();
    let concerns = |askable: Askable| {
        let inquiry = Inquiry::new(&policies, askable);
        [SectionKind::Files, SectionKind::Exec, SectionKind::Network].map(|kind| inquiry.concerns(kind))
    };
    assert_eq!(concerns(Askable::Rules), [true, false, false]);
    let plain: Policies = parse("p", "files: { default: deny }\nexec: { default: allow }\n").into();
    let inquiry = Inquiry::new(&plain, DENIALS());
    assert!(inquiry.concerns(SectionKind::Files) && !inquiry.concerns(SectionKind::Exec));
    assert!(!Inquiry::new(&plain, Askable::Rules).concerns(SectionKind::Files));
}
