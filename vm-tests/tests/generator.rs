//! What the suite `oracle` generates, looked at without a kernel: its policies are policies, and what is tried
//! under them is neither all allowed nor all denied.

#[expect(dead_code, reason = "the guest makes the tree, and the host does not")]
#[path = "../src/bin/guest_tests/oracle"]
mod oracle {
    pub mod attempts;
    pub mod model;
    pub mod paths;
    pub mod policies;
    pub mod random;
    pub mod tree;
}

use oracle::attempts::{Call, Plan};
use oracle::model::{Expected, Model};
use oracle::random::Random;
use policy::{Policy, Variables};
use std::collections::BTreeMap;

#[test]
fn policies_are_read_and_both_verdicts_are_common() {
    let mut by_call: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for seed in 0..6 {
        let (plan, text) = generate(seed);
        let policy = Policy::parse("p", &text, &Variables::new())
            .unwrap_or_else(|errors| panic!("seed {seed}: {errors}"));
        assert!(plan.attempts.iter().all(|attempt| attempt.names.iter().all(|name| name.len() <= 4095)));
        for attempt in &plan.attempts {
            let Expected::Answer(result, lines) = Model::new(&policy, attempt.actor).expect(attempt) else {
                continue;
            };
            assert!(!lines.is_empty(), "{}", attempt.show());
            // The oracle says of a move only when it must fail.
            if attempt.call == Call::Move {
                continue;
            }
            let call = match attempt.call {
                Call::Network(word, ..) | Call::Unix(word, _) => word.to_owned(),
                call => format!("{call:?}"),
            };
            by_call.entry(call).or_default()[usize::from(result != 0)] += 1;
        }
    }
    let common = by_call.values().all(|[allowed, denied]| *allowed >= 4 && *denied >= 4);
    assert!(common && by_call.len() == 31, "{by_call:#?}");
}

#[test]
fn a_seed_always_means_the_same() {
    let text = |seed| {
        let (plan, text) = generate(seed);
        format!("{text}{:?}", plan.attempts)
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

fn generate(seed: u64) -> (Plan, String) {
    let mut random = Random::new(seed);
    let regions = oracle::paths::regions(12);
    let mut plan = Plan::generate(&mut random, &regions, 30, 35);
    plan.speak(&mut random, 100);
    let text = oracle::policies::generate(&mut random, "p", &regions, &plan);
    (plan, text)
}
