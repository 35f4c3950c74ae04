//! A run that is observed by its own calls: no program is loaded, and no privilege is needed.
//!
//! It holds nothing of a policy; what the command's process puts around itself may, and what nothing holds refuses an
//! enforced run here as everywhere.

use nix::unistd::geteuid;
use policy::compile::lsm::{LsmPlan, SetTable};

use super::{
    FIRST_POLICY, Judging, Request, Sensor, SensorError, Source, Terms, demand,
    held::{held, held_here},
    net,
    tried::{Tried, report, try_notify},
    walls,
};
use crate::{
    enforce::lsm::Known,
    kernel::{bpf, btf},
    record::LayerReport,
    settings::{Layer, LayerChoice},
};

/// Why an ordinary user has none of the other layers.
pub(super) const ONLY_ROOT: &str = "only root can load programs into the kernel";

/// What the user is told before the command starts.
const NOTE: &str = "observed by notify: the command runs with no_new_privs, so setuid programs gain nothing; not \
                               seen are io_uring operations and the results of calls";

/// Whether a run with this choice of layers is observed by its calls from the start: it is asked for, or nothing else is
/// possible.
pub fn wanted(layers: &LayerChoice) -> bool {
    match layers {
        LayerChoice::Only(layers) => layers.contains(&Layer::Notify),
        LayerChoice::Auto => no_programs().is_some(),
    }
}

/// Why this process can load no programs into the kernel: it is not the machine's root, or a root that may not, as in
/// most containers and in a chroot without /sys.
pub(super) fn no_programs() -> Option<String> {
    if !rules_the_machine() {
        return Some(ONLY_ROOT.to_owned());
    }
    if let Err(error) = std::fs::File::open(btf::VMLINUX) {
        return Some(format!("the kernel shows no type information here ({}): {error}", btf::VMLINUX));
    }
    let made = bpf::create_pages(1).err();
    made.map(|error| format!("this root may make no maps (bpf(2)), as in a container: {error}"))
}

/// What the user is told before the command starts.
pub(super) fn note() -> String {
    match no_programs() {
        Some(reason) if rules_the_machine() => format!("{NOTE}; for there are no programs here: {reason}"),
        _ => NOTE.to_owned(),
    }
}

/// Whether this is the machine's root, who may load programs into the kernel, and not that of a user namespace.
pub fn rules_the_machine() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether it is where no program observes.
pub(super) fn can_stand_in(layers: &LayerChoice) -> bool {
    layers.includes(Layer::Notify)
}

/// Proves the layer, and says what of the policy would not be held.
pub(super) fn start(
    request: &Request<'_>,
    plan: Option<&LsmPlan>,
    sets: SetTable,
) -> Result<(Sensor, Terms), SensorError> {
    let missing = |layer: Layer| -> Option<Tried> {
        let reason = no_programs().unwrap_or_else(|| "it does not work here".to_owned());
        request.layers.includes(layer).then_some(Err(reason))
    };
    let notify = Some(try_notify());
    for layer in Layer::OF_PROGRAMS {
        demand(request, layer, &missing(layer))?;
    }
    if let Some(Err(reason)) = &notify {
        return match demand(request, Layer::Notify, &notify) {
            Ok(()) => Err(SensorError::Blind(reason.clone())),
            Err(error) => Err(error),
        };
    }
    let netns = net::try_netns(request, false);
    demand(request, Layer::Netns, &netns)?;
    let apart = matches!(netns, Some(Ok(_)));
    let (lsm, group) = (&missing(Layer::Lsm), &missing(Layer::CgroupNet));
    let tried = walls::Tries { lsm, group, netns: &netns, spelled: &[] };
    let (walls, unheld, walled) = walls::raise(request, plan, tried)?;
    let namespaces = net::namespaces(apart)?;
    let terms = Terms {
        judges: apart,
        held: walls.tmp.held(held_here(held(false, false, walls.limits), request, apart)),
        law: matches!(request.judging, Judging::Enforce(..)),
        known: Known::Path,
        sets,
        names: apart,
        own: apart,
        next: FIRST_POLICY + 1,
        accepted: unheld.clone(),
        marker: None,
    };
    let sensor = Sensor {
        source: Source::Calls(None),
        reports: report(Layer::Notify, "observes", notify)
            .into_iter()
            .chain(report(Layer::Netns, LayerReport::ENFORCES, netns))
            .chain(walled)
            .collect(),
        unheld,
        unseen: Vec::new(),
        hooks: false,
        judges: false,
        installed: Vec::new(),
        asked: None,
        hears: false,
        walls,
        namespaces,
    };
    Ok((sensor, terms))
}
