//! Which class of OCSF an event is of, and which activity.

/// A class and an activity of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// `class_uid`.
    pub uid: u32,
    /// `class_name`.
    pub name: &'static str,
    /// `category_uid`.
    pub category: u32,
    /// `category_name`.
    pub category_name: &'static str,
    /// `activity_id`.
    pub activity: u32,
    /// `activity_name`: the schema's, or our own where the number is 99.
    pub activity_name: &'static str,
}

/// File System Activity.
pub const FILE: u32 = 1001;
/// Kernel Activity.
pub const KERNEL: u32 = 1003;
/// Process Activity.
pub const PROCESS: u32 = 1007;
/// Event Log Activity.
pub const LOG: u32 = 1008;
/// Network Activity.
pub const NETWORK: u32 = 4001;
/// DNS Activity.
pub const DNS: u32 = 4003;
/// Application Lifecycle.
pub const APPLICATION: u32 = 6002;

/// An activity that the class has no number for.
const OTHER: u32 = 99;

impl Class {
    /// Of an event type; `syscall` tells mounting from unmounting.
    pub fn of(event_type: &str, syscall: &str) -> Class {
        match event_type {
            "run_start" => application(3, "Start"),
            "run_end" => application(4, "Stop"),
            "policy_apply" => application(8, "Update"),
            "ask" => application(OTHER, "Ask"),
            "answer" => application(OTHER, "Answer"),
            "gap" => log(OTHER, "Loss"),
            "checkpoint" => log(OTHER, "Checkpoint"),
            "detection" => log(OTHER, "Detection"),
            "fork" | "exec" => process(1, "Launch"),
            "exit" => process(2, "Terminate"),
            "proc_ptrace" => process(3, "Open"),
            "proc_signal" => process(OTHER, "Signal"),
            "file_create" | "file_link" | "file_symlink" | "dir_create" => file(1, "Create"),
            "file_hash" => file(2, "Read"),
            "file_truncate" | "file_change" => file(3, "Update"),
            "file_delete" | "dir_delete" => file(4, "Delete"),
            "file_rename" => file(5, "Rename"),
            "file_times" | "file_xattr" | "file_flags" => file(6, "Set Attributes"),
            "file_mode" | "file_owner" => file(7, "Set Security"),
            "file_open" | "file_receive" => file(14, "Open"),
            "file_load" => file(OTHER, "Load"),
            "proc_mount" if syscall.starts_with("umount") => file(13, "Unmount"),
            "proc_mount" => file(12, "Mount"),
            "net_connect" | "net_accept" => network(1, "Open"),
            "net_close" => network(2, "Close"),
            "net_send" | "net_name" => network(6, "Traffic"),
            "net_listen" => network(7, "Listen"),
            "net_bind" => network(OTHER, "Bind"),
            "net_socket" => network(OTHER, "Socket"),
            "dns_answer" => dns(6, "Traffic"),
            "proc_bpf" | "proc_chroot" | "proc_userns" | "proc_io_uring" | "proc_compat" => {
                kernel(4, "Invoke")
            }
            other if other.starts_with("file_") || other.starts_with("dir_") => file(OTHER, "Other"),
            other if other.starts_with("net_") => network(OTHER, "Other"),
            other if other.starts_with("proc_") => kernel(OTHER, "Other"),
            _ => log(OTHER, "Other"),
        }
    }
}

const fn system(uid: u32, name: &'static str, activity: u32, activity_name: &'static str) -> Class {
    Class { uid, name, category: 1, category_name: "System Activity", activity, activity_name }
}

const fn file(activity: u32, name: &'static str) -> Class {
    system(FILE, "File System Activity", activity, name)
}

const fn kernel(activity: u32, name: &'static str) -> Class {
    system(KERNEL, "Kernel Activity", activity, name)
}

const fn process(activity: u32, name: &'static str) -> Class {
    system(PROCESS, "Process Activity", activity, name)
}

const fn log(activity: u32, name: &'static str) -> Class {
    system(LOG, "Event Log Activity", activity, name)
}

const fn network(activity: u32, activity_name: &'static str) -> Class {
    let (name, category_name) = ("Network Activity", "Network Activity");
    Class { uid: NETWORK, name, category: 4, category_name, activity, activity_name }
}

const fn dns(activity: u32, activity_name: &'static str) -> Class {
    Class { uid: DNS, name: "DNS Activity", ..network(activity, activity_name) }
}

const fn application(activity: u32, activity_name: &'static str) -> Class {
    let (name, category_name) = ("Application Lifecycle", "Application Activity");
    Class { uid: APPLICATION, name, category: 6, category_name, activity, activity_name }
}
