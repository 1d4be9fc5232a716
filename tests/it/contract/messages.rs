//! The promises of `messages::MessageStore`: stars, what people hid, and the words of the search.

use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::{ConversationId, UserId};
use urge::messages::{MessageStore, RowWords, Star, TermMatch};

use super::{ORDERS, racing};

promises!(
    urge::messages::MessageStatements;
    stars_are_their_owners_and_keep_their_time,
    stars_are_in_the_order_of_their_ids,
    hidden_rows_are_read_by_range_and_counted,
    words_are_found_whole_or_by_their_beginning,
    a_row_is_found_by_its_words_of_now,
    words_of_racing_writers_are_all_there,
    of_racing_versions_of_a_row_the_latest_stands,
);

async fn stars_are_their_owners_and_keep_their_time(store: Arc<dyn MessageStore>) {
    let (user, conversation) = (UserId::fresh(), ConversationId::fresh());
    let star = |seq, at| Star { conversation_id: conversation, seq, starred_at: Timestamp(at) };
    for (seq, at) in [(5, 1), (3, 2), (9, 3), (5, 4)] {
        store.put_star(user, &star(seq, at)).await.unwrap();
    }
    assert_eq!(store.stars(user, 10).await.unwrap(), [star(3, 2), star(5, 1), star(9, 3)]);
    assert_eq!(store.stars(user, 2).await.unwrap(), [star(3, 2), star(5, 1)]);
    assert_eq!(store.stars_in(user, conversation, 3, 5).await.unwrap(), [3, 5]);
    assert!(store.stars_in(user, ConversationId::fresh(), 0, 99).await.unwrap().is_empty());
    assert!(store.stars(UserId::fresh(), 10).await.unwrap().is_empty());
    for _ in 0..2 {
        store.remove_star(user, conversation, 5).await.unwrap();
    }
    assert_eq!(store.stars_in(user, conversation, 0, 99).await.unwrap(), [3, 9]);
    store.put_star(user, &star(5, 8)).await.unwrap();
    assert_eq!(store.stars(user, 10).await.unwrap(), [star(3, 2), star(5, 8), star(9, 3)], "a new star has a new time");
}

async fn stars_are_in_the_order_of_their_ids(store: Arc<dyn MessageStore>) {
    let user = UserId::fresh();
    // Groups and DIRECT conversations have ids of different kinds.
    let mut conversations: Vec<_> = (0..8).map(|_| ConversationId::fresh()).collect();
    conversations.extend((0..8).map(|_| ConversationId::direct(user, UserId::fresh())));
    let mut stars = Vec::new();
    for seq in [300, 2] {
        for conversation_id in &conversations {
            let star = Star { conversation_id: *conversation_id, seq, starred_at: Timestamp(seq) };
            store.put_star(user, &star).await.unwrap();
            stars.push(star);
        }
    }
    stars.sort_unstable_by_key(|star| (star.conversation_id, star.seq));
    assert_eq!(store.stars(user, 100).await.unwrap(), stars);
    assert_eq!(store.stars(user, 9).await.unwrap(), stars[..9]);
}

async fn hidden_rows_are_read_by_range_and_counted(store: Arc<dyn MessageStore>) {
    let (user, conversation) = (UserId::fresh(), ConversationId::fresh());
    for seq in [4, 2, 8, 4] {
        store.put_hidden(user, conversation, seq, seq != 2).await.unwrap();
    }
    assert_eq!(store.hidden_in(user, conversation, 2, 8).await.unwrap(), [2, 4, 8]);
    assert_eq!(store.hidden_in(user, conversation, 3, 7).await.unwrap(), [4]);
    assert_eq!(store.hidden_count(user, conversation, 0).await.unwrap(), 3);
    assert_eq!(store.hidden_count(user, conversation, 4).await.unwrap(), 1);
    for (from, to, counted) in [(0, 99, 2), (2, 4, 1), (2, 3, 0), (4, 4, 1), (5, 7, 0), (8, 2, 0)] {
        assert_eq!(store.hidden_unread(user, conversation, from, to).await.unwrap(), counted, "{from} to {to}");
    }
    for (who, what) in [(UserId::fresh(), conversation), (user, ConversationId::fresh())] {
        assert!(store.hidden_in(who, what, 0, 99).await.unwrap().is_empty());
        assert_eq!(store.hidden_count(who, what, 0).await.unwrap(), 0);
        assert_eq!(store.hidden_unread(who, what, 0, 99).await.unwrap(), 0);
    }
}

fn row(seq: i64, version: i64, words: &[&str]) -> RowWords {
    RowWords { seq, version, words: words.iter().map(|word| (*word).to_owned()).collect() }
}

async fn words_are_found_whole_or_by_their_beginning(store: Arc<dyn MessageStore>) {
    let conversation = ConversationId::fresh();
    let rows = [row(2, 0, &["fox"]), row(3, 0, &["foxes"]), row(7, 0, &["fox", "foxes", "dog"]), row(8, 0, &["été"]), row(9, 0, &["fox1"])];
    for _ in 0..2 {
        store.put_words(conversation, 0, &rows).await.unwrap();
    }
    store.put_words(conversation, 1, &[row(16_384, 0, &["fox"])]).await.unwrap();
    store.put_words(ConversationId::fresh(), 0, &[row(5, 0, &["fox"])]).await.unwrap();
    let find = async |wanted, before, limit| store.term_rows(conversation, 0, &wanted, before, limit).await.unwrap();
    let (word, prefix) = (|text: &str| TermMatch::Word(text.to_owned()), |text: &str| TermMatch::Prefix(text.to_owned()));
    assert_eq!(find(word("fox"), 100, 10).await, Some(vec![7, 2]));
    assert_eq!(find(word("fox"), 7, 10).await, Some(vec![2]));
    assert_eq!(find(word("fo"), 100, 10).await, Some(Vec::new()));
    assert_eq!(find(prefix("fo"), 100, 10).await, Some(vec![9, 7, 3, 2]), "each row once");
    assert_eq!(find(prefix("fo"), 7, 10).await, Some(vec![3, 2]));
    assert_eq!(find(prefix("fox1"), 100, 10).await, Some(vec![9]));
    assert_eq!(find(prefix("1"), 100, 10).await, Some(Vec::new()));
    assert_eq!(find(prefix("é"), 100, 10).await, Some(vec![8]));
    assert_eq!(find(prefix("fo"), 100, 3).await, None, "too many to be worth it");
    assert_eq!(find(word("fox"), 100, 1).await, None);
    assert_eq!(store.term_rows(conversation, 1, &word("fox"), 99_999, 10).await.unwrap(), Some(vec![16_384]));
}

async fn a_row_is_found_by_its_words_of_now(store: Arc<dyn MessageStore>) {
    for order in ORDERS {
        let conversation = ConversationId::fresh();
        store.put_words(conversation, 0, &[row(3, 0, &["fox", "quick"]), row(4, 0, &["fox"])]).await.unwrap();
        let find = async |word: &str| store.term_rows(conversation, 0, &TermMatch::Word(word.to_owned()), 100, 10).await.unwrap().unwrap();
        let mut latest = 0;
        for at in order {
            // Edited twice, then deleted; what was read earlier may come later.
            let (version, words): (_, &[&str]) = [(1, &["quick", "dog"][..]), (2, &["slow", "dog"]), (3, &[])][at];
            latest = latest.max(version);
            store.put_words(conversation, 0, &[row(3, version, words)]).await.unwrap();
            let stands: &[&str] = [&["quick", "dog"][..], &["slow", "dog"], &[]][latest as usize - 1];
            for word in ["quick", "slow", "dog"] {
                assert_eq!(find(word).await == [3], stands.contains(&word), "{word} after version {latest}");
            }
            assert_eq!(find("fox").await, [4], "other rows keep their words");
        }
    }
}

async fn words_of_racing_writers_are_all_there(store: Arc<dyn MessageStore>) {
    let conversation = ConversationId::fresh();
    racing(32, |number| {
        let store = Arc::clone(&store);
        // Each row comes from two writers.
        let rows = [row(1 + number as i64 / 2, 0, &["same", "other"])];
        async move { store.put_words(conversation, 0, &rows).await.unwrap() }
    })
    .await;
    let found = store.term_rows(conversation, 0, &TermMatch::Word("same".into()), 100, 100).await.unwrap();
    assert_eq!(found, Some((1..=16).rev().collect()));
}

async fn of_racing_versions_of_a_row_the_latest_stands(store: Arc<dyn MessageStore>) {
    for _ in 0..8 {
        let conversation = ConversationId::fresh();
        racing(16, |number| {
            let store = Arc::clone(&store);
            // Each version says a word of its own, one that it shares with its neighbour, and one that all say.
            let version = number as i64 / 2;
            let words = [format!("own{version}"), format!("pair{}", version / 2), "all".to_owned()];
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let rows = [row(3, version, &words), row(4, 0, &["all"])];
            async move { store.put_words(conversation, 0, &rows).await.unwrap() }
        })
        .await;
        let find = async |wanted| store.term_rows(conversation, 0, &wanted, 100, 100).await.unwrap().unwrap();
        for version in 0..8 {
            let stands = version == 7;
            assert_eq!(find(TermMatch::Word(format!("own{version}"))).await == [3], stands, "the word of version {version}");
        }
        for pair in 0..4 {
            assert_eq!(find(TermMatch::Word(format!("pair{pair}"))).await == [3], pair == 3, "the word of pair {pair}");
        }
        assert_eq!(find(TermMatch::Word("all".into())).await, [4, 3]);
    }
}
