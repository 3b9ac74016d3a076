//! `/v1/presence`: who is there.

use axum::{Json, extract::State};
use protocol::{Error, UserId, limits::WATCH_USERS_MAX, push::PresenceStates};

use super::{
    extract::{Query, Signed},
    refusal::Refusal,
};
use crate::app::App;

/// `?users=a,b`.
pub(crate) async fn states(
    State(app): State<App>, Signed(caller): Signed, query: Query,
) -> Result<Json<PresenceStates>, Refusal> {
    let users = query.get("users").ok_or_else(|| Error::field("users", "whose?"))?;
    let users: Result<Vec<UserId>, _> = users.split(',').filter(|user| !user.is_empty()).map(str::parse).collect();
    let users = users.map_err(|reason| Error::field("users", reason.to_string()))?;
    if users.len() > WATCH_USERS_MAX {
        return Err(Error::field("users", format!("at most {WATCH_USERS_MAX}")).into());
    }
    Ok(Json(app.starling.conversations.presence(caller, users).await?))
}
