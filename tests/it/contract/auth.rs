//! The promises of `auth::AuthStore`: what is counted or spent is claimed once, whoever else tries at the same time.

use std::sync::Arc;
use std::time::Duration;

use urge::auth::{AuthStore, CodeRecord, CodeState, Purpose, Refreshed, Session, Spent, Try};
use urge::clock::Timestamp;
use urge::id::{SessionId, UserId};
use urge::phone::Phone;
use uuid::Uuid;

use super::{ORDERS, new_phone, racing};

promises!(
    urge::auth::AuthStatements;
    sessions_are_one_persons,
    the_last_use_goes_forward_only,
    a_session_ends_once_and_for_ever,
    generations_go_forward_only,
    a_refresh_needs_a_living_session_and_its_secret,
    racing_refreshes_end_at_the_highest_generation,
    tries_are_claimed_up_to_their_limit,
    a_try_is_given_back_to_its_code,
    a_code_takes_the_place_of_the_one_before,
    a_code_that_was_not_sent_gives_its_place_back,
    a_code_is_used_up_once,
    a_code_is_claimed_for_one_use,
    a_code_ends,
    a_budget_is_spent_up_to_its_limit,
    no_window_sees_more_than_its_budget,
    a_login_ticket_has_so_many_tries,
    a_login_ticket_ends,
    a_socket_ticket_is_taken_once,
    a_socket_ticket_ends,
);

const SECRET: [u8; 32] = [7; 32];

fn session(user_id: UserId) -> Session {
    Session {
        user_id,
        id: SessionId::fresh(),
        device: "Nokia 3310 'snake'".into(),
        address: "2001:db8::1".into(),
        created_at: Timestamp(1_000),
        last_used_at: Timestamp(1_000),
        generation: 0,
        secret_hash: SECRET,
        login_epoch: 3,
    }
}

fn code() -> CodeRecord {
    let (sent_at, expires_at) = (Timestamp(1_000), Timestamp(601_000));
    CodeRecord { id: Uuid::new_v4(), hash: [3; 32], sent_at, expires_at, tries: 0, state: CodeState::Fresh, claim: None }
}

fn phone() -> Phone {
    Phone::stored(new_phone())
}

async fn sessions_are_one_persons(store: Arc<dyn AuthStore>) {
    let (user, other) = (UserId::fresh(), UserId::fresh());
    let mut written = vec![session(user), session(user), session(user)];
    written[1].generation = u32::MAX;
    for session in written.iter().chain([&session(other)]) {
        store.insert_session(session).await.unwrap();
    }
    for session in &written {
        assert_eq!(store.session(user, session.id).await.unwrap().as_ref(), Some(session));
        assert_eq!(store.session(other, session.id).await.unwrap(), None, "a session is looked for with its owner");
    }
    let mut found = store.sessions(user).await.unwrap();
    found.sort_by_key(|session| session.id);
    written.sort_by_key(|session| session.id);
    assert_eq!(found, written);
    assert!(store.sessions(UserId::fresh()).await.unwrap().is_empty());
}

async fn the_last_use_goes_forward_only(store: Arc<dyn AuthStore>) {
    for order in ORDERS {
        let session = session(UserId::fresh());
        store.insert_session(&session).await.unwrap();
        let mut last = 0;
        for at in order {
            let used = [2_000, 3_000, 9_000][at];
            last = last.max(used);
            store.touch_session(session.user_id, session.id, Timestamp(used)).await.unwrap();
            let found = store.session(session.user_id, session.id).await.unwrap().unwrap();
            assert_eq!(found.last_used_at, Timestamp(last));
        }
        // The insert again, late: it is the same session.
        store.insert_session(&session).await.unwrap();
        let found = store.session(session.user_id, session.id).await.unwrap().unwrap();
        assert_eq!(found, Session { last_used_at: Timestamp(9_000), ..session });
    }
}

async fn a_session_ends_once_and_for_ever(store: Arc<dyn AuthStore>) {
    let ended = session(UserId::fresh());
    let (user, id) = (ended.user_id, ended.id);
    store.insert_session(&ended).await.unwrap();
    let results = racing(32, |_| {
        let store = Arc::clone(&store);
        async move { store.end_session(user, id).await.unwrap() }
    })
    .await;
    assert_eq!(results.into_iter().filter(|ended| *ended).count(), 1);
    // Who was on his way does not bring it back.
    store.touch_session(user, id, Timestamp(5_000)).await.unwrap();
    assert_eq!(store.use_generation(user, id, SECRET, 1, Timestamp(0), Timestamp(5_000)).await.unwrap(), Refreshed::Gone);
    assert_eq!(store.session(user, id).await.unwrap(), None);
    assert!(store.sessions(user).await.unwrap().is_empty());
}

async fn generations_go_forward_only(store: Arc<dyn AuthStore>) {
    let session = session(UserId::fresh());
    let (user, id) = (session.user_id, session.id);
    store.insert_session(&session).await.unwrap();
    let steps = [
        (0, Refreshed::Applied, 0),
        (0, Refreshed::Applied, 0),
        (3, Refreshed::Applied, 3),
        (2, Refreshed::Behind, 3),
        (3, Refreshed::Applied, 3),
        (4, Refreshed::Applied, 4),
        (0, Refreshed::Behind, 4),
    ];
    for (generation, expected, left) in steps {
        let result = store.use_generation(user, id, SECRET, generation, Timestamp(0), Timestamp(2_000)).await.unwrap();
        assert_eq!(result, expected, "generation {generation}");
        assert_eq!(store.session(user, id).await.unwrap().unwrap().generation, left);
    }
    // A clock that was put back takes no use back.
    store.use_generation(user, id, SECRET, 5, Timestamp(0), Timestamp(1_500)).await.unwrap();
    assert_eq!(store.session(user, id).await.unwrap().unwrap().last_used_at, Timestamp(2_000));
}

async fn a_refresh_needs_a_living_session_and_its_secret(store: Arc<dyn AuthStore>) {
    let session = session(UserId::fresh());
    let (user, id) = (session.user_id, session.id);
    store.insert_session(&session).await.unwrap();
    let use_it = async |user, id, secret, unused_since| {
        store.use_generation(user, id, secret, 1, Timestamp(unused_since), Timestamp(9_000)).await.unwrap()
    };
    assert_eq!(use_it(user, id, [8; 32], 0).await, Refreshed::Gone);
    assert_eq!(use_it(user, SessionId::fresh(), SECRET, 0).await, Refreshed::Gone);
    assert_eq!(use_it(UserId::fresh(), id, SECRET, 0).await, Refreshed::Gone);
    assert_eq!(use_it(user, id, SECRET, 1_001).await, Refreshed::Gone, "unused for too long");
    assert_eq!(store.session(user, id).await.unwrap(), Some(session), "what was refused changed nothing");
    assert_eq!(use_it(user, id, SECRET, 1_000).await, Refreshed::Applied);
}

async fn racing_refreshes_end_at_the_highest_generation(store: Arc<dyn AuthStore>) {
    let session = session(UserId::fresh());
    let (user, id) = (session.user_id, session.id);
    store.insert_session(&session).await.unwrap();
    let results = racing(64, |number| {
        let store = Arc::clone(&store);
        let generation = 1 + (number as u32 * 29) % 64;
        async move { (generation, store.use_generation(user, id, SECRET, generation, Timestamp(0), Timestamp(2_000)).await.unwrap()) }
    })
    .await;
    assert!(results.contains(&(64, Refreshed::Applied)));
    assert!(results.iter().all(|(_, result)| *result != Refreshed::Gone));
    assert_eq!(store.session(user, id).await.unwrap().unwrap().generation, 64);
}

async fn tries_are_claimed_up_to_their_limit(store: Arc<dyn AuthStore>) {
    let (phone, code) = (phone(), code());
    store.put_code(&phone, Purpose::Phone, &code).await.unwrap();
    let tries = racing(64, |_| {
        let (store, phone) = (Arc::clone(&store), phone.clone());
        async move { store.claim_try(&phone, Purpose::Phone, 5, Timestamp(2_000)).await.unwrap() }
    })
    .await;
    let granted = tries.iter().filter(|tried| matches!(tried, Try::Granted(found) if found.id == code.id && found.hash == code.hash));
    assert_eq!(granted.count(), 5);
    assert_eq!(tries.iter().filter(|tried| matches!(tried, Try::Exhausted(found) if found.id == code.id)).count(), 59);
    // The other purpose and other numbers have tries of their own, but no code.
    assert_eq!(store.claim_try(&phone, Purpose::Reset, 5, Timestamp(2_000)).await.unwrap(), Try::Absent);
    assert_eq!(store.claim_try(&self::phone(), Purpose::Phone, 5, Timestamp(2_000)).await.unwrap(), Try::Absent);
}

async fn a_try_is_given_back_to_its_code(store: Arc<dyn AuthStore>) {
    let (phone, code) = (phone(), code());
    store.put_code(&phone, Purpose::Phone, &code).await.unwrap();
    let claim = async || store.claim_try(&phone, Purpose::Phone, 1, Timestamp(2_000)).await.unwrap();
    assert!(matches!(claim().await, Try::Granted(_)));
    assert!(matches!(claim().await, Try::Exhausted(_)));
    store.return_try(&phone, Purpose::Phone, Uuid::new_v4()).await.unwrap();
    store.return_try(&phone, Purpose::Reset, code.id).await.unwrap();
    assert!(matches!(claim().await, Try::Exhausted(_)), "a try of another code was given back");
    store.return_try(&phone, Purpose::Phone, code.id).await.unwrap();
    assert!(matches!(claim().await, Try::Granted(_)));
    assert!(matches!(claim().await, Try::Exhausted(_)));
    // More than were taken are not given back.
    for _ in 0..3 {
        store.return_try(&phone, Purpose::Phone, code.id).await.unwrap();
    }
    assert!(matches!(claim().await, Try::Granted(_)));
    assert!(matches!(claim().await, Try::Exhausted(_)));
}

async fn a_code_takes_the_place_of_the_one_before(store: Arc<dyn AuthStore>) {
    let (phone, old, new) = (phone(), code(), code());
    let until = Timestamp(601_000);
    store.put_code(&phone, Purpose::Reset, &old).await.unwrap();
    assert!(matches!(store.claim_try(&phone, Purpose::Reset, 1, Timestamp(2_000)).await.unwrap(), Try::Granted(_)));
    store.put_code(&phone, Purpose::Reset, &new).await.unwrap();
    let tried = store.claim_try(&phone, Purpose::Reset, 1, Timestamp(2_000)).await.unwrap();
    assert!(matches!(tried, Try::Granted(found) if found.id == new.id), "a new code has tries of its own");
    let advance = async |id, to| store.advance_code(&phone, Purpose::Reset, id, &[CodeState::Fresh], to, until).await.unwrap();
    assert!(!advance(old.id, CodeState::Spent).await, "the old code is no more");
    assert!(advance(new.id, CodeState::Spent).await);
}

async fn a_code_that_was_not_sent_gives_its_place_back(store: Arc<dyn AuthStore>) {
    let (phone, old, new) = (phone(), code(), code());
    let tried = async || store.claim_try(&phone, Purpose::Phone, 5, Timestamp(2_000)).await.unwrap();
    assert_eq!(store.put_code(&phone, Purpose::Phone, &old).await.unwrap(), None);
    // As it was: tried once, and in use.
    assert!(matches!(tried().await, Try::Granted(_)));
    assert!(store.claim_code(&phone, Purpose::Phone, old.id, &[CodeState::Fresh], CodeState::Claimed, [4; 32]).await.unwrap());
    let before = store.put_code(&phone, Purpose::Phone, &new).await.unwrap().unwrap();
    assert_eq!(before, CodeRecord { tries: 1, state: CodeState::Claimed, claim: Some([4; 32]), ..old.clone() });
    store.take_code_back(&phone, Purpose::Phone, new.id, Some(&before)).await.unwrap();
    assert_eq!(tried().await, Try::Granted(before.clone()));
    // Once it is not there any more it gives nothing back.
    store.take_code_back(&phone, Purpose::Phone, new.id, None).await.unwrap();
    assert!(matches!(tried().await, Try::Granted(found) if found.id == old.id));
    store.put_code(&phone, Purpose::Phone, &new).await.unwrap();
    store.take_code_back(&phone, Purpose::Phone, new.id, None).await.unwrap();
    assert_eq!(tried().await, Try::Absent);
    store.put_code(&phone, Purpose::Reset, &new).await.unwrap();
    store.take_code_back(&phone, Purpose::Phone, new.id, Some(&before)).await.unwrap();
    assert_eq!(tried().await, Try::Absent, "the other purpose's");
}

async fn a_code_is_used_up_once(store: Arc<dyn AuthStore>) {
    let (phone, code) = (phone(), code());
    let until = Timestamp(701_000);
    store.put_code(&phone, Purpose::Phone, &code).await.unwrap();
    for (from, to) in [(vec![CodeState::Fresh], CodeState::Verified), (vec![CodeState::Fresh, CodeState::Verified], CodeState::Spent)] {
        let advanced = racing(64, |_| {
            let (store, phone, id, from) = (Arc::clone(&store), phone.clone(), code.id, from.clone());
            async move { store.advance_code(&phone, Purpose::Phone, id, &from, to, until).await.unwrap() }
        })
        .await;
        assert_eq!(advanced.into_iter().filter(|advanced| *advanced).count(), 1, "to {to:?}");
        let tried = store.claim_try(&phone, Purpose::Phone, 5, Timestamp(650_000)).await.unwrap();
        match to {
            CodeState::Verified => assert!(
                matches!(&tried, Try::Granted(found) if found.state == to && found.expires_at == until),
                "a verified code lives until its new end: {tried:?}"
            ),
            _ => assert_eq!(tried, Try::Absent, "a spent code is none"),
        }
    }
}

async fn a_code_is_claimed_for_one_use(store: Arc<dyn AuthStore>) {
    let (phone, code) = (phone(), code());
    store.put_code(&phone, Purpose::Phone, &code).await.unwrap();
    let claim =
        async |id, from: &[CodeState], to, claim: u8| store.claim_code(&phone, Purpose::Phone, id, from, to, [claim; 32]).await.unwrap();
    let fresh = [CodeState::Fresh];
    assert!(!claim(Uuid::new_v4(), &fresh, CodeState::Claimed, 1).await, "another code");
    assert!(!claim(code.id, &[CodeState::Verified], CodeState::Claimed, 1).await, "not in this state");
    for _ in 0..2 {
        assert!(claim(code.id, &fresh, CodeState::Verifying, 1).await, "the same again is the same");
    }
    assert!(!claim(code.id, &fresh, CodeState::Verifying, 2).await);
    // A use that may follow takes it from the one before.
    let claimed = racing(64, |number| {
        let (store, phone, id) = (Arc::clone(&store), phone.clone(), code.id);
        let claim = [3 + (number % 4) as u8; 32];
        async move {
            let from = [CodeState::Fresh, CodeState::Verifying];
            (claim, store.claim_code(&phone, Purpose::Phone, id, &from, CodeState::Claimed, claim).await.unwrap())
        }
    })
    .await;
    let winners: std::collections::HashSet<_> = claimed.iter().filter(|(_, won)| *won).map(|(claim, _)| *claim).collect();
    assert_eq!((winners.len(), claimed.iter().filter(|(_, won)| *won).count()), (1, 16), "one use, however often it is begun");
    let tried = store.claim_try(&phone, Purpose::Phone, 5, Timestamp(2_000)).await.unwrap();
    assert!(matches!(tried, Try::Granted(found) if found.state == CodeState::Claimed));
    let advance =
        async |from| store.advance_code(&phone, Purpose::Phone, code.id, &[from], CodeState::Spent, code.expires_at).await.unwrap();
    assert!(!advance(CodeState::Verifying).await);
    assert!(advance(CodeState::Claimed).await);
    assert!(!claim(code.id, &fresh, CodeState::Claimed, 3).await, "a spent code is none");
    assert_eq!(store.claim_try(&phone, Purpose::Phone, 5, Timestamp(2_000)).await.unwrap(), Try::Absent);
}

async fn a_code_ends(store: Arc<dyn AuthStore>) {
    let (phone, code) = (phone(), code());
    store.put_code(&phone, Purpose::Phone, &code).await.unwrap();
    assert!(matches!(store.claim_try(&phone, Purpose::Phone, 5, Timestamp(600_999)).await.unwrap(), Try::Granted(_)));
    assert_eq!(store.claim_try(&phone, Purpose::Phone, 5, code.expires_at).await.unwrap(), Try::Absent);
}

async fn a_budget_is_spent_up_to_its_limit(store: Arc<dyn AuthStore>) {
    let (budget, other) = (new_phone(), new_phone());
    let (window, now) = (Duration::from_mins(1), Timestamp(1_000_000));
    let spent = racing(64, |_| {
        let (store, budget) = (Arc::clone(&store), budget.clone());
        async move { store.spend(&budget, 10, window, now).await.unwrap() }
    })
    .await;
    assert_eq!(spent.iter().filter(|spent| **spent == Spent::Granted).count(), 10);
    assert_eq!(spent.iter().filter(|spent| **spent == Spent::Refused(now.plus(window))).count(), 54);
    assert_eq!(store.spend(&other, 1, window, now).await.unwrap(), Spent::Granted, "each budget is its own");
    store.return_unit(&budget, now).await.unwrap();
    assert_eq!(store.spend(&budget, 10, window, now).await.unwrap(), Spent::Granted);
    assert!(matches!(store.spend(&budget, 10, window, now).await.unwrap(), Spent::Refused(_)));
    // What was never taken is not given back.
    let fresh = new_phone();
    store.return_unit(&fresh, now).await.unwrap();
    assert_eq!(store.spend(&fresh, 1, window, now).await.unwrap(), Spent::Granted);
    assert!(matches!(store.spend(&fresh, 1, window, now).await.unwrap(), Spent::Refused(_)));
}

async fn no_window_sees_more_than_its_budget(store: Arc<dyn AuthStore>) {
    let (budget, window, begin) = (new_phone(), Duration::from_mins(1), Timestamp(1_000_000));
    let at = |seconds| begin.plus(Duration::from_secs(seconds));
    let spend = async |seconds| store.spend(&budget, 2, window, at(seconds)).await.unwrap();
    assert_eq!(spend(0).await, Spent::Granted);
    assert_eq!(spend(59).await, Spent::Granted);
    assert_eq!(spend(59).await, Spent::Refused(at(60)));
    assert_eq!(spend(60).await, Spent::Granted, "the first one counts no more");
    assert_eq!(spend(61).await, Spent::Refused(at(119)), "the second one still does");
    store.return_unit(&budget, at(61)).await.unwrap();
    assert_eq!(spend(62).await, Spent::Granted, "what was given back is the last one");
    assert_eq!(spend(118).await, Spent::Refused(at(119)));
    assert_eq!(spend(119).await, Spent::Granted);
    assert_eq!(spend(120).await, Spent::Refused(at(122)));
    // A clock that was put back makes no room.
    assert_eq!(spend(10).await, Spent::Refused(at(122)));
    // A budget that nothing counts in any more is as good as new.
    store.return_unit(&budget, at(1_000)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(spend(1_000).await, Spent::Granted);
    }
    assert_eq!(spend(1_000).await, Spent::Refused(at(1_060)));
}

async fn a_login_ticket_has_so_many_tries(store: Arc<dyn AuthStore>) {
    let user = UserId::fresh();
    let claim = async || store.claim_login_ticket(user, 5, Timestamp(2_000)).await.unwrap();
    assert!(!claim().await, "there is none");
    for _ in 0..2 {
        store.open_login_ticket(user, Timestamp(9_000)).await.unwrap();
        let claimed = racing(64, |_| {
            let store = Arc::clone(&store);
            async move { store.claim_login_ticket(user, 5, Timestamp(2_000)).await.unwrap() }
        })
        .await;
        assert_eq!(claimed.into_iter().filter(|claimed| *claimed).count(), 5);
    }
}

async fn a_login_ticket_ends(store: Arc<dyn AuthStore>) {
    let (user, other) = (UserId::fresh(), UserId::fresh());
    for user in [user, other] {
        store.open_login_ticket(user, Timestamp(9_000)).await.unwrap();
    }
    assert!(store.claim_login_ticket(user, 5, Timestamp(8_999)).await.unwrap());
    assert!(!store.claim_login_ticket(user, 5, Timestamp(9_000)).await.unwrap());
    for _ in 0..2 {
        store.close_login_ticket(user).await.unwrap();
    }
    assert!(!store.claim_login_ticket(user, 5, Timestamp(2_000)).await.unwrap());
    assert!(store.claim_login_ticket(other, 5, Timestamp(2_000)).await.unwrap());
}

/// A hash that no other test uses.
fn ticket() -> [u8; 32] {
    rand::random()
}

async fn a_socket_ticket_is_taken_once(store: Arc<dyn AuthStore>) {
    let (hash, user, session) = (ticket(), UserId::fresh(), SessionId::fresh());
    store.put_socket_ticket(hash, user, session, Timestamp(9_000), Timestamp(1_000)).await.unwrap();
    let taken = racing(64, |_| {
        let store = Arc::clone(&store);
        async move { store.take_socket_ticket(hash, Timestamp(2_000)).await.unwrap() }
    })
    .await;
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(taken, [(user, session)], "one caller gets it");
}

async fn a_socket_ticket_ends(store: Arc<dyn AuthStore>) {
    let (hash, user, session) = (ticket(), UserId::fresh(), SessionId::fresh());
    store.put_socket_ticket(hash, user, session, Timestamp(9_000), Timestamp(1_000)).await.unwrap();
    assert_eq!(store.take_socket_ticket(hash, Timestamp(9_000)).await.unwrap(), None);
    assert_eq!(store.take_socket_ticket(hash, Timestamp(1_000)).await.unwrap(), None, "a ticket that was shown late is spent too");
    assert_eq!(store.take_socket_ticket(ticket(), Timestamp(1_000)).await.unwrap(), None);
}
