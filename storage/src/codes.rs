//! The numbers under which words of a fixed set are stored, whatever the store. Never used again for another word.

use protocol::{Kind, Role};

pub(crate) fn of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Direct => 0,
        Kind::Group => 1,
        Kind::Channel => 2,
    }
}

pub(crate) fn kind(code: i64) -> Option<Kind> {
    [Kind::Direct, Kind::Group, Kind::Channel].into_iter().find(|&kind| i64::from(of_kind(kind)) == code)
}

pub(crate) fn of_role(role: Role) -> u8 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

pub(crate) fn role(code: i64) -> Option<Role> {
    [Role::Member, Role::Admin, Role::Owner].into_iter().find(|&role| i64::from(of_role(role)) == code)
}

/// Posts lie apart from everything else, so that pages of them stay dense.
pub(crate) fn lane(kind: u8) -> u8 {
    u8::from(kind != 0)
}
