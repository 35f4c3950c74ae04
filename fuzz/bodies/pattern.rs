//! One pattern and one path: the matcher, what is printed, and the automaton.

use policy::compile::lsm;
use policy::{Access, AccessSet, Policy, Variables};

/// True where the bytes before the first NUL are a pattern.
///
/// # Panics
///
/// Where the pattern, the printed pattern and the plan do not agree on the path.
pub fn run(data: &[u8]) -> bool {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (pattern, path) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(pattern) = std::str::from_utf8(pattern) else { return false };
    let mut path = [b"/", path].concat();
    path.retain(|byte| *byte != 0);
    let quoted: String = pattern
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    let text = format!(
        "version: 1\nname: p\nfiles: {{ default: allow, rules: [{{ name: r, deny: [read], path: [\"{quoted}\"] }}] }}\n"
    );
    let Ok(policy) = Policy::parse("p", &text, &Variables::new()) else { return false };
    let read = AccessSet::from(Access::Read);
    let judge = |policy: &Policy| policy::evaluate::file(policy, read, &path).decision;
    let decision = judge(&policy);
    let again = Policy::parse("again", &policy.effective_yaml(), &Variables::new())
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(judge(&again), decision, "{pattern:?} printed, on {}", path.escape_ascii());
    if let Ok(plan) = lsm::compile(&[&policy], 0, &mut lsm::SetTable::new()) {
        let denied = plan.denied_at(&lsm::Sets::UNKNOWN, read, &path).expect("the tables are whole");
        let denied = !denied.accesses.is_empty();
        assert_eq!(denied, decision == policy::Decision::Deny, "{pattern:?} on {}", path.escape_ascii());
    }
    true
}
