//! Keys of an event's details.

/// A key. Variants stand in the order of their names, so that sorting keys sorts the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Accesses asked for, in the policy's words.
    Access,
    /// Why nothing is known of the contents after the run.
    AfterMissing,
    /// Who answered a question.
    AnsweredBy,
    /// Addresses that answer a question for a name.
    Answers,
    /// Arguments.
    Argv,
    /// Secrets were cut out of argv.
    ArgvRedacted,
    /// argv is longer than what stands here.
    ArgvTruncated,
    /// The number of a question in its run.
    AskId,
    /// The rule's own explanation.
    Because,
    /// Why nothing is known of the contents before the run.
    BeforeMissing,
    /// Denials in the run.
    Blocked,
    /// The kernel's boot id.
    BootId,
    /// Bytes received over the connection.
    BytesIn,
    /// Bytes sent over the connection.
    BytesOut,
    /// Process id of the child.
    ChildPid,
    /// Identity of the child.
    ChildProcId,
    /// The task's name, which it may set as it likes.
    Comm,
    /// The command of the run.
    Command,
    /// Secrets were cut out of the command.
    CommandRedacted,
    /// How many attempts this line stands for.
    Count,
    /// Names of secrets that the run can reach.
    Credentials,
    /// Working directory.
    Cwd,
    /// Device of the object, as `major:minor` packed by the kernel (new_encode_dev).
    Dev,
    /// Address of the other end.
    DstIp,
    /// Port of the other end.
    DstPort,
    /// How long the run took.
    DurationNs,
    /// The hello has an inner part that only the server can read.
    Ech,
    /// Events in the log, this one included.
    Events,
    /// The executable.
    Exe,
    /// Device of the executable.
    ExeDev,
    /// Inode of the executable.
    ExeIno,
    /// SHA-256 of the executable.
    ExeSha256,
    /// Why it is missing.
    ExeSha256Missing,
    /// kseq of the exec whose executable this is about.
    ExecKseq,
    /// Exit code.
    ExitCode,
    /// Address family.
    Family,
    /// New mode bits.
    FileMode,
    /// Flags of the call, as a number.
    Flags,
    /// Attempts counted in other lines.
    Folded,
    /// New group.
    GroupId,
    /// hash_self of the event before the seal.
    Head,
    /// The name by which the other end is known, or that was asked for.
    Host,
    /// Name of the host.
    Hostname,
    /// Inode of the object.
    Ino,
    /// Kernel release.
    Kernel,
    /// The key that signed the line, or will sign the run's checkpoints and its seal.
    KeyId,
    /// Whether the command could read the secret key.
    KeyReach,
    /// When the last of the folded attempts was.
    LastMonoNs,
    /// The layer that held the verdict.
    Layer,
    /// The layers that really held, each proven.
    Layers,
    /// Last hash of the ledger.
    LedgerPrev,
    /// Processes that outlive the run.
    LeftRunning,
    /// Events lost.
    Lost,
    /// The machine's id.
    MachineId,
    /// Root of the Merkle tree over the lines before this one.
    MerkleRoot,
    /// Mode of the run.
    Mode,
    /// Random, so that two runs never begin alike.
    Nonce,
    /// The other end is a listener of the run.
    Own,
    /// New owner.
    Owner,
    /// Absolute path of the object, as far as the kernel could tell.
    Path,
    /// The other path: new name, link target.
    Path2,
    /// A path is longer than what stands here.
    PathTruncated,
    /// Where the name led is not known: it is told as it was called.
    PathUnresolved,
    /// Name of the policy.
    PolicyName,
    /// The rule behind a verdict, `policy/rule`.
    PolicyRule,
    /// SHA-256 of `policy.effective.yaml`.
    PolicySha256,
    /// Process id of the parent.
    Ppid,
    /// Protocol.
    Proto,
    /// The type of a question for a name, as in AAAA.
    Question,
    /// How a question for a name was answered, as in NXDOMAIN.
    Rcode,
    /// Why, where the type alone does not say.
    Reason,
    /// Result: 0 or above is success, below is -errno.
    Ret,
    /// Directory of the run.
    RunDir,
    /// How far an answer reaches: once, or run.
    Scope,
    /// How unusual it is.
    Score,
    /// SHA-256 of the file.
    Sha256,
    /// SHA-256 of the file after the run.
    Sha256After,
    /// SHA-256 of the file before the run.
    Sha256Before,
    /// Why it is missing.
    Sha256Missing,
    /// Signal that ended it.
    Signal,
    /// Signature of the line.
    Signature,
    /// Bytes in the file.
    Size,
    /// Bytes in the file after the run.
    SizeAfter,
    /// Bytes in the file before the run.
    SizeBefore,
    /// The server that the connection named.
    Sni,
    /// Own address.
    SrcIp,
    /// Own port.
    SrcPort,
    /// Who may write the store.
    Store,
    /// System call, by name, or by number where it has none here.
    Syscall,
    /// Target of the act.
    Target,
    /// Process id of the process that an act is about.
    TargetPid,
    /// Seconds that a question waits for its answer.
    TimeoutS,
    /// What of the machine's directories lies in those of `tmp_private`.
    TmpKept,
    /// Directories for temporary files that are the run's own.
    TmpPrivate,
    /// Seconds that an answer lives.
    Ttl,
    /// User id.
    Uid,
    /// Rules that no layer of this run holds.
    Unheld,
    /// User name.
    User,
    /// What variables of policies stand for in the run, each `NAME=value`.
    Variables,
    /// What was answered: allow, deny, or withdrawn.
    Verdict,
    /// Version of the runner.
    Version,
}

impl Key {
    /// Every key, ascending by name.
    pub const ALL: &'static [Key] = &[
        Key::Access,
        Key::AfterMissing,
        Key::AnsweredBy,
        Key::Answers,
        Key::Argv,
        Key::ArgvRedacted,
        Key::ArgvTruncated,
        Key::AskId,
        Key::Because,
        Key::BeforeMissing,
        Key::Blocked,
        Key::BootId,
        Key::BytesIn,
        Key::BytesOut,
        Key::ChildPid,
        Key::ChildProcId,
        Key::Comm,
        Key::Command,
        Key::CommandRedacted,
        Key::Count,
        Key::Credentials,
        Key::Cwd,
        Key::Dev,
        Key::DstIp,
        Key::DstPort,
        Key::DurationNs,
        Key::Ech,
        Key::Events,
        Key::Exe,
        Key::ExeDev,
        Key::ExeIno,
        Key::ExeSha256,
        Key::ExeSha256Missing,
        Key::ExecKseq,
        Key::ExitCode,
        Key::Family,
        Key::FileMode,
        Key::Flags,
        Key::Folded,
        Key::GroupId,
        Key::Head,
        Key::Host,
        Key::Hostname,
        Key::Ino,
        Key::Kernel,
        Key::KeyId,
        Key::KeyReach,
        Key::LastMonoNs,
        Key::Layer,
        Key::Layers,
        Key::LedgerPrev,
        Key::LeftRunning,
        Key::Lost,
        Key::MachineId,
        Key::MerkleRoot,
        Key::Mode,
        Key::Nonce,
        Key::Own,
        Key::Owner,
        Key::Path,
        Key::Path2,
        Key::PathTruncated,
        Key::PathUnresolved,
        Key::PolicyName,
        Key::PolicyRule,
        Key::PolicySha256,
        Key::Ppid,
        Key::Proto,
        Key::Question,
        Key::Rcode,
        Key::Reason,
        Key::Ret,
        Key::RunDir,
        Key::Scope,
        Key::Score,
        Key::Sha256,
        Key::Sha256After,
        Key::Sha256Before,
        Key::Sha256Missing,
        Key::Signal,
        Key::Signature,
        Key::Size,
        Key::SizeAfter,
        Key::SizeBefore,
        Key::Sni,
        Key::SrcIp,
        Key::SrcPort,
        Key::Store,
        Key::Syscall,
        Key::Target,
        Key::TargetPid,
        Key::TimeoutS,
        Key::TmpKept,
        Key::TmpPrivate,
        Key::Ttl,
        Key::Uid,
        Key::Unheld,
        Key::User,
        Key::Variables,
        Key::Verdict,
        Key::Version,
    ];

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Key::Access => "access",
            Key::AfterMissing => "after_missing",
            Key::AnsweredBy => "answered_by",
            Key::Answers => "answers",
            Key::Argv => "argv",
            Key::ArgvRedacted => "argv_redacted",
            Key::ArgvTruncated => "argv_truncated",
            Key::AskId => "ask_id",
            Key::Because => "because",
            Key::BeforeMissing => "before_missing",
            Key::Blocked => "blocked",
            Key::BootId => "boot_id",
            Key::BytesIn => "bytes_in",
            Key::BytesOut => "bytes_out",
            Key::ChildPid => "child_pid",
            Key::ChildProcId => "child_proc_id",
            Key::Comm => "comm",
            Key::Command => "command",
            Key::CommandRedacted => "command_redacted",
            Key::Count => "count",
            Key::Credentials => "credentials",
            Key::Cwd => "cwd",
            Key::Dev => "dev",
            Key::DstIp => "dst_ip",
            Key::DstPort => "dst_port",
            Key::DurationNs => "duration_ns",
            Key::Ech => "ech",
            Key::Events => "events",
            Key::Exe => "exe",
            Key::ExeDev => "exe_dev",
            Key::ExeIno => "exe_ino",
            Key::ExeSha256 => "exe_sha256",
            Key::ExeSha256Missing => "exe_sha256_missing",
            Key::ExecKseq => "exec_kseq",
            Key::ExitCode => "exit_code",
            Key::Family => "family",
            Key::FileMode => "file_mode",
            Key::Flags => "flags",
            Key::Folded => "folded",
            Key::GroupId => "group_id",
            Key::Head => "head",
            Key::Host => "host",
            Key::Hostname => "hostname",
            Key::Ino => "ino",
            Key::Kernel => "kernel",
            Key::KeyId => "key_id",
            Key::KeyReach => "key_reach",
            Key::LastMonoNs => "last_mono_ns",
            Key::Layer => "layer",
            Key::Layers => "layers",
            Key::LedgerPrev => "ledger_prev",
            Key::LeftRunning => "left_running",
            Key::Lost => "lost",
            Key::MachineId => "machine_id",
            Key::MerkleRoot => "merkle_root",
            Key::Mode => "mode",
            Key::Nonce => "nonce",
            Key::Own => "own",
            Key::Owner => "owner",
            Key::Path => "path",
            Key::Path2 => "path2",
            Key::PathTruncated => "path_truncated",
            Key::PathUnresolved => "path_unresolved",
            Key::PolicyName => "policy_name",
            Key::PolicyRule => "policy_rule",
            Key::PolicySha256 => "policy_sha256",
            Key::Ppid => "ppid",
            Key::Proto => "proto",
            Key::Question => "question",
            Key::Rcode => "rcode",
            Key::Reason => "reason",
            Key::Ret => "ret",
            Key::RunDir => "run_dir",
            Key::Scope => "scope",
            Key::Score => "score",
            Key::Sha256 => "sha256",
            Key::Sha256After => "sha256_after",
            Key::Sha256Before => "sha256_before",
            Key::Sha256Missing => "sha256_missing",
            Key::Signal => "signal",
            Key::Signature => "signature",
            Key::Size => "size",
            Key::SizeAfter => "size_after",
            Key::SizeBefore => "size_before",
            Key::Sni => "sni",
            Key::SrcIp => "src_ip",
            Key::SrcPort => "src_port",
            Key::Store => "store",
            Key::Syscall => "syscall",
            Key::Target => "target",
            Key::TargetPid => "target_pid",
            Key::TimeoutS => "timeout_s",
            Key::TmpKept => "tmp_kept",
            Key::TmpPrivate => "tmp_private",
            Key::Ttl => "ttl",
            Key::Uid => "uid",
            Key::Unheld => "unheld",
            Key::User => "user",
            Key::Variables => "variables",
            Key::Verdict => "verdict",
            Key::Version => "version",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn keys_ascend_by_name() {
        assert!(Key::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name() && pair[0] < pair[1]));
    }
}
