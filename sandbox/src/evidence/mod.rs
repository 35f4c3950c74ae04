//! What files held: the programs that were executed, and what the run changed.
//!
//! Contents are read by this process, which is no member of the run: nothing of it stands in the run's own record. No
//! content is kept, only sizes and SHA-256.

pub mod changes;
pub mod executed;
mod file;
pub mod workspace;

pub use changes::Changes;
pub use executed::Hashes;
pub use workspace::{Before, WorkspaceError};

/// What is wanted to be known of the files that a run changes (`--hash-max-bytes`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The largest file that is hashed, in bytes.
    pub max: u64,
    /// The directory whose files are known from before.
    pub workspace: std::path::PathBuf,
}
