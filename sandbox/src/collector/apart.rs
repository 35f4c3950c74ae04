//! A run in namespaces of its own: its first process goes in, and what it found listening is served from here.

use std::io;
use std::sync::Arc;

use super::start::StartError;
use crate::enforce::mountns::Mounts;
use crate::enforce::namespaces::{Inside, Namespaces};
use crate::enforce::relay::{Relay, dial::Dialler};
use crate::event::judge::Apart;
use crate::launch::ender::Ender;
use crate::launch::handshake::{Armed, Channel, Received, ToChild};
use crate::launch::plan::RunPlan;
use crate::names::{self, Names, machine};

/// Has the first process of the run go in; gives what listens there. It must not be a member yet.
pub(super) fn enter(
    child: &Channel<ToChild, Armed>,
    namespaces: &Namespaces,
) -> Result<Option<Inside>, StartError> {
    if namespaces.is_empty() {
        return Ok(None);
    }
    let peer = |source| StartError::Peer { peer: "command's process", source };
    child.send(&ToChild::Enter(namespaces.clone())).map_err(peer)?;
    match child.receive().map_err(peer)? {
        Received::Message(Armed::Entered(Some(description)), descriptors) => {
            Ok(Some(Inside::receive(&description, descriptors).map_err(peer)?))
        }
        Received::Message(Armed::Entered(None), _) => Ok(None),
        Received::Message(Armed::NotEntered { why }, _) => Err(StartError::NotApart(why)),
        Received::Message(_, _) => Err(StartError::NotApart("it answered something else".to_owned())),
        Received::Closed => Err(StartError::ChildGone),
    }
}

/// Has the first process of the run lay its covers.
pub(super) fn cover(child: &Channel<ToChild, Armed>, mounts: &Mounts) -> Result<(), StartError> {
    let peer = |source| StartError::Peer { peer: "command's process", source };
    child.send(&ToChild::Cover(mounts.clone())).map_err(peer)?;
    match child.receive().map_err(peer)? {
        Received::Message(Armed::Covered, _) => Ok(()),
        Received::Message(Armed::NotCovered { why }, _) => Err(StartError::Cover(why)),
        Received::Message(_, _) => Err(StartError::Cover("it answered something else".to_owned())),
        Received::Closed => Err(StartError::ChildGone),
    }
}

/// Has the first process of the run make an ender, behind its covers.
pub(super) fn guard(child: &Channel<ToChild, Armed>) -> Result<Ender, StartError> {
    let peer = |source| StartError::Peer { peer: "command's process", source };
    child.send(&ToChild::Guard { outside: std::process::id() }).map_err(peer)?;
    match child.receive().map_err(peer)? {
        Received::Message(Armed::Guarded, links) => {
            let link = links.into_iter().next().ok_or(io::ErrorKind::NotFound.into()).map_err(peer)?;
            Ender::meet(link).map_err(|source| StartError::Peer { peer: "process that ends the run", source })
        }
        Received::Message(Armed::NotGuarded { why }, _) => Err(StartError::NotGuarded(why)),
        Received::Message(_, _) => Err(StartError::NotGuarded("it answered something else".to_owned())),
        Received::Closed => Err(StartError::ChildGone),
    }
}

/// Begins to serve what listens inside: questions for names, and connections.
pub(super) fn begin(inside: Inside, plan: &RunPlan) -> Result<(Names, (Relay, Apart)), StartError> {
    let system = |step| move |source| StartError::System { step, source };
    let Some(policies) = plan.mode.policies() else {
        return Err(StartError::NotApart("there is no policy to judge by".to_owned()));
    };
    let address = inside.relay_address().map_err(system("find the relay's listener"))?;
    let resolvers = inside.names.iter().map(|(resolver, ..)| resolver.ip()).collect();
    let names = names::start_inside(inside.names, policies)?;
    // Those that nobody inside can ask are asked all the same by the relay.
    let asked = machine::resolvers()?;
    let dialler = Dialler::new(Arc::clone(&names.directory), asked, names::settings(), machine::hosts()?);
    let relay = Relay::start(inside.relay, dialler).map_err(system("start the relay"))?;
    Ok((names, (relay, Apart { relay: address, resolvers })))
}
