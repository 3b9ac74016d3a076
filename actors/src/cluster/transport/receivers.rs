//! The two actors of a node that others reach: everything from other nodes comes through them. They hand on and decide
//! nothing.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, concurrency::JoinHandle, pg};

use protocol::Incarnation;

use super::{
    hub::Hub,
    links::{Input, LinkId},
    messages::{CtlMsg, RouterMsg},
};

const SCOPE: &str = "starling";

/// Starts both; each is told to the peers by the group it joins.
pub(super) async fn start(hub: &Arc<Hub>) -> Result<[JoinHandle<()>; 2], SpawnErr> {
    let (router, router_ended) = Actor::spawn(None, Router(hub.clone()), ()).await?;
    let (ctl, ctl_ended) = Actor::spawn(None, Ctl(hub.clone()), ()).await?;
    pg::join_scoped(SCOPE.to_owned(), group("router", hub.me()), vec![router.get_cell()]);
    pg::join_scoped(SCOPE.to_owned(), group("ctl", hub.me()), vec![ctl.get_cell()]);
    Ok([router_ended, ctl_ended])
}

/// A peer's two, at the other end of a link.
pub(super) fn of(peer: Incarnation, link: LinkId) -> Option<(ActorRef<RouterMsg>, ActorRef<CtlMsg>)> {
    Some((member("router", peer, link)?.into(), member("ctl", peer, link)?.into()))
}

fn member(kind: &str, peer: Incarnation, link: LinkId) -> Option<ActorCell> {
    let members = pg::get_scoped_members(&SCOPE.to_owned(), &group(kind, peer));
    members.into_iter().find(|cell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == link))
}

/// Of its own for each run of each node: a peer can only put its own actors there.
fn group(kind: &str, of: Incarnation) -> String {
    format!("{kind}/{of}")
}

struct Router(Arc<Hub>);

impl Actor for Router {
    type Msg = RouterMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RouterMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self, _: ActorRef<RouterMsg>, RouterMsg::Frame(token, frame): RouterMsg, (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.step(Input::Came { token, frame });
        Ok(())
    }
}

struct Ctl(Arc<Hub>);

impl Actor for Ctl {
    type Msg = CtlMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CtlMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<CtlMsg>, message: CtlMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.step(match message {
            CtlMsg::Greeting(token, greeting) => Input::Greeted { token, greeting },
            CtlMsg::Welcome(token) => Input::Welcomed { token },
            CtlMsg::Refusal(token, why) => Input::Refused { token, why },
            CtlMsg::Beat(token, frame) => Input::Came { token, frame },
        });
        Ok(())
    }
}
