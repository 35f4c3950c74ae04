//! Groups under the rules that denied them, the busiest rule first.

use super::group::{Effect, Group};

/// What one rule denied.
#[derive(Clone, Debug)]
pub struct Ruled<'g> {
    /// Whether it took effect.
    pub effect: Effect,
    /// The rule, or why there is none; safe to print.
    pub decided: String,
    /// The rule's own explanation, as it is.
    pub because: Option<&'g str>,
    /// The layer that held it.
    pub layer: &'g str,
    /// Denied attempts.
    pub count: u64,
    /// The groups with their places in what was given, the largest first; behind them what may be none of the program's
    /// business.
    pub groups: Vec<(usize, &'g Group)>,
}

/// Puts groups under their rules.
pub fn arrange(groups: &[Group]) -> Vec<Ruled<'_>> {
    let mut ruled: Vec<Ruled<'_>> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for (place, group) in groups.iter().enumerate() {
        let matter = &group.matter;
        let because = matter.because.as_deref();
        let layer = matter.layer.as_str();
        let key = (matter.effect, &matter.rule, &matter.reason, because, layer);
        let at = *at.entry(key).or_insert_with(|| {
            let decided = matter.decided();
            ruled.push(Ruled {
                effect: matter.effect,
                decided,
                because,
                layer,
                count: 0,
                groups: Vec::new(),
            });
            ruled.len() - 1
        });
        ruled[at].count = ruled[at].count.saturating_add(group.count);
        ruled[at].groups.push((place, group));
    }
    for rule in &mut ruled {
        rule.groups.sort_by_key(|(place, group)| {
            (group.matter.may_only_sort(), std::cmp::Reverse(group.count), *place)
        });
    }
    // What took effect before what would have; among equals the one that came first.
    ruled.sort_by_key(|rule| (rule.effect, std::cmp::Reverse(rule.count)));
    ruled
}

/// `17 blocked, 3 would be blocked`; attempts beyond the groups come behind.
pub fn totals(groups: &[Group], more: u64) -> String {
    let of = |effect| {
        let counts = groups.iter().filter(|group| group.matter.effect == effect).map(|group| group.count);
        counts.fold(0u64, u64::saturating_add)
    };
    let parts = [
        (of(Effect::Blocked), "blocked"),
        (of(Effect::WouldBlock), "would be blocked"),
        (more, "more that are not told apart"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> =
        parts.map(|(count, what)| format!("{} {what}", crate::review::text::grouped(*count))).collect();
    if parts.is_empty() { "nothing was blocked".to_owned() } else { parts.join(", ") }
}
