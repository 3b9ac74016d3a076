//! Makes users and groups for a run, many at once.

use std::collections::VecDeque;

use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{
    ConversationId, DeviceId, UserId, limits,
    rest::{Login, Register, SignedIn},
};

use crate::{Rest, RestFailed, random::Random};

/// Registrations under way at once.
const PARALLEL: usize = 16;

/// At one registration, where a store is slow.
const ATTEMPTS: usize = 4;

/// What every user of a run signs in with: nobody else knows that they exist.
pub const PASSWORD: &str = "vermilion-kettle-93-plover";

/// Registers `n` new users, each signed in on device `0`.
///
/// # Errors
/// [`RestFailed`] of the first that failed.
pub async fn users(rest: &Rest, n: usize) -> Result<Vec<SignedIn>, RestFailed> {
    let run = Random::unseeded().bits() & 0xffff_ffff;
    let mut waiting: VecDeque<usize> = (0..n).collect();
    let mut under_way = FuturesUnordered::new();
    let mut users: Vec<Option<SignedIn>> = vec![None; n];
    loop {
        while under_way.len() < PARALLEL
            && let Some(index) = waiting.pop_front()
        {
            under_way.push(async move { (index, user(rest, &format!("load{run:x}n{index}")).await) });
        }
        let Some((index, signed_in)) = under_way.next().await else { break };
        users[index] = Some(signed_in?);
    }
    Ok(users.into_iter().flatten().collect())
}

async fn user(rest: &Rest, username: &str) -> Result<SignedIn, RestFailed> {
    let mut body = Register {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: None,
        email: None,
        device: Some(device(0)),
        device_name: None,
    };
    for attempt in 1..ATTEMPTS {
        match rest.register(&body).await {
            // the name may be taken by now
            Err(failed) if failed.code().is_some_and(|code| code.retry()) => {
                body.username = format!("{username}x{attempt}");
            }
            registered => return registered,
        }
    }
    rest.register(&body).await
}

/// Signs a user in on another device.
///
/// # Errors
/// [`RestFailed`].
pub async fn another(rest: &Rest, user: &SignedIn, number: usize) -> Result<SignedIn, RestFailed> {
    let (login, password) = (user.user.username.clone(), PASSWORD.to_owned());
    rest.login(&Login { login, password, device: Some(device(number)), device_name: None }).await
}

/// The name of a user's how-many-th device.
pub fn device(number: usize) -> DeviceId {
    DeviceId::try_from(format!("load-{number}")).expect("short and printable")
}

/// Makes a group of `owner` and `others`, however many.
///
/// # Errors
/// [`RestFailed`] of the call that failed.
pub async fn group(rest: &Rest, owner: &SignedIn, others: &[UserId]) -> Result<ConversationId, RestFailed> {
    let token = &owner.tokens.access_token;
    let (first, later) = others.split_at(others.len().min(limits::MEMBERS_PER_CALL_MAX - 1));
    let group = rest.create_group(token, "load", first.to_vec()).await?;
    for more in later.chunks(limits::MEMBERS_PER_CALL_MAX) {
        rest.add_members(token, group.id, more.to_vec()).await?;
    }
    Ok(group.id)
}
