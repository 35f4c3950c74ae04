//! What was asked for: the command line, turned into types that cannot contradict themselves.
//!
//! Nothing is looked up here: no user, no file, no kernel.

pub mod record;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::RunArgs;
use crate::error::Refusal;
use crate::quantity::size;

/// A layer, by the name that users give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// BPF programs on LSM hooks.
    Lsm,
    /// BPF programs on tracepoints.
    Trace,
    /// BPF programs of the run's control group.
    CgroupNet,
    /// System calls that wait until they were looked at.
    Notify,
    /// Landlock.
    Landlock,
    /// Mounts of the run's own.
    Mountns,
    /// A network namespace, and the relay that leads out of it.
    Netns,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Layer; 7] = [
        Layer::Lsm,
        Layer::Trace,
        Layer::CgroupNet,
        Layer::Notify,
        Layer::Landlock,
        Layer::Mountns,
        Layer::Netns,
    ];

    /// Those made of programs in the kernel, which only root can load.
    pub const OF_PROGRAMS: [Layer; 3] = [Layer::Lsm, Layer::Trace, Layer::CgroupNet];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Lsm => "lsm",
            Layer::Trace => "trace",
            Layer::CgroupNet => "cgroup-net",
            Layer::Notify => "notify",
            Layer::Landlock => "landlock",
            Layer::Mountns => "mountns",
            Layer::Netns => "netns",
        }
    }

    fn parse(text: &str) -> Result<Layer, Refusal> {
        Layer::ALL.into_iter().find(|layer| layer.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Layer::ALL.iter().map(|layer| layer.name()).collect();
            Refusal::cannot_start(format!("unknown layer {text:?}; there are: {}", known.join(", ")))
        })
    }
}

/// `--layers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerChoice {
    /// The best set that this machine has.
    Auto,
    /// These and no others; at least one.
    Only(Vec<Layer>),
}

impl LayerChoice {
    /// Whether the layer may be used.
    pub fn includes(&self, layer: Layer) -> bool {
        match self {
            LayerChoice::Auto => true,
            LayerChoice::Only(layers) => layers.contains(&layer),
        }
    }

    /// Whether the layer was asked for by its name.
    pub fn names(&self, layer: Layer) -> bool {
        matches!(self, LayerChoice::Only(layers) if layers.contains(&layer))
    }
}

/// What to do about a rule that no layer can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnheld {
    /// Do not start.
    Refuse,
    /// Start, and record that the rule is not held.
    Record,
}

/// What the run does with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeSetting {
    /// Record only.
    Observe,
    /// Record, and say what one of these policies would block; at least one.
    Audit(Vec<PathBuf>),
    /// Record, and block what a policy denies.
    Enforce {
        /// Which must all allow; at least one.
        law: Vec<PathBuf>,
        /// Which are only judged by.
        trial: Vec<PathBuf>,
        /// What to do about rules that nothing holds.
        on_unheld: OnUnheld,
    },
}

/// How much the runner says on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Notes before, a summary after.
    Normal,
    /// Only what is wrong.
    Quiet,
}

/// `sandbox run`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSettings {
    /// What to do.
    pub mode: ModeSetting,
    /// Where a policy is proposed at the end.
    pub learn: Option<PathBuf>,
    /// Whether what is denied is asked about.
    pub ask: bool,
    /// The program that is asked.
    pub ask_cmd: Option<PathBuf>,
    /// Whether questions are put on the run's own terminal.
    pub ask_here: bool,
    /// Layers to use.
    pub layers: LayerChoice,
    /// Layers that must be there.
    pub required: Vec<Layer>,
    /// The command's user.
    pub user: Option<String>,
    /// The workspace.
    pub workspace: Option<PathBuf>,
    /// The baseline that it is held against.
    pub baseline: Option<PathBuf>,
    /// The largest file whose contents are told before and after, in bytes.
    pub hash_max_bytes: Option<u64>,
    /// The agent's name in the record.
    pub agent_id: Option<String>,
    /// The record's directory.
    pub run_dir: Option<PathBuf>,
    /// How the record is written and attested.
    pub record: record::RecordOptions,
    /// How much to say.
    pub verbosity: Verbosity,
    /// The command and its arguments; at least one word.
    pub command: Vec<OsString>,
}

impl RunSettings {
    /// Understands the arguments.
    pub fn new(args: RunArgs) -> Result<RunSettings, Refusal> {
        let on_unheld = if args.best_effort { OnUnheld::Record } else { OnUnheld::Refuse };
        let mode = match (args.enforce, args.policy) {
            (law, _) if !law.is_empty() => ModeSetting::Enforce { law, trial: args.audit, on_unheld },
            (_, policies) if !policies.is_empty() => ModeSetting::Audit(policies),
            _ => ModeSetting::Observe,
        };
        let layers = layer_choice(&args.layers)?;
        let required = args.require.iter().map(|name| Layer::parse(name)).collect::<Result<Vec<_>, _>>()?;
        if let LayerChoice::Only(chosen) = &layers
            && let Some(missing) = required.iter().find(|layer| !chosen.contains(layer))
        {
            let name = missing.name();
            return Err(Refusal::cannot_start(format!(
                "--require {name} contradicts --layers {}; add {name} to --layers",
                args.layers
            )));
        }
        if let LayerChoice::Only(chosen) = &layers
            && chosen.contains(&Layer::Notify)
            && let Some(other) = Layer::OF_PROGRAMS.into_iter().find(|layer| chosen.contains(layer))
        {
            return Err(Refusal::cannot_start(format!(
                "--layers: notify observes instead of programs in the kernel, not beside them; leave out notify or {}",
                other.name()
            )));
        }
        let named = |layer| required.contains(&layer) || layers.names(layer);
        if named(Layer::Netns) && named(Layer::CgroupNet) {
            return Err(Refusal::cannot_start(
                "netns and cgroup-net exclude each other: a run is in the machine's network or it is not; name one",
            ));
        }
        if args.agent_id.as_deref().is_some_and(str::is_empty) {
            return Err(Refusal::cannot_start("--agent-id is empty; give a name or leave it out"));
        }
        let record = record::RecordOptions::new(args.record, &mode)?;
        let hash_max_bytes = args.hash_max_bytes.as_deref().map(bytes).transpose()?;
        Ok(RunSettings {
            mode,
            learn: args.learn,
            record,
            ask: args.ask,
            ask_cmd: args.ask_cmd,
            ask_here: args.ask_here,
            layers,
            required,
            user: args.user,
            workspace: args.workspace,
            baseline: args.baseline,
            hash_max_bytes,
            agent_id: args.agent_id,
            run_dir: args.run_dir,
            verbosity: if args.quiet { Verbosity::Quiet } else { Verbosity::Normal },
            command: args.command,
        })
    }
}

/// A number of bytes, or of KiB, MiB or GiB.
fn bytes(text: &str) -> Result<u64, Refusal> {
    size(text).ok_or_else(|| {
        Refusal::cannot_start(format!(
            "--hash-max-bytes {text:?} is no number of bytes; give one, as in 4096, 64K or 10M"
        ))
    })
}

fn layer_choice(text: &str) -> Result<LayerChoice, Refusal> {
    if text == "auto" {
        return Ok(LayerChoice::Auto);
    }
    let mut layers = Vec::new();
    for name in text.split(',') {
        let layer = Layer::parse(name.trim())?;
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    Ok(LayerChoice::Only(layers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn settings(line: &str) -> Result<RunSettings, Refusal> {
        RunSettings::new(Line::try_parse_from(line.split(' ')).unwrap().args)
    }

    #[test]
    fn recording_is_the_default() {
        let settings = settings("run -- make -j4 --quiet").unwrap();
        assert_eq!(settings.mode, ModeSetting::Observe);
        assert_eq!(settings.layers, LayerChoice::Auto);
        assert_eq!(settings.command, ["make", "-j4", "--quiet"]);
        assert_eq!(settings.verbosity, Verbosity::Normal);
    }

    #[test]
    fn the_commands_options_are_its_own() {
        assert_eq!(settings("run ls -q --policy x").unwrap().command, ["ls", "-q", "--policy", "x"]);
    }

    #[test]
    fn layers_are_known_names() {
        let chosen = settings("run --layers trace,lsm,trace -- x").unwrap().layers;
        assert_eq!(chosen, LayerChoice::Only(vec![Layer::Trace, Layer::Lsm]));
        let unknown = settings("run --layers lms -- x").unwrap_err();
        let known = "lsm, trace, cgroup-net, notify, landlock, mountns, netns";
        assert_eq!(unknown.message(), format!("unknown layer \"lms\"; there are: {known}"));
        assert!(settings("run --require tarce -- x").is_err());
        assert!(settings("run --layers trace --require lsm -- x").is_err());
        assert!(settings("run --layers notify -- x").is_ok());
        assert!(settings("run --layers notify,trace -- x").unwrap_err().message().contains("notify"));
        for line in ["--layers trace,netns,cgroup-net", "--require netns --require cgroup-net"] {
            let refused = settings(&format!("run {line} -- x")).unwrap_err();
            assert!(refused.message().contains("exclude each other"), "{}", refused.message());
        }
        assert!(settings("run --require netns -- x").is_ok());
    }

    #[test]
    fn sizes_are_bytes_or_multiples() {
        let size = |text: &str| {
            settings(&format!("run --hash-max-bytes {text} -- x")).map(|settings| settings.hash_max_bytes)
        };
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64K", 65_536), ("10m", 10 << 20), ("2G", 2 << 30)] {
            assert_eq!(size(text).unwrap(), Some(bytes), "{text}");
        }
        for text in ["K", "1.5M", "+1", "1X", "ten", "99999999999G"] {
            assert!(size(text).unwrap_err().message().contains("--hash-max-bytes"), "{text}");
        }
    }

    #[test]
    fn modes_exclude_each_other() {
        let parse = |line: &str| Line::try_parse_from(line.split(' '));
        assert!(parse("run --audit-only --enforce p -- x").is_err());
        assert!(parse("run --policy p --enforce p -- x").is_err());
        assert!(parse("run --best-effort -- x").is_err());
        assert!(parse("run --policy p --best-effort -- x").is_err());
        assert!(parse("run --audit-only --best-effort -- x").is_err());
        assert!(parse("run --").is_err());
        assert!(parse("run --bogus -- x").is_err());
        assert!(parse("run --audit p -- x").is_err());
        assert!(parse("run --audit p --policy q -- x").is_err());
        let enforced = settings("run --enforce p --best-effort -- x").unwrap().mode;
        let on_unheld = OnUnheld::Record;
        assert_eq!(enforced, ModeSetting::Enforce { law: vec!["p".into()], trial: Vec::new(), on_unheld });
    }

    #[test]
    fn policies_add_up() {
        let enforced = settings("run --enforce p --audit r --enforce q --audit s -- x").unwrap().mode;
        let files = |names: [&str; 2]| names.map(PathBuf::from).to_vec();
        let on_unheld = OnUnheld::Refuse;
        assert_eq!(
            enforced,
            ModeSetting::Enforce { law: files(["p", "q"]), trial: files(["r", "s"]), on_unheld }
        );
        let audited = settings("run --policy p --policy q -- x").unwrap().mode;
        assert_eq!(audited, ModeSetting::Audit(files(["p", "q"])));
    }
}
