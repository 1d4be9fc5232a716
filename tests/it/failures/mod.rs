//! Whatever dies: real nodes on real servers, killed, paused, cut off, with clocks that are wrong, while people write. What they sent
//! and saw is judged by [`loadtest::verify`]: nothing that was acknowledged is lost, nothing comes twice or out of order. The short
//! form of each case runs with all tests; `URGE_TEST_FAILURES=long` makes it minutes, with several seeds.
