//! Whether a run is put into a network namespace, and what that holds.
//!
//! It holds a closed network and no other: what a policy leaves open would be closed by it. Where hooks judge, nothing is
//! gained by it. It stands in the place of the programs of the control group, whose rules on addresses it holds as well,
//! with those on other families and on listening besides; what goes on inside of it reaches nobody and is not judged.

use policy::{AccessSet, Decision, Mode, Policies, SectionKind, compile::lsm::Held};

use super::{Judging, Request, SensorError, tried::Tried};
use crate::{
    enforce::namespaces::{Namespaces, Net, proof},
    names::machine,
    settings::{Layer, LayerChoice},
};

/// Why there is none for a policy that leaves the network open.
const OPEN: &str = "no policy of this run closes the network (`network: default: deny`), and what they leave open a \
                    namespace would close";

/// Why there is none beside hooks.
const HOOKS: &str = "the lsm layer holds all that it would";

/// Whether some policy that is law denies what no rule of the network's names.
pub fn is_closed(policies: &Policies) -> bool {
    policies
        .iter()
        .any(|policy| policy.mode() == Mode::Enforce && policy.network().default() == Decision::Deny)
}

/// What is held in a network namespace, beside what is held already. Unix sockets with a path are files: they are held
/// where none can be made.
#[must_use]
pub fn with_namespace(held: Held, policies: &Policies) -> Held {
    let accesses: AccessSet = held.accesses.union(SectionKind::Network.accesses());
    Held { accesses, names: true, own: true, unix: policies.closes_unix_sockets(), ..held }
}

/// Tries the layer where it is of use, `hooks`: whether the lsm layer holds. `None` where it is not.
pub(super) fn try_netns(request: &Request<'_>, hooks: bool) -> Option<Tried> {
    let Judging::Enforce(policies, _) = request.judging else { return None };
    let named = matches!(request.layers, LayerChoice::Only(layers) if layers.contains(&Layer::Netns))
        || request.required.contains(&Layer::Netns);
    // Who asks for the programs of the control group by name has them.
    let rival = request.required.contains(&Layer::CgroupNet);
    let wanted = named || (*request.layers == LayerChoice::Auto && !rival);
    match (wanted, is_closed(policies), hooks) {
        (false, ..) => None,
        (true, true, false) => Some(proof::net().and_then(super::tried::proven)),
        (true, false, _) => named.then(|| Err(OPEN.to_owned())),
        (true, true, true) => named.then(|| Err(HOOKS.to_owned())),
    }
}

/// What a run's first process leaves where the layer is used.
///
/// # Errors
/// The machine's resolvers cannot be read.
pub(super) fn namespaces(used: bool) -> Result<Namespaces, SensorError> {
    if !used {
        return Ok(Namespaces::default());
    }
    let missing =
        |error| SensorError::Missing { layer: Layer::Netns.name(), reason: super::tried::text(&error) };
    let resolvers = machine::resolvers().map_err(missing)?;
    Ok(Namespaces { net: Some(Net { resolvers }) })
}
