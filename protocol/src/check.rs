//! Rules about a request that need nothing but the request: counts, lengths, what excludes what. Who may do it and
//! whether it exists is decided elsewhere.

use serde_json::Value;

use crate::{
    Code, Error, Post, Presence, Seq, limits,
    request::{Hello, ListWindow, Page, Pres, Verb, Watch},
};

impl Verb {
    /// Checks what can be checked without knowing anything else; decoding does not.
    ///
    /// # Errors
    /// [`Code::BadField`] or [`Code::TooLarge`], with the field.
    pub fn check(&self, text_chars_max: usize) -> Result<(), Error> {
        match self {
            Verb::Hello(hello) => hello.check(),
            Verb::Sync(sync) => sync.list.check(),
            Verb::Send(send) => send.post.check(text_chars_max),
            Verb::Hist(hist) => hist.page.check(),
            Verb::Pres(pres) => pres.check(),
            Verb::Watch(watch) => watch.check(),
            Verb::Auth(_) | Verb::Read(_) | Verb::Ack(_) | Verb::Typ(_) | Verb::Open(_) | Verb::Close(_) => Ok(()),
        }
    }
}

impl Post {
    /// Checks a post before it is sent on: something is there, nothing is beyond its bound.
    ///
    /// # Errors
    /// [`Code::BadField`], or [`Code::TooLarge`] for the text; both name the field.
    pub fn check(&self, text_chars_max: usize) -> Result<(), Error> {
        if self.attachments.is_empty() && self.text.as_ref().is_none_or(String::is_empty) {
            return Err(Error::field("text", "a post needs `text` or `attachments`"));
        }
        // bytes first: most texts are shorter than the limit even so
        let long = |text: &String| text.len() > text_chars_max && text.chars().count() > text_chars_max;
        if self.text.as_ref().is_some_and(long) {
            let message = format!("`text` has at most {text_chars_max} characters");
            return Err(Error { field: Some("text".into()), ..Error::new(Code::TooLarge, message) });
        }
        if self.reply_to == Some(Seq(0)) {
            return Err(Error::field("reply_to", "seqs start at 1"));
        }
        for (field, n_items) in [("mentions", self.mentions.len()), ("attachments", self.attachments.len())] {
            at_most(field, n_items, limits::POST_ITEMS_MAX)?;
        }
        if self.meta.as_ref().is_some_and(|meta| !meta.is_object()) {
            return Err(Error::field("meta", "`meta` is an object"));
        }
        let too_deep = |value: &Value| !nests_within(value, limits::NESTING_MAX);
        if self.attachments.iter().any(too_deep) {
            return Err(Error::field("attachments", format!("nested deeper than {}", limits::NESTING_MAX)));
        }
        if self.meta.as_ref().is_some_and(too_deep) {
            return Err(Error::field("meta", format!("nested deeper than {}", limits::NESTING_MAX)));
        }
        Ok(())
    }
}

impl Page {
    /// Checks that there is at most one bound and a sensible limit.
    ///
    /// # Errors
    /// [`Code::BadField`] that names the field.
    pub fn check(&self) -> Result<(), Error> {
        let bounds = [("before", self.before), ("after", self.after), ("around", self.around)];
        if let Some((field, _)) = bounds.iter().filter(|(_, bound)| bound.is_some()).nth(1) {
            return Err(Error::field(*field, "at most one of `before`, `after` and `around`"));
        }
        if self.limit.is_some_and(|limit| !(1..=limits::PAGE_POSTS_MAX).contains(&limit)) {
            return Err(Error::field("limit", format!("`limit` lies between 1 and {}", limits::PAGE_POSTS_MAX)));
        }
        Ok(())
    }
}

impl Hello {
    /// Checks what a client says of itself.
    ///
    /// # Errors
    /// [`Code::BadField`] that names the field.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(app) = &self.app {
            at_most("app", app.chars().count(), limits::APP_CHARS_MAX)?;
        }
        at_most("caps", self.caps.len(), limits::CAPS_MAX)?;
        self.caps.iter().try_for_each(|cap| at_most("caps", cap.chars().count(), limits::CAPS_MAX))
    }
}

impl ListWindow {
    fn check(&self) -> Result<(), Error> {
        at_most("list.limit", self.limit, limits::SYNC_LIST_MAX)
    }
}

impl Pres {
    fn check(self) -> Result<(), Error> {
        if self.state == Presence::Offline {
            return Err(Error::field("state", "`online` or `away`; offline is said by closing the socket"));
        }
        Ok(())
    }
}

impl Watch {
    fn check(&self) -> Result<(), Error> {
        at_most("users", self.users.len(), limits::WATCH_USERS_MAX)
    }
}

fn at_most(field: &str, n: usize, n_max: usize) -> Result<(), Error> {
    if n > n_max {
        return Err(Error::field(field, format!("`{field}`: at most {n_max}, not {n}")));
    }
    Ok(())
}

/// True if `value` has at most `levels` levels of arrays and objects; never descends further than that.
fn nests_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| nests_within(item, levels - 1)),
        Value::Object(items) => levels > 0 && items.values().all(|item| nests_within(item, levels - 1)),
        _ => true,
    }
}
