//! Arguments of `sandbox learn`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const LEARN_EXAMPLES: &str = "\
Examples:
  sandbox learn -o make.yaml                      from the last run
  sandbox learn RUN1 RUN2 RUN3 -o agent.yaml      from several, which is better
  sandbox learn RUN1 RUN2 --base strict --strictness exact
  sandbox learn --update agent.yaml RUN6          what that run needed besides

Then: sandbox policy replay agent.yaml RUN4, and
      sandbox run --enforce agent.yaml -- COMMAND

Exit status: 0 when a policy was made, 1 when it is made of too few runs; with
--update 0 when the policy allows what the runs needed, 1 when it does not.";

/// `sandbox learn`.
#[derive(Debug, Args)]
#[command(after_help = LEARN_EXAMPLES)]
pub struct LearnArgs {
    /// Recorded runs: ids, directories or logs, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub runs: Vec<String>,

    /// What the policy extends: one that ships, or a file
    #[arg(long, value_name = "POLICY", default_value = "base")]
    pub base: PathBuf,

    /// Write the policy to FILE, which must not be there yet [default: to standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Add to the policy in FILE what the runs needed besides: each rule is shown, and asked for on a terminal
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "output", "name"])]
    pub update: Option<PathBuf>,

    /// With --update: add every rule, and ask nobody
    #[arg(long, requires = "update")]
    pub yes: bool,

    /// The policy's name [default: that of the output file, else `learned`]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// How far what was seen stands for more than itself
    #[arg(long, value_name = "HOW", value_enum, default_value_t = StrictnessArg::Balanced)]
    pub strictness: StrictnessArg,
}

/// How far what was seen stands for more than itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StrictnessArg {
    /// What was seen, but for numbers and hashes in names
    Exact,
    /// What a person would have written
    Balanced,
    /// One file in a directory stands for all of it
    Loose,
}
