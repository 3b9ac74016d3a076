//! Conversations as REST sees them: create, list, members, roles, messages, marks, presence. Writes go to the
//! conversation's owner on the same path as frames; reads come from the store.

mod asking;

use std::{sync::Arc, time::Duration};

use protocol::{
    Body, ClientId, Code, ConversationId, Error, Incarnation, Kind, Seq, UserId,
    limits::{MEMBERS_PER_CALL_MAX, REQUEST_DEADLINE_MS, TITLE_CHARS_MAX, WATCH_USERS_MAX},
    peer::{Address, Change, Done, MarkRequest, Requester, Submission, ToConversation},
    push,
    request::Page,
    rest,
};
use storage::{
    Store,
    directory::{self, Membership},
    log::{Lane, Range},
};

use self::asking::Asking;
use crate::{
    Caller, World,
    connections::Connections,
    history,
    listing::{other_of, page_of},
    naming::{direct_id, group_id, hash},
    presence_query,
    refusals::{no_such_conversation, store_failed},
    router::Router,
    tasks,
    turns::Turns,
};

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 200;

/// Conversations, messages, history and presence: what REST does, on the same path as the frames.
pub struct Conversations {
    world: World,
    me: Incarnation,
    text_chars: usize,
    router: Arc<Router>,
    connections: Arc<Connections>,
    turns: Arc<Turns>,
}

fn check_limit(limit: Option<usize>) -> Result<usize, Error> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(Error::field("limit", format!("between 1 and {PAGE_MAX}"))),
    }
}

fn check_title(title: &str) -> Result<String, Error> {
    let title = title.trim();
    let chars = title.chars().count();
    if chars == 0 || chars > TITLE_CHARS_MAX || title.chars().any(char::is_control) {
        return Err(Error::field("title", format!("1 to {TITLE_CHARS_MAX} characters, no control characters")));
    }
    Ok(title.to_owned())
}

impl Conversations {
    pub(crate) fn new(
        world: World, me: Incarnation, text_chars: usize, router: Arc<Router>, connections: Arc<Connections>,
        turns: Arc<Turns>,
    ) -> Conversations {
        Conversations { world, me, text_chars, router, connections, turns }
    }

    /// Begins a conversation; answers it, and whether it was made just now. `key`: the `Idempotency-Key`.
    ///
    /// # Errors
    /// `bad_field`, `not_found` for a member that does not exist, `conflict` for another request under the same key.
    pub async fn create(
        &self, caller: Caller, body: rest::CreateConversation, key: Option<ClientId>,
    ) -> Result<(rest::Conversation, bool), Error> {
        let request_hash = hash("create", &body);
        let mut members = vec![caller.user];
        for user in &body.members {
            if !members.contains(user) {
                members.push(*user);
            }
        }
        if members.len() > MEMBERS_PER_CALL_MAX {
            return Err(Error::field("members", format!("at most {MEMBERS_PER_CALL_MAX}; add more afterwards")));
        }
        let (id, title) = match body.kind {
            Kind::Direct => {
                if body.title.is_some() {
                    return Err(Error::field("title", "a direct conversation has no title"));
                }
                let [_, other] = members[..] else {
                    return Err(Error::field("members", "a direct conversation is with exactly one other user"));
                };
                (direct_id(caller.user, other), None)
            }
            Kind::Group | Kind::Channel => {
                let title = check_title(body.title.as_deref().unwrap_or_default())?;
                let id = match &key {
                    Some(key) => group_id(caller.user, key.as_str().as_bytes()),
                    None => ConversationId(self.world.id()),
                };
                (id, Some(title))
            }
        };
        if !self.was_asked(caller, id, key.as_ref()).await? {
            self.check_exist("members", &members).await?;
        }
        let change = Change::Create { kind: body.kind, title, members };
        let made = match self.submit(caller, id, key, None, request_hash, change).await? {
            Done::Stored { dup, .. } => !dup,
            _ => false,
        };
        Ok((self.one(caller, id).await?, made))
    }

    /// The caller's conversations, most recent activity first.
    ///
    /// # Errors
    /// `bad_field` for limit or cursor.
    pub async fn list(
        &self, caller: Caller, limit: Option<usize>, cursor: Option<&str>,
    ) -> Result<rest::List<rest::Conversation>, Error> {
        let limit = check_limit(limit)?;
        let all = self.store().directory.list(caller.user).await.map_err(|e| store_failed(&e))?;
        let (page, next) = page_of(all.iter(), limit, cursor)?;
        let mut items = Vec::with_capacity(page.len());
        for membership in page {
            items.push(self.view(membership).await?);
        }
        Ok(rest::List { items, next })
    }

    /// One conversation as the caller sees it.
    ///
    /// # Errors
    /// `not_found`, also for who is not a member.
    pub async fn one(&self, caller: Caller, c: ConversationId) -> Result<rest::Conversation, Error> {
        self.view(&self.membership(caller, c).await?).await
    }

    /// Changes settings.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `bad_field`.
    pub async fn change(
        &self, caller: Caller, c: ConversationId, body: rest::ConversationChange, key: Option<ClientId>,
    ) -> Result<rest::Conversation, Error> {
        if let Some(title) = &body.title {
            let title = check_title(title)?;
            self.submit(caller, c, key, None, hash("settings", &body), Change::Title(title)).await?;
        }
        self.one(caller, c).await
    }

    /// Members, ascending by id.
    ///
    /// # Errors
    /// `not_found`, `bad_field` for limit or cursor.
    pub async fn members(
        &self, caller: Caller, c: ConversationId, limit: Option<usize>, cursor: Option<&str>,
    ) -> Result<rest::List<rest::Member>, Error> {
        let limit = check_limit(limit)?;
        let after = cursor.map(str::parse::<UserId>).transpose();
        let after = after.map_err(|e| Error::field("cursor", e.to_string()))?;
        let mut page = self.store().directory.members(c, after, limit + 1).await.map_err(|e| store_failed(&e))?;
        self.membership(caller, c).await?;
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|member| member.user.to_string());
        let item = |m: directory::Member| rest::Member { user: m.user, role: m.role, joined_seq: m.joined_seq };
        Ok(rest::List { items: page.into_iter().map(item).collect(), next })
    }

    /// Adds members; who is one already is passed over.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `conflict` if there would be too many.
    pub async fn add_members(
        &self, caller: Caller, c: ConversationId, body: rest::AddMembers, key: Option<ClientId>,
    ) -> Result<(), Error> {
        if body.users.is_empty() || body.users.len() > MEMBERS_PER_CALL_MAX {
            return Err(Error::field("users", format!("1 to {MEMBERS_PER_CALL_MAX} users a call")));
        }
        if !self.was_asked(caller, c, key.as_ref()).await? {
            // to who is not a member, users that exist and users that do not look alike
            self.membership(caller, c).await?;
            self.check_exist("users", &body.users).await?;
        }
        let request_hash = hash("join", &body);
        self.submit(caller, c, key, None, request_hash, Change::Join(body.users)).await.map(drop)
    }

    /// Gives a member a role.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `conflict` for the last owner.
    pub async fn change_role(
        &self, caller: Caller, c: ConversationId, user: UserId, body: rest::ChangeRole, key: Option<ClientId>,
    ) -> Result<(), Error> {
        let request_hash = hash("role", &(user, body));
        self.submit(caller, c, key, None, request_hash, Change::Role(user, body.role)).await.map(drop)
    }

    /// Removes a member; removing oneself is leaving.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub async fn remove_member(
        &self, caller: Caller, c: ConversationId, user: UserId, key: Option<ClientId>,
    ) -> Result<(), Error> {
        let change = if user == caller.user { Change::Leave } else { Change::Remove(user) };
        self.submit(caller, c, key, None, hash("remove", &user), change).await.map(drop)
    }

    /// Posts. `key`: the `Idempotency-Key`, used as `cid` where the body has none.
    ///
    /// # Errors
    /// As `send` on the socket.
    pub async fn post(
        &self, caller: Caller, c: ConversationId, body: rest::PostMessage, key: Option<ClientId>,
    ) -> Result<push::Sent, Error> {
        let missing = || Error::field("cid", "a post needs a `cid`, or the header Idempotency-Key");
        let cid = body.cid.or(key).ok_or_else(missing)?;
        body.post.check(self.text_chars)?;
        let request_hash = hash("post", &body.post);
        let change = Change::Post(Body::Post(body.post).encode().into());
        match self.submit(caller, c, Some(cid), body.base, request_hash, change).await? {
            Done::Stored { seq, post_no, at, dup } => Ok(push::Sent { seq, post_no, at, dup }),
            _ => Err(Error::new(Code::Internal, "a post was neither stored nor refused")),
        }
    }

    /// A page of history.
    ///
    /// # Errors
    /// `not_found`, `bad_field`.
    pub async fn history(&self, caller: Caller, c: ConversationId, page: Page) -> Result<push::HistoryPage, Error> {
        page.check()?;
        let _turn = self.turns.take(caller.session).await;
        history::page(self.store(), caller.user, c, page).await
    }

    /// Moves the caller's read mark.
    ///
    /// # Errors
    /// `not_found`, `bad_field` for a seq beyond the head.
    pub async fn read(&self, caller: Caller, c: ConversationId, seq: Seq) -> Result<(), Error> {
        let mark = |requester| ToConversation::Mark(MarkRequest { requester, by: caller.user, read: true, seq });
        self.call(c, mark).await.map(drop)
    }

    /// How users appear to the caller.
    ///
    /// # Errors
    /// `bad_field` for too many, `unavailable`.
    pub async fn presence(&self, caller: Caller, users: Vec<UserId>) -> Result<push::PresenceStates, Error> {
        if users.len() > WATCH_USERS_MAX {
            return Err(Error::field("users", format!("at most {WATCH_USERS_MAX} a call")));
        }
        let store = self.store();
        let visible = presence_query::visible(store, caller.user, &users).await?;
        presence_query::states(store, &self.router, &self.connections, self.me, &users, &visible).await
    }

    fn store(&self) -> &Store {
        &self.world.store
    }

    async fn membership(&self, caller: Caller, c: ConversationId) -> Result<Membership, Error> {
        let membership = self.store().directory.membership(c, caller.user).await.map_err(|e| store_failed(&e))?;
        membership.filter(|m| m.member.left_seq.is_none()).ok_or_else(no_such_conversation)
    }

    /// True if the log knows a request of the caller under this key: it is answered from there, whoever left since.
    async fn was_asked(&self, caller: Caller, c: ConversationId, key: Option<&ClientId>) -> Result<bool, Error> {
        let Some(key) = key else { return Ok(false) };
        let known = self.store().log.find(c, caller.user, key).await.map_err(|e| store_failed(&e))?;
        Ok(known.is_some())
    }

    async fn check_exist(&self, field: &str, users: &[UserId]) -> Result<(), Error> {
        let there = self.store().accounts.existing(users).await.map_err(|e| store_failed(&e))?;
        match users.iter().find(|user| !there.contains(user)) {
            None => Ok(()),
            Some(missing) => {
                let error = Error::new(Code::NotFound, format!("there is no user {missing}"));
                Err(Error { field: Some(field.to_owned()), ..error })
            }
        }
    }

    async fn view(&self, membership: &Membership) -> Result<rest::Conversation, Error> {
        let Membership { conversation, member } = membership;
        let newest = Range { after: Seq(0), before: None, lane: Lane::Posts, limit: 1, newest: true };
        let last = self.store().log.read(conversation.id, newest).await.map_err(|e| store_failed(&e))?;
        Ok(rest::Conversation {
            id: conversation.id,
            kind: conversation.kind,
            title: conversation.title.clone(),
            with: other_of(conversation, member.user),
            members_count: conversation.members,
            head: conversation.head.seq,
            head_post: conversation.head.post_no,
            read: member.marks.read,
            unread: conversation.head.post_no.saturating_sub(member.read_post),
            last: last.first().and_then(|event| event.view(conversation.id)),
            role: member.role,
            created_at: conversation.created_at,
        })
    }

    async fn submit(
        &self, caller: Caller, c: ConversationId, cid: Option<ClientId>, base: Option<Seq>, request_hash: [u8; 16],
        change: Change,
    ) -> Result<Done, Error> {
        let by = caller.user;
        self.call(c, |requester| ToConversation::Submit(Submission { requester, by, cid, base, request_hash, change }))
            .await
    }

    /// Asks a conversation and waits for its answer, within the request deadline.
    async fn call(
        &self, c: ConversationId, mail: impl FnOnce(Option<Requester>) -> ToConversation,
    ) -> Result<Done, Error> {
        let (call, answer) = self.connections.add_call();
        let requester = Requester { at: Address { node: self.me, conn: call.conn }, tag: 0 };
        let asking = Asking { router: &self.router, connections: &self.connections, c, mail: mail(Some(requester)) };
        let timeout = || Error::new(Code::Timeout, "no answer in time; the same request is safe");
        let deadline = Duration::from_millis(REQUEST_DEADLINE_MS);
        tasks::within(deadline, asking.until_answered(call, answer)).await.unwrap_or_else(|| Err(timeout()))
    }
}
