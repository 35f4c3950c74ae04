//! Kernel structure offsets that the programs need, as globals of the object.
//!
//! rustc emits no CO-RE relocations, so userspace reads the offsets from the running kernel's BTF and sets
//! the globals before loading. `offset_table!` is the one list: the kernel side declares its globals from
//! it, userspace its look-ups.

/// Calls `$callback!` with every offset: `GLOBAL = "struct" "field.path";`.
#[macro_export]
macro_rules! offset_table {
    ($callback:ident) => {
        $callback! {
            TASK_MM = "task_struct" "mm";
            TASK_PID = "task_struct" "pid";
            TASK_TGID = "task_struct" "tgid";
            TASK_REAL_PARENT = "task_struct" "real_parent";
            TASK_GROUP_LEADER = "task_struct" "group_leader";
            TASK_START_BOOTTIME = "task_struct" "start_boottime";
            TASK_SIGNAL = "task_struct" "signal";
            TASK_EXIT_CODE = "task_struct" "exit_code";
            TASK_FS = "task_struct" "fs";
            TASK_FILES = "task_struct" "files";
            TASK_NSPROXY = "task_struct" "nsproxy";
            TASK_CRED = "task_struct" "cred";
            TASK_REAL_CRED = "task_struct" "real_cred";
            NSPROXY_MNT = "nsproxy" "mnt_ns";
            IATTR_VALID = "iattr" "ia_valid";
            SIGNAL_LIVE = "signal_struct" "live.counter";
            SIGNAL_FLAGS = "signal_struct" "flags";
            SIGNAL_GROUP_EXIT_CODE = "signal_struct" "group_exit_code";
            FS_PWD = "fs_struct" "pwd";
            PATH_MNT = "path" "mnt";
            PATH_DENTRY = "path" "dentry";
            FILES_FDT = "files_struct" "fdt";
            FDT_MAX_FDS = "fdtable" "max_fds";
            FDT_FD = "fdtable" "fd";
            FILE_F_PATH = "file" "f_path";
            FILE_F_MODE = "file" "f_mode";
            FILE_F_FLAGS = "file" "f_flags";
            FILE_F_INODE = "file" "f_inode";
            FILE_PRIVATE_DATA = "file" "private_data";
            DENTRY_PARENT = "dentry" "d_parent";
            DENTRY_NAME = "dentry" "d_name.name";
            DENTRY_NAME_LENGTH = "dentry" "d_name.len";
            DENTRY_INODE = "dentry" "d_inode";
            DENTRY_SB = "dentry" "d_sb";
            DENTRY_HASH = "dentry" "d_hash.pprev";
            MOUNT_MNT = "mount" "mnt";
            MOUNT_PARENT = "mount" "mnt_parent";
            MOUNT_NS = "mount" "mnt_ns";
            MOUNT_MOUNTPOINT = "mount" "mnt_mountpoint";
            VFSMOUNT_ROOT = "vfsmount" "mnt_root";
            INODE_INO = "inode" "i_ino";
            INODE_SB = "inode" "i_sb";
            INODE_MODE = "inode" "i_mode";
            INODE_NLINK = "inode" "i_nlink";
            INODE_RDEV = "inode" "i_rdev";
            PROC_INODE_VFS = "proc_inode" "vfs_inode";
            PROC_INODE_SYSCTL = "proc_inode" "sysctl";
            PROC_INODE_ENTRY = "proc_inode" "pde";
            SB_DEV = "super_block" "s_dev";
            SB_MAGIC = "super_block" "s_magic";
            SB_FLAGS = "super_block" "s_flags";
            SB_MOUNTS = "super_block" "s_mounts";
            BPRM_FILE = "linux_binprm" "file";
            BPRM_FILENAME = "linux_binprm" "filename";
            MM_ARG_START = "mm_struct" "arg_start";
            MM_ARG_END = "mm_struct" "arg_end";
            MM_EXE_FILE = "mm_struct" "exe_file";
            SOCKET_SK = "socket" "sk";
            SOCKET_TYPE = "socket" "type";
            SOCK_FAMILY = "sock" "__sk_common.skc_family";
            SOCK_DPORT = "sock" "__sk_common.skc_dport";
            SOCK_DADDR = "sock" "__sk_common.skc_daddr";
            SOCK_DADDR6 = "sock" "__sk_common.skc_v6_daddr";
            SOCK_NUM = "sock" "__sk_common.skc_num";
            SOCK_RCV_SADDR = "sock" "__sk_common.skc_rcv_saddr";
            SOCK_RCV_SADDR6 = "sock" "__sk_common.skc_v6_rcv_saddr";
            SOCK_PROTOCOL = "sock" "sk_protocol";
            INET_SPORT = "inet_sock" "inet_sport";
            SOCK_STATE = "sock" "__sk_common.skc_state";
            SOCK_TYPE = "sock" "sk_type";
            SOCK_FLAGS = "sock" "__sk_common.skc_flags";
            TCP_BYTES_SENT = "tcp_sock" "bytes_sent";
            TCP_BYTES_RETRANS = "tcp_sock" "bytes_retrans";
            TCP_BYTES_RECEIVED = "tcp_sock" "bytes_received";
            UNIX_ADDRESS = "unix_sock" "addr";
            UNIX_PATH = "unix_sock" "path";
            UNIX_PEER = "unix_sock" "peer";
            UNIX_NAME_LENGTH = "unix_address" "len";
            UNIX_NAME = "unix_address" "name";
            MSG_NAME = "msghdr" "msg_name";
            MSG_NAMELEN = "msghdr" "msg_namelen";
            MSG_FLAGS = "msghdr" "msg_flags";
            SKB_HEAD = "sk_buff" "head";
            SKB_END = "sk_buff" "end";
            SHARED_INFO_FLAGS = "skb_shared_info" "flags";
        }
    };
}

/// What an offset is where the kernel has no such member.
pub const ABSENT: u64 = u64::MAX;

/// Calls `$callback!` with the members that only some kernels have, as `offset_table!` does.
#[macro_export]
macro_rules! optional_offset_table {
    ($callback:ident) => {
        $callback! {
            TASK_IO_URING = "task_struct" "io_uring";
            // A superblock's mounts: a list, and from 6.18 on a chain.
            MOUNT_INSTANCE = "mount" "mnt_instance";
            MOUNT_NEXT_FOR_SB = "mount" "mnt_next_for_sb";
        }
    };
}
