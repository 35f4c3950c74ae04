//! What the command's process puts around itself, as far as it is needed: Landlock, covers, the filter. Each is proven,
//! and what of the policies nothing holds then is refused, or listed where the user chose so.
//!
//! The programs in the kernel are tried before, and are no concern of this module.

use policy::compile::{Unheld, layers::Kept, lsm::LsmPlan, seccomp::Hooks};
use policy::settings::LimitSet;

use super::{
    Judging, Request, SensorError,
    covers::{self, Covers},
    demand,
    elsewhere::Elsewhere,
    held::{Ending, Layers, ending, limits_held, unheld},
    streams::{self, Behind, Streams},
    tmp::{self, Tmp},
    tried::{FILTER, Tried, both, report, try_filter, try_landlock, try_mountns},
};
use crate::{
    enforce::{landlock::Fence, mountns::Mounts},
    launch::handshake::Fenced,
    record::LayerReport,
    settings::Layer,
};

/// What the command's process is to put around itself.
#[derive(Debug, Default)]
pub(super) struct Walls {
    pub fenced: Fenced,
    pub mounts: Mounts,
    /// The limits that are held.
    pub limits: LimitSet,
    /// Who makes sure that the end of the run ends all of it.
    pub ending: Ending,
    /// What became of a /tmp of the run's own.
    pub tmp: Tmp,
    /// What the user should know of it before the command starts.
    pub notes: Vec<String>,
}

/// What was tried before.
#[derive(Clone, Copy)]
pub(super) struct Tries<'a> {
    pub lsm: &'a Option<Tried>,
    pub group: &'a Option<Tried>,
    pub netns: &'a Option<Tried>,
    /// What hooks do not hold because of spellings.
    pub spelled: &'a [Unheld],
}

/// Walls, what nothing holds, and what is told of them.
pub(super) type Raised = (Walls, Vec<String>, Vec<LayerReport>);

/// Plans and proves them, beside the programs that were tried.
///
/// # Errors
/// A layer that was named does not work here, or the policies cannot be held.
pub(super) fn raise(
    request: &Request<'_>,
    plan: Option<&LsmPlan>,
    Tries { lsm, group, netns, spelled }: Tries<'_>,
) -> Result<Raised, SensorError> {
    let holds = matches!(lsm, Some(Ok(_)));
    let policies = request.judging.policies();
    let law = matches!(request.judging, Judging::Enforce(..));
    // Hooks hold all that it does, and more exactly.
    let fenced = match holds && !request.layers.names(Layer::Landlock) {
        true => None,
        false => request.fence.map(try_landlock),
    };
    demand(request, Layer::Landlock, &fenced)?;
    let fence = match (request.fence, &fenced) {
        (Some(Ok(fence)), Some(Ok(_))) => Some(fence),
        _ => None,
    };
    let tmp_tried = tmp::try_it(request);
    let bare = Layers {
        lsm,
        group,
        netns,
        fence,
        kept: request.kept,
        uncovered: None,
        tmp: &tmp::expected(request),
        round: &[],
        spelled,
    };
    let words = bare.words(request);
    let tmp = tmp::of(request, tmp_tried.as_ref(), &words);
    let layers = Layers { tmp: &tmp, ..bare };
    let covers = !holds && law && request.layers.includes(Layer::Mountns);
    let mut planned = match covers {
        true => covers::plan(&layers.together(request, &words), &policies, tmp.laid()),
        false => Covers::default(),
    };
    let landlock = fence.map(Fence::plans).unwrap_or_default();
    let elsewhere = match !holds && law {
        true => Elsewhere::look(landlock, &planned.mounts, tmp.laid()),
        false => Elsewhere::default(),
    };
    let covers = covers && covers::NEEDED.iter().all(|word| words.contains_key(word));
    if covers {
        elsewhere.add_to(&mut planned.mounts);
    }
    let covered = (!planned.mounts.is_empty()).then(try_mountns);
    let mounted = match (covered.clone(), tmp_tried) {
        (Some(covered), Some(tmp)) => Some(both(covered, tmp)),
        (covered, tmp) => covered.or(tmp),
    };
    demand(request, Layer::Mountns, &mounted)?;
    let Covers { mounts, kept, made, open, notes } = match covered {
        Some(Err(_)) => Covers::default(),
        _ => planned,
    };
    let kept: Vec<Kept> = request.kept.iter().cloned().chain(kept).collect();
    let uncovered = covered.as_ref().and_then(|tried| tried.as_ref().err()).map(String::as_str);
    let streams = match mounts.is_empty() && tmp.laid().is_none() {
        true => Streams::default(),
        false => streams::plan(request.standard, Behind { kept: &kept, landlock, tmp: tmp.laid() }),
    };
    let beside = elsewhere.open(covers && !matches!(covered, Some(Err(_))));
    let round: Vec<String> = open.into_iter().chain(beside).chain(streams.unheld).collect();
    let unheld = unheld(request, plan, &Layers { kept: &kept, uncovered, round: &round, ..layers })?;
    let walls = Walls {
        fenced: match (fence, netns) {
            (None, _) => Fenced::No,
            // Ports are the relay's to judge there.
            (Some(_), Some(Ok(_))) => Fenced::WithoutPorts,
            (Some(_), _) => Fenced::Yes,
        },
        mounts: mounts
            .with_tmp(tmp.laid().cloned().map(|tmp| tmp.with_made(made)))
            .with_streams(streams.again),
        limits: limits_held(request, &words),
        ending: ending(request, &words),
        notes: fence
            .map(Fence::notes)
            .unwrap_or_default()
            .iter()
            .cloned()
            .chain(notes)
            .chain(tmp.note())
            .chain(law.then(|| ending(request, &words).note()).flatten())
            .collect(),
        tmp,
    };
    let mut reports: Vec<LayerReport> = Vec::new();
    reports.extend(report(Layer::Landlock, LayerReport::ENFORCES, fenced));
    reports.extend(report(Layer::Mountns, LayerReport::ENFORCES, mounted));
    if let Judging::Enforce(policies, _) = request.judging {
        let hooks = if holds { Hooks::Judge } else { Hooks::Missing };
        let proven = try_filter(&policies.filter(), hooks);
        reports.push(proven.map_err(|reason| SensorError::Missing { layer: FILTER, reason })?);
    }
    Ok((walls, unheld, reports))
}
