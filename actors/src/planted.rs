//! Mistakes that the simulation plants in all nodes, to see that it finds them. Only a test can plant one: elsewhere the
//! question is answered `false` by the compiler.

/// What a node may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A device that a conversation did not have is not sent the head.
    NoHeadToNewDevices,
    /// What a broken link may have lost is not told as heads by the next one.
    HeadsNotKept,
    /// Watches that were forgotten elsewhere are not made again.
    WatchesNotMadeAgain,
    /// Sockets that were forgotten elsewhere are not registered again.
    NotRegisteredAgain,
    /// An append of unknown outcome is acknowledged.
    AckUnknown,
    /// The client ids of the tail are not looked at.
    NoDedupe,
    /// What is appended is not noted for whoever looks after it should its owner die.
    NoNote,
    /// What a gone member noted is reported as told, and nobody has looked after it.
    NotLookedAfter,
    /// Whoever claims a log does not ask who has left in its tail.
    DepartedForgotten,
    /// What a slow reader has no room for is left out in silence.
    GapSwallowed,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// True if this one is planted.
#[cfg(test)]
pub(crate) fn is(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// True if this one is planted.
#[cfg(not(test))]
pub(crate) const fn is(_: Mistake) -> bool {
    false
}

/// Makes this thread's nodes err.
#[cfg(test)]
pub(crate) fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}
