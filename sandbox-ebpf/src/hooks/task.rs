//! task_alloc: membership of a run is handed to every task that a member makes.

use aya_ebpf::{helpers::generated::bpf_task_storage_get, macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::config::Mode;

use super::{CREATE, EAGAIN, Subject};
use crate::{
    emit::counter,
    maps::{MEMBERS, Member, SCRATCH},
};

/// task_alloc(task, clone_flags), in the parent, before the child can run. A child whose membership cannot be
/// kept is not made in an enforced run; in an audited one it is counted.
#[lsm(hook = "task_alloc")]
pub fn task_alloc(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(2), EAGAIN) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    let child: *mut u8 = ctx.arg(0);
    // SAFETY: the child is the hook's argument; the map is task storage of `Member`.
    let member =
        unsafe { bpf_task_storage_get(MEMBERS.as_ptr(), child.cast(), core::ptr::null_mut(), CREATE) }
            as *mut Member;
    if member.is_null() {
        if subject.mode == Mode::Enforce as u32 {
            return EAGAIN;
        }
        counter!(subject.slot, untracked);
        return 0;
    }
    // SAFETY: task storage returned a value of this type.
    unsafe {
        (*member).slot = subject.slot;
        (*member).sets = subject.sets();
    }
    // Its scratch as well, here where making it cannot sleep (see `Workplace::enter`). Without one it uses the pool.
    // SAFETY: as above, of `HookScratch`.
    unsafe { bpf_task_storage_get(SCRATCH.as_ptr(), child.cast(), core::ptr::null_mut(), CREATE) };
    0
}
