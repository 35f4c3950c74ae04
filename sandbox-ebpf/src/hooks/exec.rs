//! bprm_check_security: every level of an exec, the script as well as each interpreter.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{event::Kind, policy::access};

use super::{EACCES, Matter, Subject, Tell, file};
use crate::offsets::{self, value};

/// bprm_check_security(bprm): `bprm->file` is the file of this level.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(1), EACCES) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let bprm: *const u8 = ctx.arg(0);
    // SAFETY: the verifier knows the hook's argument and follows the member to a `struct file`.
    let file = unsafe { *bprm.add(value(&offsets::BPRM_FILE)).cast::<*const u8>() };
    if file.is_null() {
        return EACCES;
    }
    let matter = Matter {
        check: Kind::ExecCheck,
        calls: [Kind::Exec; 3],
        access: access::RUN,
        tell: Tell::Usual,
        entered: false,
    };
    file::judge(&subject, file, matter)
}
