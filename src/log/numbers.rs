//! The numbers that stand for names in stores, so that a renamed role changes no stored row.

use super::{Body, ConversationKind, MemberState, Role};

pub(super) fn body_number(body: &Body) -> i32 {
    match body {
        Body::Created(_) => 1,
        Body::Message(_) => 2,
        Body::Edited => 3,
        Body::Deleted => 4,
        Body::Members(_) => 5,
        Body::Profile(_) => 6,
        // Never written: it has no JSON.
        Body::Unreadable => 0,
    }
}

const KINDS: [ConversationKind; 2] = [ConversationKind::Direct, ConversationKind::Group];

pub(super) fn kind_number(kind: ConversationKind) -> i32 {
    number(&KINDS, &kind)
}

pub(super) fn kind_of(number: i32) -> Result<ConversationKind, String> {
    name(&KINDS, number).ok_or_else(|| format!("{number} is no kind of conversation"))
}

const STATES: [MemberState; 3] = [MemberState::Active, MemberState::Left, MemberState::Removed];

pub(super) fn state_number(state: MemberState) -> i32 {
    number(&STATES, &state)
}

pub(super) fn state_of(number: i32) -> Result<MemberState, String> {
    name(&STATES, number).ok_or_else(|| format!("{number} is no state of a member"))
}

const ROLES: [Role; 7] =
    [Role::Founder, Role::Accountant, Role::Moderator, Role::Recruiter, Role::Support, Role::Cheerleader, Role::Member];

pub(super) fn role_number(role: Role) -> i32 {
    number(&ROLES, &role)
}

pub(super) fn role_of(number: i32) -> Result<Role, String> {
    name(&ROLES, number).ok_or_else(|| format!("{number} is no role"))
}

/// Its place in the list, from 1; 0 when it is not there.
fn number<T: PartialEq>(names: &[T], name: &T) -> i32 {
    names.iter().position(|known| known == name).and_then(|at| i32::try_from(at + 1).ok()).unwrap_or(0)
}

fn name<T: Copy>(names: &[T], number: i32) -> Option<T> {
    names.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whatever_number_is_stored_is_a_name_or_refused() {
        assert!(ROLES.into_iter().all(|role| role_of(role_number(role)).unwrap() == role));
        assert!(STATES.into_iter().all(|state| state_of(state_number(state)).unwrap() == state));
        assert!(KINDS.into_iter().all(|kind| kind_of(kind_number(kind)).unwrap() == kind));
        for number in [i32::MIN, -1, 0, 8, i32::MAX] {
            assert!(role_of(number).is_err() && state_of(number).is_err() && kind_of(number).is_err(), "{number}");
        }
    }
}
