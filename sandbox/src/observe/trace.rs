//! The `trace` layer: tracepoints that show what the run's tasks did.

use crate::kernel::object::{Object, ObjectError};

/// The tracepoints, in the order in which they are attached: removal of tasks first, so that no entry can
/// outlive its task, then births, then what tasks do.
pub const TRACEPOINTS: &[&str] = &[
    "sched_process_free",
    "task_newtask",
    "sched_process_exit",
    "sched_process_exec",
    "inet_sock_set_state",
    "sys_exit",
    "sys_enter",
];

/// Attaches the observer.
///
/// # Errors
/// The kernel refuses a program.
pub fn attach(object: &mut Object) -> Result<(), ObjectError> {
    for name in TRACEPOINTS {
        object.attach_tracepoint(name)?;
    }
    Ok(())
}
