//! `sandbox export`, the built binary, against oracles of each form: a strict reader, the published schema's own
//! demands (in `data/`), and the log itself, whose every value must be found again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cef;
mod cli;
mod csv;
mod ecs;
mod logs;
mod ocsf;
mod otlp;
mod random;
mod rebuild;
mod scene;
mod table;
