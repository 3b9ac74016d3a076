//! Conversations: who is in them, what they are called, and what everybody else may know of them: nothing.

mod lives;
mod strangers;
