//! The hooks on execution: every level of an exec is judged, the script as well as each interpreter; and what is
//! known of the process is found anew when it has another executable.

use aya_ebpf::{
    helpers::generated::{bpf_d_path, bpf_ima_file_hash},
    macros::lsm,
    programs::LsmContext,
};
use sandbox_ebpf::abi::{
    event::{Kind, PATH_MAX},
    policy::access,
};

use super::{EACCES, Matter, Subject, Tell, Workplace, file};
use crate::{
    maps::{HookScratch, get, put},
    offsets::{self, value},
    verdict,
};

/// `HASH_ALGO_SHA256` (include/uapi/linux/hash_info.h).
const SHA256: i64 = 4;

/// bprm_check_security(bprm): `bprm->file` is the file of this level.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    match begin(&ctx) {
        Ok((subject, file)) => file::judge(&subject, file, MATTER),
        Err(answer) => answer,
    }
}

/// The same where the policy knows files by their contents: it reads the whole file, so it may sleep. One of the two
/// is attached.
#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_contents(ctx: LsmContext) -> i32 {
    match begin(&ctx) {
        Ok((subject, file)) => file::judge_contents(&subject, file, MATTER, Some(hash)),
        Err(answer) => answer,
    }
}

const MATTER: Matter = Matter {
    check: Kind::ExecCheck,
    calls: [Kind::Exec; 3],
    access: access::RUN,
    tell: Tell::Usual,
    entered: false,
};

#[inline(always)]
fn begin(ctx: &LsmContext) -> Result<(Subject, *const u8), i32> {
    let subject = Subject::of_hook(ctx.arg(1), EACCES)?;
    let bprm: *const u8 = ctx.arg(0);
    // SAFETY: the verifier knows the hook's argument and follows the member to a `struct file`.
    let file = unsafe { *bprm.add(value(&offsets::BPRM_FILE)).cast::<*const u8>() };
    if file.is_null() { Err(EACCES) } else { Ok((subject, file)) }
}

/// Puts the SHA-256 of a file into the scratch; false when it cannot be had.
#[inline(always)]
fn hash(file: *const u8, scratch: &mut HookScratch) -> bool {
    // SAFETY: the file comes from the hook's argument; behind the digest there is room for the longest one.
    unsafe { bpf_ima_file_hash(file as *mut _, (&raw mut scratch.digest).cast(), 64) == SHA256 }
}

/// bprm_committed_creds(bprm): the exec has succeeded, and `bprm->file` is what runs now.
#[lsm(hook = "bprm_committed_creds")]
pub fn bprm_committed_creds(ctx: LsmContext) -> i32 {
    let Ok(subject) = Subject::of_hook(0, 0) else { return 0 };
    if !subject.judged() {
        return 0;
    }
    let bprm: *const u8 = ctx.arg(0);
    // SAFETY: the verifier knows the hook's argument and follows the member to a `struct file`.
    let file = unsafe { *bprm.add(value(&offsets::BPRM_FILE)).cast::<*const u8>() };
    if file.is_null() {
        subject.executes(0, u64::MAX);
        return 0;
    }
    let Some(place) = Workplace::enter() else {
        subject.executes(0, u64::MAX);
        return 0;
    };
    // SAFETY: the scratch is a map value; a file's f_path stands at its offset; the buffer holds PATH_MAX bytes.
    let written = unsafe {
        bpf_d_path(
            file.add(value(&offsets::FILE_F_PATH)) as *mut _,
            (&raw mut (*place.scratch).path).cast(),
            PATH_MAX as u32,
        )
    };
    // SAFETY: as above.
    let scratch = unsafe { &mut *place.scratch };
    put(&mut scratch.finding.length, file::name_length(written) as u64);
    // Where the name cannot be found out, or its maker chose it (a memfd), the process may be any and is surely none.
    let named = file::is_named(file, scratch) && !file::is_nameless(file as u64);
    let known = if named { verdict::sets(&subject, scratch) } else { 0 };
    let sets = get(&scratch.walk.object);
    subject.executes(sets & known, sets | !known);
    place.leave();
    0
}
