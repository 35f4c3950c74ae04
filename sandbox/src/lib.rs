//! `sandbox` runs a command so that the kernel says what it did, and what it may do.

pub mod asking;
pub mod baseline;
pub mod cli;
pub mod collector;
pub mod commands;
pub mod control;
pub mod enforce;
pub mod error;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod explain;
pub mod export;
pub mod inside;
pub mod kernel;
pub mod launch;
pub mod layers;
pub mod names;
pub mod observe;
pub mod pipeline;
pub mod quantity;
pub mod record;
pub mod review;
pub mod sensor;
pub mod settings;
pub mod terminal;
