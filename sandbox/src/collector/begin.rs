//! What the record of a run is begun with: its first line, its policies, who signs it, and what a failure means.

use std::os::unix::ffi::OsStrExt;

use super::StartError;
use crate::event::ProcId;
use crate::launch::guardian::OnFailure;
use crate::launch::plan::{Mode, RecordPlan, RunPlan};
use crate::record::ledger::LedgerFile;
use crate::record::meta::MetaPolicy;
use crate::record::{self, Attestation, KeyReach, RecordError, RecordSettings, RunStart, keys};
use crate::sensor::Sensor;

/// How the log is written, and what a failure of it means.
pub(super) fn record_settings(plan: &RunPlan) -> RecordSettings {
    let on_log_error = plan.on_log_error();
    let RecordPlan { durability, checkpoints, .. } = plan.record;
    RecordSettings { durability, on_log_error, checkpoints }
}

/// The ledger, the key and the anchors of the run.
pub(super) fn attestation(plan: &RunPlan) -> Result<Attestation, StartError> {
    let ledger = plan.store.as_ref().filter(|_| plan.record.entered);
    let ledger = ledger.map(LedgerFile::open).transpose().map_err(RecordError::from)?;
    // In the ledger a key signs as long as it is in force there.
    let signer = plan.store.as_ref().filter(|_| ledger.is_none());
    let signer = signer.map(keys::signer).transpose()?.flatten();
    let reach = match plan.on_failure() {
        // A rule of the runner's own keeps it also from root.
        OnFailure::EndTree => KeyReach::Kept,
        OnFailure::LetGo
            if plan.target.uid != nix::unistd::Uid::effective().as_raw() && plan.target.uid != 0 =>
        {
            KeyReach::Kept
        }
        OnFailure::LetGo => KeyReach::WithinReach,
    };
    Ok(Attestation { ledger, signer, reach, anchors: plan.record.anchors.clone() })
}

/// Puts the policies as they hold, without variables, beside the log.
pub(super) fn store_policy(plan: &RunPlan) -> Result<Option<MetaPolicy>, StartError> {
    let Some(policies) = plan.mode.policies() else { return Ok(None) };
    let text = policies.effective_yaml();
    plan.run_dir
        .replace_file(record::EFFECTIVE_POLICY, text.as_bytes())
        .map_err(|source| StartError::System { step: "write policy.effective.yaml", source })?;
    Ok(Some(MetaPolicy { name: policies.names(), sha256: record::sha256_hex(text.as_bytes()) }))
}

pub(super) fn run_start(
    plan: &RunPlan,
    process: ProcId,
    policy: Option<MetaPolicy>,
    sensor: &Sensor,
) -> RunStart {
    let mode = match plan.mode {
        Mode::Observe | Mode::Audit(_) => record::Mode::AuditOnly,
        Mode::Enforce(..) => record::Mode::Enforce,
    };
    RunStart {
        command: plan.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: plan.cwd.as_os_str().as_bytes().to_vec(),
        uid: plan.target.uid,
        user: plan.target.name.clone(),
        home: plan.target.home.as_os_str().as_bytes().to_vec(),
        environment: plan.target.environment().variables(),
        mode,
        layers: sensor.reports().to_vec(),
        policy,
        unheld: sensor.unheld().to_vec(),
        process,
        wall_ns: record::time::wall_now_ns(),
        mono_ns: record::time::mono_now_ns(),
    }
}
