//! Each layer, tried: loaded, attached and proven, or taken back.

use std::path::Path;

use aya::maps::{MapData, RingBuf};
use policy::compile::seccomp::{self, Filter, Hooks};
use sandbox_ebpf::abi::event::Kind;

use crate::{
    enforce::{
        group::{self, Purpose},
        landlock::Fence,
        lsm::{self, Known},
        namespaces::proof,
        tmp::PrivateTmp,
    },
    kernel::object::{Object, ObjectError},
    layers::{
        probe,
        selftest::{self, HELD, SelfTestError},
    },
    observe::{RawEvent, trace},
    record::{LayerReport, SelfTest},
    settings::Layer,
};

/// The system call filter, as reports call it. No choice of layers leaves it out.
pub const FILTER: &str = "seccomp";

/// What of the run's own mounts gives it a /tmp, as reports call it where it does not work.
pub const TMP: &str = "tmp";

/// Why there can be no programs of the run's control group.
pub(super) const NO_GROUP: &str = "the run has no control group of its own";

/// A layer that works, or why not.
pub(super) type Tried = Result<Vec<SelfTest>, String>;

/// Tries every layer and says what was found; `group` is a control group to try those programs in, `tmp` a /tmp of a
/// run's own. This process must have one thread.
pub fn survey(group: Option<&Path>, tmp: &Result<PrivateTmp, String>) -> Vec<LayerReport> {
    let obstacle = probe::lsm_obstacle();
    let tried = match Object::load(obstacle.is_none()) {
        Ok(mut object) => match object.take_ring() {
            Ok(mut ring) => [
                (Layer::Lsm, try_lsm(&mut object, obstacle, Known::Path)),
                (Layer::Trace, try_trace(&mut object, &mut ring)),
                (Layer::CgroupNet, try_group(&mut object, group, Purpose::Judge)),
            ],
            Err(error) => Layer::OF_PROGRAMS.map(|layer| (layer, Err(text(&error)))),
        },
        Err(error) => {
            let reason = match nix::unistd::geteuid().is_root() {
                true => text(&error),
                false => "not known: only root can load eBPF programs".to_owned(),
            };
            Layer::OF_PROGRAMS.map(|layer| (layer, Err(reason.clone())))
        }
    };
    let others = [
        (Layer::Notify, try_notify()),
        (Layer::Landlock, prove_landlock()),
        (Layer::Mountns, both(try_mountns(), try_tmp(tmp))),
        (Layer::Netns, proof::net().and_then(proven)),
    ];
    let reports = tried.into_iter().chain(others).filter_map(|(layer, tried)| {
        let role = match layer {
            Layer::Lsm => "observes and enforces",
            Layer::Trace | Layer::Notify => "observes",
            Layer::CgroupNet | Layer::Landlock | Layer::Mountns | Layer::Netns => LayerReport::ENFORCES,
        };
        report(layer, role, Some(tried))
    });
    // All that it can close: with hooks it closes less.
    let filter = try_filter(&Filter::new(Vec::new()), Hooks::Missing).unwrap_or_else(|reason| {
        let available = SelfTest { check: "available".to_owned(), result: reason };
        filter_report(LayerReport::OFF, vec![available])
    });
    reports.chain([filter]).collect()
}

pub(super) fn try_lsm(object: &mut Object, obstacle: Option<String>, known: Known) -> Tried {
    if let Some(obstacle) = obstacle {
        return Err(obstacle);
    }
    attempt(object, |object| lsm::attach(object, known), selftest::lsm)
}

/// Attaches the programs that only watch; whether they could be.
pub(super) fn watch_group(object: &mut Object, directory: &Path) -> bool {
    attempt(object, |object| group::attach(object, directory, Purpose::Watch), |_| Ok(Vec::new())).is_ok()
}

pub(super) fn try_group(object: &mut Object, directory: Option<&Path>, purpose: Purpose) -> Tried {
    let Some(directory) = directory else {
        return Err(NO_GROUP.to_owned());
    };
    attempt(
        object,
        |object| group::attach(object, directory, purpose),
        |object| selftest::group(object, directory, purpose),
    )
}

/// Proves Landlock, where there is something to put up.
pub(super) fn try_landlock(fence: &Result<Fence, String>) -> Tried {
    match fence {
        Ok(_) => prove_landlock(),
        Err(reason) => Err(reason.clone()),
    }
}

fn prove_landlock() -> Tried {
    selftest::landlock::landlock().map_err(|error| text(&error)).and_then(proven)
}

/// Proves mounts of the run's own.
pub(super) fn try_mountns() -> Tried {
    selftest::mountns::mountns().map_err(|error| text(&error)).and_then(proven)
}

/// Proves a /tmp of the run's own, where there is one to be had.
pub(super) fn try_tmp(tmp: &Result<PrivateTmp, String>) -> Tried {
    let tmp = tmp.as_ref().map_err(Clone::clone)?;
    selftest::tmp::tmp(tmp).map_err(|error| text(&error)).and_then(proven)
}

/// What two uses of the run's own mounts found: where one of them does not work, the other goes on, and the report says so.
pub(super) fn both(covers: Tried, tmp: Tried) -> Tried {
    let missing = |check: &str, result| SelfTest { check: check.to_owned(), result };
    match (covers, tmp) {
        (Ok(covers), Ok(tmp)) => Ok(covers.into_iter().chain(tmp).collect()),
        (Ok(covers), Err(result)) => Ok(covers.into_iter().chain([missing(TMP, result)]).collect()),
        (Err(result), Ok(tmp)) => Ok(tmp.into_iter().chain([missing("covers", result)]).collect()),
        (Err(result), Err(_)) => Err(result),
    }
}

pub(super) fn try_trace(object: &mut Object, ring: &mut RingBuf<MapData>) -> Tried {
    attempt(object, trace::attach, |object| selftest::trace(object, || kinds(ring)))
}

pub(super) fn try_notify() -> Tried {
    selftest::notify::check().map_err(|error| text(&error)).and_then(proven)
}

/// Attaches a layer's programs and proves them; where they do not hold, they are taken off again.
fn attempt(
    object: &mut Object,
    attach: impl FnOnce(&mut Object) -> Result<(), ObjectError>,
    prove: impl FnOnce(&Object) -> Result<Vec<SelfTest>, SelfTestError>,
) -> Tried {
    let before = object.links().len();
    let tried = attach(object)
        .map_err(|error| text(&error))
        .and_then(|()| prove(object).map_err(|error| text(&error)))
        .and_then(proven);
    if tried.is_err() {
        object.detach_since(before);
    }
    tried
}

/// A layer holds only when each of its checks does.
pub(super) fn proven(checks: Vec<SelfTest>) -> Tried {
    match checks.iter().find(|check| check.result != HELD) {
        None => Ok(checks),
        Some(failed) => Err(format!("its self-test of `{}` failed: {}", failed.check, failed.result)),
    }
}

pub(super) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The kinds of the self-test's records in the ring.
fn kinds(ring: &mut RingBuf<MapData>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while let Some(record) = ring.next() {
        if let Ok(raw) = RawEvent::parse(&record)
            && raw.header.slot == selftest::SLOT
        {
            kinds.push(Kind::from_raw(raw.header.kind));
        }
    }
    kinds
}

/// Proves the filter of an enforced run, in a process of its own.
pub(super) fn try_filter(filter: &Filter, hooks: Hooks) -> Result<LayerReport, String> {
    let checks = selftest::filter(&seccomp::compile(filter, hooks))?;
    match checks.iter().find(|check| check.result != HELD) {
        None => Ok(filter_report(LayerReport::ENFORCES, checks)),
        Some(failed) => Err(format!("its self-test of `{}` failed: {}", failed.check, failed.result)),
    }
}

fn filter_report(role: &str, selftest: Vec<SelfTest>) -> LayerReport {
    LayerReport { name: FILTER.to_owned(), role: role.to_owned(), selftest }
}

/// Throws away what the self-tests left in the ring.
pub(super) fn discard(ring: &mut RingBuf<MapData>) {
    while ring.next().is_some() {}
}

/// What meta.json says about a layer that was tried.
pub(super) fn report(layer: Layer, role: &str, tried: Option<Tried>) -> Option<LayerReport> {
    let (role, selftest) = match tried? {
        Ok(checks) => (role.to_owned(), checks),
        Err(reason) => {
            (LayerReport::OFF.to_owned(), vec![SelfTest { check: "available".to_owned(), result: reason }])
        }
    };
    Some(LayerReport { name: layer.name().to_owned(), role, selftest })
}
