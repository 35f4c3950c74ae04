//! The eBPF object: offsets set, maps sized, loaded; its programs attached one by one by who needs them.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    num::NonZero,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, MapError, RingBuf},
    programs::{Lsm, Program, ProgramError, RawTracePoint},
};
use sandbox_ebpf::abi::{
    ABI_VERSION,
    config::{MAX_SLOTS, RunConfig, RunCounters},
    offsets::ABSENT,
};

use super::{
    bpf,
    btf::{Btf, BtfError, VMLINUX},
    syscalls,
};

/// The object, as it was checked by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sandbox.bpf.o"));

/// The program that makes the calling task a member.
const ARM: &str = "arm";

/// The program that marks a file for the hooks.
const MARK: &str = "mark";

/// The program that tells of connections that have not ended.
const CONNECTIONS: &str = "connections";

/// Most threads that load programs.
const THREADS: usize = 4;

/// What can go wrong between the object and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The kernel's types do not have what the programs need.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel refused the object's maps.
    #[error("the kernel refused the eBPF object: {}", chain(.0))]
    Load(EbpfError),
    /// The kernel refused one program.
    #[error("the kernel refused the program `{name}`: {}", chain(.error))]
    Program {
        /// Which.
        name: String,
        /// Why.
        error: ProgramError,
    },
    /// The kernel's types cannot be read by the loader.
    #[error("cannot read the kernel's types: {0}")]
    KernelBtf(String),
    /// A program could not be attached.
    #[error("cannot attach the program `{name}`")]
    Attach {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A map is not there, or not what it should be.
    #[error("map `{name}`: {}", chain(.error))]
    Map {
        /// Which.
        name: String,
        /// Why.
        error: MapError,
    },
    /// A call on a map or program failed.
    #[error("cannot {what}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The object and this program do not belong together.
    #[error(
        "the eBPF object has ABI {found}, this program {ABI_VERSION}: rebuild with `sandbox-ebpf/rebuild`"
    )]
    Abi {
        /// What the object says.
        found: u32,
    },
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    // aya ends a refusal with the verifier's log, which is empty where it was not even asked.
    text.trim_end().trim_end_matches("Verifier output:").trim_end().to_owned()
}

/// The loaded object.
pub struct Object {
    ebpf: Ebpf,
    /// What hooks are found by, where any shall be.
    types: Option<Result<aya::Btf, aya::BtfError>>,
    links: Vec<OwnedFd>,
}

impl Object {
    /// Reads the kernel's types, sets the offsets, creates the maps. Attaches nothing; `hooks` says whether
    /// [`Object::attach_hook`] will be asked to.
    ///
    /// # Errors
    /// No privilege, no BTF, a kernel that lacks a member or a map type.
    pub fn load(hooks: bool) -> Result<Object, ObjectError> {
        let (loader, read) = std::thread::scope(|scope| {
            let loader = scope.spawn(blind_loader);
            let read = read_types(hooks);
            (loader.join(), read)
        });
        let mut loader = loader.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (offsets, types) = read?;
        for (name, value) in &offsets {
            loader.override_global(name, value, true);
        }
        loader.override_global("ARGUMENT_REGISTERS", &syscalls::ARGUMENT_REGISTERS, true);
        let making = syscalls::making_calls();
        loader.override_global("MAKING_CALLS", &making, true);
        loader.override_global("COMPAT_MASK", &syscalls::COMPAT_FLAG.1, true);
        let cpus = aya::util::nr_cpus().map_err(|(what, source)| ObjectError::Call {
            what: if what.is_empty() { "count the CPUs" } else { "read the list of possible CPUs" },
            source,
        })?;
        loader
            .map_max_entries("TRACE_SCRATCH", cpus as u32)
            .map_max_entries("ANSWER_SCRATCH", cpus as u32)
            // Task storage: aya has no type for it.
            .allow_unsupported_maps();
        let ebpf = loader.load(OBJECT).map_err(ObjectError::Load)?;
        let mut object = Object { ebpf, types, links: Vec::new() };
        object.load_tracepoint(ARM)?;
        object.load_tracepoint(MARK)?;
        object.load_tracepoint(CONNECTIONS)?;
        let found = bpf::run_program(object.arm_program()?, &[u64::from(MAX_SLOTS)])
            .map_err(|source| ObjectError::Call { what: "ask the eBPF object for its ABI", source })?;
        if found != ABI_VERSION {
            return Err(ObjectError::Abi { found });
        }
        object.write_syscalls()?;
        Ok(object)
    }

    fn write_syscalls(&mut self) -> Result<(), ObjectError> {
        let map = self.map("SYSCALLS")?;
        for (index, spec) in syscalls::table().into_iter().enumerate().filter(|(_, spec)| spec.kind != 0) {
            bpf::update(map, index as u32, spec)
                .map_err(|source| ObjectError::Call { what: "write the system call table", source })?;
        }
        Ok(())
    }

    /// The program that a task runs to become a member: see [`bpf::run_program`].
    ///
    /// # Errors
    /// The object has no such program.
    pub fn arm_program(&self) -> Result<BorrowedFd<'_>, ObjectError> {
        self.program_fd(ARM)
    }

    /// The program that times the walk over a path: see [`bpf::run_program`]. Arguments: slot, address and length of
    /// the path, how often; it returns nanoseconds, 0 when it does not work.
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn measure_program(&mut self) -> Result<BorrowedFd<'_>, ObjectError> {
        const MEASURE: &str = "measure";
        self.load_tracepoint(MEASURE)?;
        self.program_fd(MEASURE)
    }

    fn program_fd(&self, name: &str) -> Result<BorrowedFd<'_>, ObjectError> {
        let program = self.ebpf.program(name).and_then(|program| program.fd().ok());
        program.map(AsFd::as_fd).ok_or(ObjectError::Abi { found: 0 })
    }

    /// Has records made of the connections of the run in `slot` that have not ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn tell_connections(&self, slot: u32) -> Result<(), ObjectError> {
        bpf::run_program(self.program_fd(CONNECTIONS)?, &[u64::from(slot)])
            .map(drop)
            .map_err(|source| ObjectError::Call { what: "look at the open connections", source })
    }

    /// The program that marks files: see [`Object::mark`].
    ///
    /// # Errors
    /// The object has no such program.
    pub fn mark_program(&self) -> Result<BorrowedFd<'_>, ObjectError> {
        self.program_fd(MARK)
    }

    /// Marks the file behind a descriptor, by the program of [`Object::mark_program`]: `denied` accesses
    /// ([`sandbox_ebpf::abi::policy::access`]) are denied of it in the run in `slot`, by whatever name. Hooks tell of
    /// it by `number`.
    ///
    /// # Errors
    /// The table of marked files is full.
    pub fn mark(
        program: BorrowedFd<'_>,
        slot: u32,
        file: BorrowedFd<'_>,
        denied: u16,
        number: u32,
    ) -> Result<(), ObjectError> {
        use std::os::fd::AsRawFd;
        let what = "mark a denied file that has other names";
        let arguments = [u64::from(slot), file.as_raw_fd() as u64, u64::from(denied), u64::from(number)];
        match bpf::run_program(program, &arguments) {
            Ok(1) => Ok(()),
            Ok(_) => Err(ObjectError::Call { what, source: io::ErrorKind::StorageFull.into() }),
            Err(source) => Err(ObjectError::Call { what, source }),
        }
    }

    fn load_tracepoint(&mut self, name: &str) -> Result<(), ObjectError> {
        let fault = |error| ObjectError::Program { name: name.into(), error };
        let program: &mut RawTracePoint = self.program(name)?.try_into().map_err(fault)?;
        program.load().map_err(fault)
    }

    fn program(&mut self, name: &str) -> Result<&mut Program, ObjectError> {
        self.ebpf.program_mut(name).ok_or(ObjectError::Abi { found: 0 })
    }

    /// Loads and attaches the program of a raw tracepoint, which bears the tracepoint's name. It stays
    /// attached while the object, or a copy of its link, lives.
    ///
    /// # Errors
    /// The kernel refuses the program or has no such tracepoint.
    pub fn attach_tracepoint(&mut self, name: &str) -> Result<(), ObjectError> {
        self.load_tracepoint(name)?;
        let tracepoint = CString::new(name).unwrap_or_default();
        self.attach(name, Some(&tracepoint))
    }

    /// Loads the programs of LSM hooks, given as program and hook, several at once: the verifier's work is most of
    /// the time. One result for each, in the same order. No thread is left when it returns.
    pub fn load_hooks(&mut self, wanted: &[(&str, &str)]) -> Vec<Result<(), ObjectError>> {
        let types = match &self.types {
            Some(Ok(types)) => Ok(types),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("they were not read".to_owned()),
        };
        let mut programs: HashMap<&str, &mut Program> = self.ebpf.programs_mut().collect();
        let mut jobs: Vec<_> =
            wanted.iter().map(|(name, hook)| (*name, *hook, programs.remove(name))).collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
        let share = wanted.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let load = |jobs: &mut [(&str, &str, Option<&mut Program>)]| -> Vec<Result<(), ObjectError>> {
                jobs.iter_mut().map(|(name, hook, program)| load_hook(program, name, hook, &types)).collect()
            };
            let mut shares = jobs.chunks_mut(share);
            let own = shares.next();
            let others: Vec<_> = shares.map(|jobs| scope.spawn(move || load(jobs))).collect();
            let mut results = own.map(load).unwrap_or_default();
            for other in others {
                results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            results
        })
    }

    /// Attaches the program of an LSM hook, which was loaded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach_hook(&mut self, name: &str) -> Result<(), ObjectError> {
        self.attach(name, None)
    }

    fn attach(&mut self, name: &str, tracepoint: Option<&CStr>) -> Result<(), ObjectError> {
        let program = self.program(name)?;
        let fd = program.fd().map_err(|error| ObjectError::Program { name: name.into(), error })?;
        let link = bpf::attach(fd.as_fd(), tracepoint)
            .map_err(|source| ObjectError::Attach { name: name.into(), source })?;
        self.links.push(link);
        Ok(())
    }

    /// Loads the program of a control group, and attaches it; `attach_type` is one of `enum bpf_attach_type`. With
    /// `stays` it outlives this object, for as long as the group has sockets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach_to_group(
        &mut self,
        name: &str,
        group: BorrowedFd<'_>,
        attach_type: u32,
        stays: bool,
    ) -> Result<(), ObjectError> {
        let fault = |error| ObjectError::Program { name: name.into(), error };
        let program = self.program(name)?;
        match program {
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            _ => return Err(ObjectError::Abi { found: 0 }),
        }
        .map_err(fault)?;
        let fd = program.fd().map_err(fault)?;
        let fd = fd.as_fd();
        let fault = |source| ObjectError::Attach { name: name.into(), source };
        if stays {
            return bpf::leave_in_group(fd, group, attach_type).map_err(fault);
        }
        let link = bpf::attach_to_group(fd, group, attach_type).map_err(fault)?;
        self.links.push(link);
        Ok(())
    }

    /// Detaches what was attached when there were more than `count` links.
    pub fn detach_since(&mut self, count: usize) {
        self.links.truncate(count);
    }

    /// The programs that were loaded, each with the number of instructions that the verifier looked at; 0 where the
    /// kernel does not say (before 5.16).
    pub fn verified(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name, info.verified_instruction_count().unwrap_or(0)))
        })
    }

    /// What keeps the programs attached.
    pub fn links(&self) -> &[OwnedFd] {
        &self.links
    }

    /// A map's descriptor.
    ///
    /// # Errors
    /// The object has no such map.
    pub fn map(&self, name: &str) -> Result<BorrowedFd<'_>, ObjectError> {
        let map = self.ebpf.map(name).ok_or(ObjectError::Abi { found: 0 })?;
        let data = match map {
            Map::Array(data)
            | Map::ArrayOfMaps(data)
            | Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::RingBuf(data)
            | Map::Unsupported(data) => data,
            _ => return Err(ObjectError::Abi { found: 0 }),
        };
        Ok(data.fd().as_fd())
    }

    /// Takes the ring buffer out of the object.
    ///
    /// # Errors
    /// It is not there, or cannot be mapped.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, ObjectError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(ObjectError::Abi { found: 0 })?;
        RingBuf::try_from(map).map_err(|error| ObjectError::Map { name: "EVENTS".into(), error })
    }

    /// Writes the configuration of a run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn configure(&self, slot: u32, config: RunConfig) -> Result<(), ObjectError> {
        bpf::update(self.map("RUN_CONFIG")?, slot, config)
            .map_err(|source| ObjectError::Call { what: "write the run's configuration", source })
    }

    /// The counters of a run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self, slot: u32) -> Result<RunCounters, ObjectError> {
        let counters = bpf::lookup(self.map("RUN_COUNTERS")?, slot)
            .map_err(|source| ObjectError::Call { what: "read the run's counters", source })?;
        Ok(counters.unwrap_or_default())
    }
}

/// aya's loader, without the kernel's types: it would read all of them in a moment in which nothing else can be done,
/// takes half a second of a slow machine for it, and needs them for nothing, as the object has no relocations by type.
/// Nothing tells it so; but where it looks from another root it finds none. To be called in a thread of its own, which is
/// the one that gets another root, and is gone before anything is loaded.
fn blind_loader() -> EbpfLoader<'static> {
    use nix::{sched, unistd};
    // Should it fail, it is only slower.
    if sched::unshare(sched::CloneFlags::CLONE_FS).is_ok() {
        let _ = unistd::chroot("/proc");
    }
    EbpfLoader::new()
}

fn load_hook(
    program: &mut Option<&mut Program>,
    name: &str,
    hook: &str,
    types: &Result<&aya::Btf, String>,
) -> Result<(), ObjectError> {
    let fault = |error| ObjectError::Program { name: name.into(), error };
    let types = types.as_ref().map_err(|error| ObjectError::KernelBtf(error.clone()))?;
    let program = program.as_mut().ok_or(ObjectError::Abi { found: 0 })?;
    let program: &mut Lsm = (&mut **program).try_into().map_err(fault)?;
    program.load(hook, types).map_err(fault)
}

macro_rules! names {
    ($($name:ident = $structure:literal $field:literal;)*) => {
        &[$((stringify!($name), $structure, $field),)*]
    };
}

/// Every offset that the object needs: global, structure, member.
const OFFSETS: &[(&str, &str, &str)] = sandbox_ebpf::offset_table!(names);

/// Those that only some kernels have.
const OPTIONAL_OFFSETS: &[(&str, &str, &str)] = sandbox_ebpf::optional_offset_table!(names);

/// The function that the hook inode_setattr is attached to: its parameters differ between kernels.
const SETATTR: &str = "bpf_lsm_inode_setattr";

/// The offsets, by global.
type Offsets = Vec<(&'static str, u64)>;

/// Reads every offset from the running kernel's types; and what hooks are found by, where any shall be.
fn read_types(hooks: bool) -> Result<(Offsets, Option<Result<aya::Btf, aya::BtfError>>), BtfError> {
    let all = OFFSETS.iter().chain(OPTIONAL_OFFSETS);
    let wanted: Vec<&str> = all.map(|(_, structure, _)| *structure).chain([SETATTR, "pt_regs"]).collect();
    let btf = Btf::open(Path::new(VMLINUX), &wanted)?;
    let own = aya::Endianness::default();
    let types = hooks.then(|| btf.hooks()).transpose()?.map(|types| aya::Btf::parse(&types, own));
    let mut offsets = Vec::with_capacity(wanted.len() + 1);
    for (name, structure, field) in OPTIONAL_OFFSETS {
        let offset = match btf.offset(structure, field) {
            Err(BtfError::Missing { .. }) => ABSENT,
            found => found?,
        };
        offsets.push((*name, offset));
    }
    // A kernel without the hook refuses its program, whatever the number says.
    offsets.push(("SETATTR_ARGUMENTS", btf.parameters(SETATTR)?.unwrap_or(0)));
    for (name, structure, field) in OFFSETS {
        offsets.push((*name, btf.offset(structure, field)?));
    }
    offsets.push(("REGISTERS_NUMBER", btf.offset("pt_regs", syscalls::NUMBER_REGISTER)?));
    offsets.push(("COMPAT_WORD", btf.offset("task_struct", syscalls::COMPAT_FLAG.0)?));
    Ok((offsets, types))
}
