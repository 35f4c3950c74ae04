//! The first process of a run, where it is the collector's child: the front-end hears what happens to it from here.

use crate::launch::descendants;
use crate::launch::handshake::{Channel, FromCollector, FromFrontEnd};
use crate::launch::plan::{Parentage, RunPlan};
use crate::launch::process::{Change, LookFor, Process};

/// Tells the front-end what happened to this process's child. Its end is told first, and only then taken, so that a death
/// in between leaves it to be found.
pub(super) fn tell(front: &Channel<FromCollector, FromFrontEnd>, child: &Process) {
    while let Ok(Some(next)) = child.next_change() {
        if let Change::Ended(_) = next {
            let _ = front.send(&FromCollector::Changed(next));
            let _ = child.change(LookFor::StopsAndEnd);
            break;
        }
        // A stop is taken first: behind the telling it might be the next one that is taken, which nobody then hears of.
        if let Ok(Some(change)) = child.change(LookFor::Stops) {
            let _ = front.send(&FromCollector::Changed(change));
        }
    }
    descendants::reap_adopted(child.pid());
}

/// Whether anything of a run that lost its front-end goes on.
pub(super) fn goes_on(plan: &RunPlan, child: &Process) -> bool {
    if plan.parentage == Parentage::Collector {
        // Nobody is left to be told.
        let reap = || {
            let _ = child.change(LookFor::StopsAndEnd);
            descendants::reap_adopted(child.pid());
        };
        return !descendants::living(&reap).is_empty();
    }
    !child.has_ended() || plan.cgroup.as_ref().is_some_and(|group| !group.processes().is_empty())
}
