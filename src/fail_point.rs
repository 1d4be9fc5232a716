//! Places at which a test ends or holds the process, to see what the others make of what it leaves half done. Compiled in with
//! the feature `fail-points` alone, which nothing but this package's own tests turns on: elsewhere a place is nothing.
//! `URGE_TEST_FAIL_POINT` names one and what happens there: `append.located=kill`, `append.inserted=stop@3` the third time, or
//! `append.inserted=slow`, which takes 1.5 s, as a store might.

/// The process has come to this place.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub fn reached(_place: &str) {}

#[cfg(feature = "fail-points")]
pub use self::armed::reached;

#[cfg(feature = "fail-points")]
mod armed {
    use std::process::{Command, Stdio};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    /// As long as a store may take whose client has not given up yet.
    const SLOW: Duration = Duration::from_millis(1_500);

    /// What is to happen where.
    struct Armed {
        place: String,
        /// Nothing if it is to be slow.
        signal: &'static str,
        /// How often it must still be reached before it happens.
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| std::env::var("URGE_TEST_FAIL_POINT").ok().as_deref().and_then(parse));

    /// The process has come to this place.
    pub fn reached(place: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.place == place) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if armed.signal.is_empty() {
            return thread::sleep(SLOW);
        }
        // From outside, as a crash comes: no destructor runs, nothing is flushed.
        let pid = std::process::id().to_string();
        let _ = Command::new("kill").args([armed.signal, &pid]).stdin(Stdio::null()).status();
        if armed.signal == "-KILL" {
            loop {
                thread::park();
            }
        }
        // The signal may reach this thread a moment later than its sender ends.
        thread::sleep(Duration::from_millis(50));
    }

    fn parse(text: &str) -> Option<Armed> {
        let (place, what) = text.split_once('=')?;
        let (what, nth) = what.split_once('@').unwrap_or((what, "1"));
        let signal = match what {
            "kill" => "-KILL",
            "stop" => "-STOP",
            "slow" => "",
            _ => return None,
        };
        Some(Armed { place: place.to_owned(), signal, left: AtomicU32::new(nth.parse().ok()?) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_is_named_with_what_happens_there() {
            let read = |text| parse(text).map(|armed| (armed.place, armed.signal, armed.left.into_inner()));
            assert_eq!(read("append.located=kill"), Some(("append.located".to_owned(), "-KILL", 1)));
            assert_eq!(read("append.inserted=stop@3"), Some(("append.inserted".to_owned(), "-STOP", 3)));
            assert_eq!(read("append.inserted=slow"), Some(("append.inserted".to_owned(), "", 1)));
            assert_eq!([read("append.located"), read("a=b"), read("a=stop@x")], [None, None, None]);
        }
    }
}
