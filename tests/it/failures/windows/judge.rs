//! Compares what somebody saw of a log with the parts of it that were his.

use std::ops::RangeInclusive;

use super::{Read, Row, Synced};
use crate::failures::tally::Tally;

/// What stands in the log from and to which rows he was a member; of the last window there is no end.
pub fn windows(log: &[Row]) -> Vec<RangeInclusive<i64>> {
    let (mut windows, mut begin) = (Vec::new(), Some(1));
    for row in log.iter().filter(|row| row.is_system) {
        if row.content.contains("added") {
            assert!(begin.replace(row.seq).is_none(), "he was added twice");
        } else {
            windows.push(begin.take().expect("he went twice")..=row.seq);
        }
    }
    windows.extend(begin.map(|begin| begin..=i64::MAX));
    windows
}

/// The rows of the log in here, with those of the system or without them.
pub fn part(log: &[Row], range: &RangeInclusive<i64>, with_system: bool) -> Vec<Row> {
    log.iter().filter(|row| range.contains(&row.seq) && (with_system || !row.is_system)).cloned().collect()
}

/// The same, told short when it differs.
pub fn assert_same(what: &str, saw: &[Row], expected: &[Row]) {
    let differs = (0..saw.len().max(expected.len())).find(|n| saw.get(*n) != expected.get(*n));
    if let Some(n) = differs {
        let around =
            |rows: &[Row]| rows.iter().skip(n.saturating_sub(2)).take(5).map(|row| (row.seq, row.content.clone())).collect::<Vec<_>>();
        panic!("{what}: {} rows instead of {}; saw {:?} where {:?} was", saw.len(), expected.len(), around(saw), around(expected));
    }
}

/// A device that syncs has, of everything up to `upTo`, what it did not know and may see.
pub fn judge_syncs(syncs: &[Synced], log: &[Row], windows: &[RangeInclusive<i64>], tally: &mut Tally) {
    for (n, one) in syncs.iter().enumerate() {
        let what = format!("sync {n}, which knew {:?} and cleared {}, up to {}", one.known, one.cleared, one.up_to);
        let window = windows.iter().find(|window| *window.start() == one.cleared + 1 || one.cleared == 0 && *window.start() == 1);
        let window = window.unwrap_or_else(|| panic!("{what}: no window begins there"));
        if let (Some(last), Some(first)) = (one.rows.last(), one.rows.first()) {
            assert!(window.contains(&first.seq) && window.contains(&last.seq), "{what}: {:?}", one.rows);
        }
        assert!(one.state == "ACTIVE" || one.up_to <= *window.end(), "{what}: he is out and knows more");
        let from = one.known.unwrap_or(0).max(one.cleared) + 1;
        let expected = part(log, &(from..=one.up_to), true);
        let newest = if one.known.is_some() { 0 } else { expected.len().saturating_sub(50) };
        tally.resumed(&what, &expected[newest..], &one.rows);
    }
}

/// While he was in he read all that had been acknowledged, and neither read nor found anything else.
pub fn judge_looks(looks: &[(usize, Vec<Read>)], log: &[Row], windows: &[RangeInclusive<i64>]) {
    for (window, Read { how, acknowledged, rows }) in looks.iter().flat_map(|(window, reads)| reads.iter().map(move |read| (*window, read)))
    {
        let (window, upto) = (&windows[window], rows.last().map_or(0, |row| row.seq));
        assert!(upto >= (*acknowledged).min(*window.end()), "{how}: row {acknowledged} was acknowledged, and he reads up to {upto}");
        if *how == "history" {
            assert_same(how, rows, &part(log, &(*window.start()..=upto.min(*window.end())), true));
        }
        let mut within = part(log, window, true).into_iter();
        assert!(rows.iter().all(|row| within.any(|other| other == *row)), "{how} within {window:?}: {rows:?}");
    }
}
