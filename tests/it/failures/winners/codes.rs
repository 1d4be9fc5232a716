//! One-time codes: guesses are counted across nodes, the right one is used once, whoever else tries at the same moment. Of what a busy
//! store answered 503 nobody knows whether it was done: then nobody has won, and another code is asked for.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Four, Race};
use crate::failures::{report, unless_busy};
use crate::support::{PASSWORD, PATIENCE, World};

/// Who guesses a code at once.
const GUESSES: usize = 100;
/// How often the right code is among them.
const RIGHT_GUESSES: usize = 8;
/// Wrong tries that a code, and a number in a day, stand.
const TRIES: (usize, usize) = (5, 15);

/// The number of somebody who has just come, with a password; another one, should it be uncertain whether he has.
async fn newcomer(four: &Four) -> String {
    let comes = async || {
        let phone = World::new_phone();
        four.rest(0).register_with_password(&phone, "Newcomer", PASSWORD).await.map(|_| phone)
    };
    unless_busy(comes).await
}

pub async fn guesses_are_counted(four: &Four) {
    let (phone, mut wrong, mut busy) = (newcomer(four).await, 0, 0);
    for round in 0..4 {
        let code = four.send_code(round, "/auth/send-code", &phone).await;
        let right: usize = code.parse().unwrap();
        let guess = |n: usize| json!({"phone_number": phone, "code": format!("{:06}", (right + 1 + n) % 1_000_000)});
        let race = four.race(GUESSES, "/auth/verify-phone", guess).await;
        race.lost_with(&[400]);
        assert_eq!(race.won.len(), 0);
        let (compared, uncertain) = (race.with(400), race.with(503));
        (wrong, busy) = (wrong + compared, busy + uncertain);
        assert!(compared <= TRIES.0 && wrong <= TRIES.1, "{compared} of {wrong} guesses were compared");
        // Nobody loses tries beside those that a busy store may have counted twice: there it is not known whether they were counted.
        let left = if round < 3 { TRIES.0 } else { 0 };
        assert!(uncertain > 0 || compared + 2 >= left, "round {round}: {compared} guesses were compared");
        // The right one comes too late, wherever.
        let late = four.race(4, "/auth/verify-phone", |_| json!({"phone_number": phone, "code": code})).await;
        assert_eq!((late.won.len(), late.with(400)), (0, 0), "{late:?}");
    }
    assert!(wrong > 0, "no guess was compared: {busy} were answered 503");
    report("10 winners, guesses", format!("4 codes guessed {GUESSES} times at once, {wrong} compared; {busy} answered 503"));
}

/// Among others that are wrong and come at the same moment, the right guess is one of the few that are compared, and then it wins once,
/// or it is not, like most of them. It is made once, or by every fifth, and each time for another number: tries are counted by the day.
pub async fn the_right_guess_wins_once_or_is_not_compared(four: &Four) {
    let (mut rounds, mut won, mut busy, mut wrong) = (0, 0, 0, 0);
    while rounds < RIGHT_GUESSES || won == 0 {
        assert!(rounds < 5 * RIGHT_GUESSES, "the right guess never wins; {busy} guesses were answered 503");
        let phone = newcomer(four).await;
        let code = four.send_code(rounds % 4, "/auth/send-code", &phone).await;
        let right: usize = code.parse().unwrap();
        // Alone it is among the first, or it would hardly ever be compared.
        let is_right = |n: usize| if rounds % 2 == 0 { n == rounds / 2 % 4 } else { n.is_multiple_of(5) };
        let guess = |n: usize| if is_right(n) { code.clone() } else { format!("{:06}", (right + 1 + n) % 1_000_000) };
        let (mut rightly, mut wrongly) = (Race::default(), Race::default());
        for (n, answer) in
            four.answers(GUESSES, "/auth/verify-phone", |n| json!({"phone_number": phone, "code": guess(n)})).await.enumerate()
        {
            (if is_right(n) { &mut rightly } else { &mut wrongly }).ends(answer);
        }
        rightly.lost_with(&[400]);
        wrongly.lost_with(&[400]);
        // A verified code lives on for its login: whatever is answered 400 was compared.
        assert!(wrongly.won.is_empty() && wrongly.with(400) <= TRIES.0, "wrong guesses: {wrongly:?}");
        let (winners, beaten, uncertain) = (rightly.won.len(), rightly.with(400), rightly.with(503));
        assert!(winners <= 1, "it has won {winners} times");
        assert!(winners == 1 || beaten == 0 || uncertain > 0, "the right guess was compared and has not won: {rightly:?}");
        (won, busy, wrong) = (won + winners, busy + uncertain + wrongly.with(503), wrong + wrongly.with(400));
        if winners == 1 {
            let again = four.race(4, "/auth/verify-phone", |_| json!({"phone_number": phone, "code": code})).await;
            again.lost_with(&[400]);
            assert!(again.won.is_empty(), "it has won twice: {again:?}");
        }
        rounds += 1;
    }
    report(
        "10 winners, the right guess",
        format!(
            "{rounds} codes, each among {GUESSES} guesses at once: {won} won, once each; {wrong} wrong ones compared; {busy} answered 503"
        ),
    );
}

/// A right code verifies once, and is then good for one login.
pub async fn codes_are_used_once(four: &Four) {
    let (mut codes, mut used, mut busy_in_all, mut exhausted) = (0, 0, 0, 0);
    'codes: while used < 5 {
        assert!(codes < 15, "a right code hardly ever wins: {busy_in_all} were answered 503");
        let mut busy = 0;
        let phone = newcomer(four).await;
        let code = four.send_code(codes % 4, "/auth/send-code", &phone).await;
        codes += 1;
        let mut token = Value::Null;
        for (path, name, refusal) in [("/auth/verify-phone", "code", 400), ("/auth/login", "verification_code", 401)] {
            let (mut won, mut uncertain) = (0, 0);
            let began = Instant::now();
            // Too many at once use up the tries among themselves, which come back: then who comes next wins.
            while won == 0 {
                let race = four.race(40, path, |_| json!({"phone_number": phone, name: code})).await;
                race.lost_with(&[refusal]);
                (won, uncertain, busy) = (won + race.won.len(), uncertain + race.with(503), busy + race.with(503));
                (busy_in_all, exhausted) = (busy_in_all + race.with(503), exhausted + race.with(429));
                assert!(won <= 1, "{path}: {won} have won, {race:?}");
                let may_win = race.with(429) + race.with(503) > 0 && began.elapsed() < PATIENCE;
                if won == 0 && !may_win {
                    // Who was answered 503 may have used it up, or its tries: who wants in asks for another one.
                    assert!(uncertain > 0, "{path}: nobody wins, {race:?}");
                    continue 'codes;
                }
                if let Some(winner) = race.won.first() {
                    token = winner["access_token"].clone();
                }
            }
        }
        let late = four.race(4, "/auth/login", |_| json!({"phone_number": phone, "verification_code": code})).await;
        late.lost_with(&[401]);
        assert!(late.won.is_empty() && late.with(401) > 0, "{late:?}");
        // Of a login that was answered 503 nobody has the token; it may stand in the list.
        let rest = four.rest(1).with_token(token.as_str().unwrap());
        let sessions = unless_busy(async || rest.get("/auth/sessions").await).await;
        let sessions = sessions["sessions"].as_array().unwrap();
        let wanted = 2..=2 + busy;
        assert!(
            wanted.contains(&sessions.len()),
            "who verified and who logged in, and nobody else: {sessions:?}; {busy} were answered 503"
        );
        used += 1;
    }
    let figures = format!("{used} codes of {codes} used 80 times at once, each twice in all; {exhausted} answered 429, {busy_in_all} 503");
    report("10 winners, codes", figures);
}

pub async fn passwords_are_reset_once(four: &Four) {
    let password = |n: usize| format!("another password {n}");
    let mut codes = 0;
    let phone = 'won: loop {
        assert!(codes < 5, "a right code hardly ever wins");
        codes += 1;
        let phone = newcomer(four).await;
        let code = four.send_code(2, "/auth/forgot-password", &phone).await;
        let command = |n| json!({"phone_number": phone, "code": code, "new_password": password(n)});
        let (mut uncertain, began) = (0, Instant::now());
        loop {
            let race = four.race(8, "/auth/reset-password", command).await;
            race.lost_with(&[400]);
            uncertain += race.with(503);
            assert!(race.won.len() <= 1 && race.won.len() + uncertain > 0, "{race:?}");
            if race.won.len() == 1 {
                break 'won phone;
            }
            // Who was answered 503 has used it up.
            if race.with(503) == 0 || began.elapsed() > PATIENCE {
                break;
            }
        }
    };
    // Whether it lets him in, once the store says so.
    let lets_in = async |n: usize, password: String| {
        let login = unless_busy(async || match four.rest(n).login(&phone, &password).await {
            Err(error) if error.status() == 401 => Ok(false),
            login => login.map(|_| true),
        });
        login.await
    };
    let good = join_all((0..8).map(|n| lets_in(n, password(n)))).await;
    assert_eq!(good.into_iter().filter(|good| *good).count(), 1, "one password holds");
    assert!(!lets_in(3, PASSWORD.to_owned()).await, "the old password holds");
    report("10 winners, passwords", "8 new passwords at once with one code, one holds");
}
